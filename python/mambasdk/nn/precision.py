"""Parameters with rules: some stay float32 in any model, some take no weight decay, some no re-initialisation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn


class MarkedParameters(nn.Module):
    """Mixin for a module whose own parameters need rules, by name.

    float32: stay float32 through `.to(bfloat16)` and `.half()`, and are raised to it when loaded from a narrower
        checkpoint; `.double()` makes them float64. Mark `_keep_float32`.
    no_weight_decay: `parameter_groups` gives them none. Mark `_no_weight_decay`.
    no_reinit: mark `_no_reinit`, for generic passes that zero every bias.
    These declarations of the class are the rules. The marks repeat them on the parameters, for code that sees no
    module, and survive what replaces a parameter object: `to_empty`, `load_state_dict(assign=True)`, `copy.deepcopy`,
    pickling. Where a wrapper puts in other objects (FSDP, parametrizations) only the class knows.
    """

    float32: tuple[str, ...] = ()
    no_weight_decay: tuple[str, ...] = ()
    no_reinit: tuple[str, ...] = ()

    def mark_parameters(self) -> None:
        """Set the marks on the parameters as they are now."""
        for mark, names in (
            ("_keep_float32", self.float32),
            ("_no_weight_decay", self.no_weight_decay),
            ("_no_reinit", self.no_reinit),
        ):
            for parameter in own_parameters(self, names):
                setattr(parameter, mark, True)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self.mark_parameters()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        kept = {id(parameter) for parameter in own_parameters(self, self.float32)}

        def apply(tensor: Tensor) -> Tensor:
            changed = fn(tensor)
            if id(tensor) in kept and changed.is_floating_point() and changed.dtype.itemsize < 4:
                # From the original, not from `changed`: the bits are lost there.
                return tensor.to(device=changed.device, dtype=max(tensor.dtype, torch.float32, key=_width))
            return changed

        result = super()._apply(apply, recurse)  # type: ignore[no-untyped-call]
        self.mark_parameters()
        return result

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        for name in self.float32:
            parameter = self._parameters.get(name)
            if parameter is not None and parameter.dtype.itemsize < 4:
                parameter.data = parameter.data.float()
        self.mark_parameters()


def own_parameters(module: nn.Module, names: Iterable[str]) -> Iterator[nn.Parameter]:
    """The module's own parameters of these names; of a parametrized one those that it is computed from."""
    parametrized = module._modules.get("parametrizations")
    for name in names:
        parameter = module._parameters.get(name)
        if parameter is not None:
            yield parameter
        elif isinstance(parametrized, nn.ModuleDict) and name in parametrized:
            for original in parametrized[name]._parameters.values():
                if original is not None:
                    yield original


def _width(dtype: torch.dtype) -> int:
    return dtype.itemsize


def accumulate_dtype(tensor: Tensor) -> Tensor:
    """`tensor` in the dtype that scans accumulate in: float64 stays, everything else becomes float32."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def scaled(x: Tensor, multiplier: float) -> Tensor:
    """`multiplier * x`; x itself where that changes nothing."""
    return x if multiplier == 1.0 else x * multiplier
