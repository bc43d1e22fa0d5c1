"""The state of a layer that is both a Mamba-2 mixer and an attention."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from mambasdk.nn import AttentionState, Mamba2State, register_layer_state


@register_layer_state("mamba2 and attention", cache=True)
class PairedState(NamedTuple):
    """The fields of both, under their names."""

    conv: Tensor  # (B, K-1, S + 2GN)
    ssm: Tensor  # (B, H, P, N) float32
    key: Tensor  # (B, T, G, E)
    value: Tensor  # (B, T, G, E)
    present: Tensor | None = None  # (B, T) bool

    @classmethod
    def of(cls, mamba: Mamba2State, attention: AttentionState) -> PairedState:
        """Of the two states."""
        return cls(*mamba, attention.key, attention.value, attention.present)

    @property
    def mamba(self) -> Mamba2State:
        """The mixer's."""
        return Mamba2State(self.conv, self.ssm)

    @property
    def attention(self) -> AttentionState:
        """The attention's."""
        return AttentionState(self.key, self.value, self.present)
