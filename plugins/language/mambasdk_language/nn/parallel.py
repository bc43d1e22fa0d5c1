"""A Mamba-2 mixer and an attention beside each other on one input. Source: arXiv 2507.22448."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from mambasdk.nn import Attention, Mamba2, scaled
from mambasdk_language.nn.paired import PairedState


class ParallelMixer(nn.Module):
    """`ssm_out * mamba(x) + attention_out * attention(attention_in * x)`: a causal mixer (B, L, D) -> (B, L, D)."""

    def __init__(
        self,
        mamba: Mamba2,
        attention: Attention,
        *,
        ssm_out_multiplier: float = 1.0,
        attention_in_multiplier: float = 1.0,
        attention_out_multiplier: float = 1.0,
    ) -> None:
        super().__init__()
        self.mamba = mamba
        self.attention = attention
        self.ssm_out_multiplier = ssm_out_multiplier
        self.attention_in_multiplier = attention_in_multiplier
        self.attention_out_multiplier = attention_out_multiplier

    def initial_state(self, batch_size: int) -> PairedState:
        """The zero state of one and the empty cache of the other."""
        return PairedState.of(self.mamba.initial_state(batch_size), self.attention.initial_state(batch_size))

    def forward(
        self, x: Tensor, state: PairedState | None = None, *, return_state: bool = False, **options: Any
    ) -> Any:
        """See `mambasdk.nn.Mamba.forward`."""
        options["return_state"] = return_state
        left = self.mamba(x, None if state is None else state.mamba, **options)
        inner = scaled(x, self.attention_in_multiplier)
        right = self.attention(inner, None if state is None else state.attention, **options)
        new_state = None
        if return_state:
            left, mamba_state = left
            right, attention_state = right
            new_state = PairedState.of(mamba_state, attention_state)
        y = scaled(left, self.ssm_out_multiplier) + scaled(right, self.attention_out_multiplier)
        return (y, new_state) if return_state else y
