"""Rows in groups with weights of their own: sorted by group once, then one product for each group.

What mixtures share: the experts of a router (arXiv 1701.06538), the modalities of tokens (arXiv 2501.16295).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from mambasdk import ops


@dataclass(frozen=True)
class Groups:
    """Which group each of T rows is in, for any number of products over these rows.

    ids: (T) integers below `count`. sizes: rows of each group. order: (T) int64, the row at each sorted place; back:
    the sorted place of each row; both None where all rows are in one group. In a traced program, whose sizes must not
    depend on the groups, `sizes` is None, nothing is sorted, and the SDK's operation `grouped_linear` does the rest.
    """

    ids: Tensor
    count: int
    sizes: tuple[int, ...] | None = None
    order: Tensor | None = None
    back: Tensor | None = None

    @classmethod
    def of(cls, ids: Tensor, count: int) -> Groups:
        """The groups of rows by their ids (T), which the caller has checked; one look at them from the host."""
        if torch.compiler.is_compiling() or torch.compiler.is_exporting():
            return cls(ids.to(torch.int32), count)
        sizes = tuple(torch.bincount(ids, minlength=count).tolist())
        if max(sizes, default=0) == ids.numel():
            return cls(ids, count, sizes)
        order = ids.argsort(stable=True)
        back = torch.empty_like(order).scatter_(0, order, torch.arange(order.numel(), device=order.device))
        return cls(ids, count, sizes, order, back)

    @property
    def only(self) -> int | None:
        """The group of all rows, where it is known to be one alone; 0 where there are no rows."""
        if self.sizes is None or self.order is not None:
            return None
        return next((group for group, size in enumerate(self.sizes) if size), 0)

    def sort(self, x: Tensor, repeats: int = 1) -> Tensor:
        """Rows x (T, …) by group. repeats: row r of the groups is row r // repeats of x (T / repeats, …)."""
        if self.order is not None and self.back is not None:
            return _permuted(x, self.order, self.back) if repeats == 1 else x.index_select(0, self.order // repeats)
        return x if repeats == 1 else x.unsqueeze(1).expand(-1, repeats, *x.shape[1:]).flatten(0, 1)

    def restore(self, y: Tensor) -> Tensor:
        """Sorted rows (T, …) in the order that the groups were made of."""
        return y if self.order is None or self.back is None else _permuted(y, self.back, self.order)

    def linear(
        self,
        x: Tensor,  # (T, I), sorted
        weights: Tensor | Sequence[Tensor],  # (G, O, I), or G of (O, I)
        biases: Tensor | Sequence[Tensor] | None = None,  # (G, O), or G of (O)
    ) -> Tensor:
        """(T, O), sorted: each row by the weights of its group. Weights of groups without rows have zero gradients.

        A bias in another dtype than what the weights make (autocast, biases kept in float32) is added in its own.
        """
        if self.sizes is None:
            return self._traced(x, weights, biases)
        each = _apart(weights)
        bias: Sequence[Tensor | None] = [None] * self.count if biases is None else _apart(biases)
        if (group := self.only) is not None:
            y = _linear(x, each[group], bias[group])
        else:
            parts = x.split(self.sizes)
            y = torch.cat([_linear(parts[g], each[g], bias[g]) for g, size in enumerate(self.sizes) if size])
        # One tensor for all groups has a gradient anyway.
        return self.touch(y, *(t for t in (weights, biases) if t is not None and not isinstance(t, Tensor)))

    def touch(self, y: Tensor, *of_groups: Sequence[Tensor]) -> Tensor:
        """Y; those of the tensors, one for each group, whose group has no rows get gradients of zero, as distributed
        training needs them, and not none.
        """
        if self.sizes is None or not torch.is_grad_enabled():
            return y
        absent = [g for g, size in enumerate(self.sizes) if not size and g != self.only]
        idle = [tensors[g] for tensors in of_groups for g in absent if tensors[g].requires_grad]
        touch: Any = _Touch.apply
        touched: Tensor = touch(y, *idle) if idle else y
        return touched

    def _traced(
        self, x: Tensor, weights: Tensor | Sequence[Tensor], biases: Tensor | Sequence[Tensor] | None
    ) -> Tensor:
        weight, bias = _stacked(weights), None if biases is None else _stacked(biases)
        beside = bias is not None and bias.dtype != weight.dtype
        y = ops.call("grouped_linear", x=x, weight=weight, group=self.ids, bias=None if beside else bias)
        assert isinstance(y, Tensor)
        return y if bias is None or not beside else y.to(bias.dtype) + bias.index_select(0, self.ids)


def _apart(tensors: Tensor | Sequence[Tensor]) -> Sequence[Tensor]:
    return tensors.unbind(0) if isinstance(tensors, Tensor) else tensors


def _stacked(tensors: Tensor | Sequence[Tensor]) -> Tensor:
    return tensors if isinstance(tensors, Tensor) else torch.stack(list(tensors))


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if bias is None or (bias.dtype == weight.dtype and not torch.is_autocast_enabled(x.device.type)):
        return functional.linear(x, weight, bias)
    y = functional.linear(x, weight)
    return y.to(torch.promote_types(y.dtype, bias.dtype)) + bias


class _Permutation(torch.autograd.Function):
    """Rows in another order; the gradient goes the way back, where that of `index_select` would add row by row."""

    @staticmethod
    def forward(x: Tensor, order: Tensor, back: Tensor) -> Tensor:
        return x.index_select(0, order)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        order, back = ctx.saved_tensors
        return _permuted(grad, back, order), None, None


def _permuted(x: Tensor, order: Tensor, back: Tensor) -> Tensor:
    apply: Any = _Permutation.apply
    y: Tensor = apply(x, order, back)
    return y


class _Touch(torch.autograd.Function):
    """Its first argument; the others get gradients of zero."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, *idle: Tensor) -> Tensor:
        ctx.save_for_backward(*idle)
        return y.view_as(y)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        return grad, *(torch.zeros_like(tensor) for tensor in ctx.saved_tensors)
