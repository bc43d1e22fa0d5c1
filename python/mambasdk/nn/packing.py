"""Masked batches as packed sequences: a position without a token is not there, for any mask and every mixer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mambasdk.errors import ShapeError
from mambasdk.nn.state import map_layer


@dataclass(frozen=True)
class Packing:
    """How the tokens of a batch (B, L) lie one after another in a batch of one, row by row.

    mask: (B, L) bool. positions: (total) int64, where each packed token stands in the flattened batch.
    cu_seqlens: int32 offsets of the S sequences in it, S+1 of them; S+2 in a traced program, whose sizes must not
    depend on the mask: there the padding follows as one more sequence, of zeros, and nothing of it comes back.
    """

    mask: Tensor
    positions: Tensor
    cu_seqlens: Tensor
    traced: bool

    @classmethod
    def of(cls, mask: Tensor | None, x: Tensor, where: str, cu_seqlens: Tensor | None = None) -> Packing | None:
        """The packing of x (B, L, …) under a mask (B, L), or None where every position has a token.

        cu_seqlens: x is packed already, with batch 1; its sequences lose the positions that the mask leaves out.
        Raises ShapeError.
        """
        if mask is None:
            return None
        if mask.shape != x.shape[:2]:
            raise ShapeError("bad mask", where=where, expected=tuple(x.shape[:2]), got=tuple(mask.shape))
        mask = mask != 0
        present = mask.flatten()  # (B*L)
        traced = torch.compiler.is_compiling() or torch.compiler.is_exporting()
        if not traced and bool(present.all()):
            return None
        before = torch.nn.functional.pad(present.cumsum(0), (1, 0))  # (B*L+1): tokens before each position
        if cu_seqlens is None:
            ends = torch.arange(mask.shape[0] + 1, device=mask.device) * mask.shape[1]
        else:
            ends = cu_seqlens.to(torch.int64)
        offsets = before.index_select(0, ends)
        if traced:
            positions = torch.argsort((~present).to(torch.uint8), stable=True)
            offsets = torch.cat([offsets, offsets.new_full((1,), mask.numel())])
        else:
            positions = present.nonzero().squeeze(1)
        return cls(mask, positions, offsets.to(torch.int32), traced)

    @property
    def lengths(self) -> Tensor:
        """(S) int64: tokens of each sequence."""
        lengths = self.cu_seqlens.diff().to(torch.int64)
        return lengths[:-1] if self.traced else lengths

    def pack(self, x: Tensor) -> Tensor:
        """X (B, L, …) -> (1, total, …)."""
        if self.traced:
            x = torch.where(_beside(self.mask, x), x, 0)
        return x.flatten(0, 1).index_select(0, self.positions).unsqueeze(0)

    def unpack(self, y: Tensor, fill: int = 0) -> Tensor:
        """Y (1, total, …) -> (B, L, …), `fill` where there is no token."""
        flat = y.new_full((self.mask.numel(), *y.shape[2:]), fill).index_copy(0, self.positions, y.squeeze(0))
        out = flat.unflatten(0, self.mask.shape)
        return torch.where(_beside(self.mask, out), out, fill) if self.traced else out

    def extend(self, state: Any) -> Any:
        """A mixer's state (a NamedTuple of batch-first tensors, or None), batch S -> batch of cu_seqlens."""
        if state is None or not self.traced:
            return state
        return map_layer(lambda t: torch.cat([t, t.new_zeros((1, *t.shape[1:]))]), state)

    def trim(self, state: Any) -> Any:
        """A mixer's state, batch of cu_seqlens -> batch S."""
        if state is None or not self.traced:
            return state
        return map_layer(lambda tensor: tensor[:-1], state)

    def run(self, mixer: Callable[..., Any], x: Tensor, state: Any, return_state: bool) -> Any:
        """`mixer(x, state)` on the tokens alone: its output at their positions, zeros elsewhere, and the state after
        the last token of each sequence.
        """
        out = mixer(self.pack(x), self.extend(state), return_state=return_state, cu_seqlens=self.cu_seqlens)
        if not return_state:
            return self.unpack(out)
        y, new_state = out
        return self.unpack(y), self.trim(new_state)


@dataclass(frozen=True)
class Rows:
    """Packed sequences (1, total, …) as rows of one length (S, longest, …), zeros behind the shorter ones.

    places: (total) int64, where each packed token stands in the flattened rows. present: (S, longest) bool.
    """

    places: Tensor
    present: Tensor

    @classmethod
    def of(cls, cu_seqlens: Tensor, total: int) -> Rows:
        """The sequences that `cu_seqlens` (S+1) tells apart as rows; in a traced program as long as all together."""
        offsets = cu_seqlens.to(torch.int64)
        lengths = offsets.diff()  # (S)
        traced = torch.compiler.is_compiling() or torch.compiler.is_exporting()
        longest = total if traced or not lengths.numel() else int(lengths.max())
        token = torch.arange(total, device=offsets.device)
        row = torch.searchsorted(offsets[1:].contiguous(), token, right=True)
        column = token - offsets.index_select(0, row)
        present = torch.arange(longest, device=offsets.device) < lengths.unsqueeze(1)
        return cls(row * longest + column, present)

    def spread(self, x: Tensor) -> Tensor:
        """X (1, total, …) -> (S, longest, …)."""
        rows: Tensor = x.new_zeros((self.present.numel(), *x.shape[2:])).index_copy(0, self.places, x.squeeze(0))
        return torch.unflatten(rows, 0, self.present.shape)

    def gather(self, y: Tensor) -> Tensor:
        """Y (S, longest, …) -> (1, total, …)."""
        return y.flatten(0, 1).index_select(0, self.places).unsqueeze(0)


def _beside(mask: Tensor, x: Tensor) -> Tensor:
    """The mask with dims of extent 1 for what x has more."""
    return mask.reshape(*mask.shape, *[1] * (x.ndim - mask.ndim))
