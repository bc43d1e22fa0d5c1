"""A pre-norm residual block: mixer, and a gated MLP where there is one."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from mambasdk.nn.norm import add_norm
from mambasdk.nn.precision import scaled


class Block(nn.Module):
    """`residual = h + residual; h = mixer(norm(residual))`, the same again for the MLP (arXiv 2312.00752).

    The sum is kept apart from the branch so that it is added inside the next norm; `residual_in_fp32` keeps it float32.
    mixer: a module with the call of `mambasdk.nn.Mamba`; where it is `pointwise`, one that maps each position alone
    and has no state, such as an MLP. multiplier: of what a branch adds to the sum.
    """

    def __init__(
        self,
        mixer: nn.Module,
        norm: nn.Module,
        *,
        mlp: nn.Module | None = None,
        norm2: nn.Module | None = None,
        residual_in_fp32: bool = True,
        pointwise: bool = False,
        multiplier: float = 1.0,
    ) -> None:
        super().__init__()
        self.norm = norm
        self.mixer = mixer
        self.residual_in_fp32 = residual_in_fp32
        self.pointwise = pointwise
        self.multiplier = multiplier
        self.norm2 = norm2 if mlp is not None else None
        self.mlp = mlp

    def initial_state(self, batch_size: int) -> Any:
        """The mixer's zero state, None where it has none."""
        mixer: Any = self.mixer
        return None if self.pointwise else mixer.initial_state(batch_size)

    def forward(
        self,
        h: Tensor,  # (B, L, D): the branch before this block
        residual: Tensor | None = None,  # (B, L, D): the sum of all before that; None in the first block
        state: Any = None,
        *,
        return_state: bool = False,
        mask: Tensor | None = None,
        cu_seqlens: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Any]:
        """(branch (B, L, D), residual (B, L, D), state or None). The block's output is their sum."""
        h, residual = add_norm(self.norm, h, residual, residual_in_fp32=self.residual_in_fp32)
        new_state = None
        if self.pointwise:
            h = self.mixer(h)
        else:
            h = self.mixer(h, state, return_state=return_state, mask=mask, cu_seqlens=cu_seqlens)
            if return_state:
                h, new_state = h
        h = scaled(h, self.multiplier)
        if self.mlp is not None:
            assert self.norm2 is not None
            h, residual = self.norm2(h, residual)
            h = scaled(self.mlp(h), self.multiplier)
        return h, residual, new_state
