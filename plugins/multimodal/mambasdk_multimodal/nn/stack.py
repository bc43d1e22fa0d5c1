"""Layers of two Mixture-of-Mamba blocks each, and the stack of them. Parameter names are upstream's."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from mambasdk.nn import MixerModel, add_norm
from mambasdk.nn.groups import Groups
from mambasdk_multimodal.nn.mixer import MixtureOfMamba
from mambasdk_multimodal.nn.modalities import modality_of


class MixtureBlock(nn.Module):
    """A pre-norm residual block, called as `mambasdk.nn.Block` is; all modalities share the norm."""

    def __init__(self, mixer: MixtureOfMamba, norm: nn.Module, *, residual_in_fp32: bool = True) -> None:
        super().__init__()
        self.norm = norm
        self.mamba_model = mixer
        self.residual_in_fp32 = residual_in_fp32

    def initial_state(self, batch_size: int) -> Any:
        """The mixer's zero state."""
        return self.mamba_model.initial_state(batch_size)

    def forward(
        self,
        h: Tensor,  # (B, L, D): the branch before this block
        residual: Tensor | None = None,  # (B, L, D): the sum of all before that; None in the first block
        state: Any = None,
        *,
        modality: Tensor | Groups,  # (B, L) integers, or their groups
        return_state: bool = False,
        cu_seqlens: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Any]:
        """(branch (B, L, D), residual (B, L, D), state or None). The block's output is their sum."""
        h, residual = add_norm(self.norm, h, residual, residual_in_fp32=self.residual_in_fp32)
        made = self.mamba_model(h, state, modality=modality, return_state=return_state, cu_seqlens=cu_seqlens)
        h, new_state = made if return_state else (made, None)
        return h, residual, new_state


class MixtureLayer(nn.Module):
    """Two blocks: what stands for one layer of a Transformer."""

    def __init__(self, block1: MixtureBlock, block2: MixtureBlock) -> None:
        super().__init__()
        self.block1 = block1
        self.block2 = block2


class MixtureModel(MixerModel):
    """A MixerModel of MixtureLayers, whose blocks share the sorting of the tokens by modality.

    ranges: the id at which each modality's range ends, for tokens whose modality is not given.
    `position_data` of a call are the modalities (B, L), where they are not those of the tokens' ids.
    """

    def __init__(self, layers: list[MixtureLayer], norm_f: nn.Module, d_model: int, ranges: list[int], **options: Any):
        super().__init__(layers, norm_f, d_model, residuals_per_layer=2, **options)
        self.ranges = ranges

    def _blocks(self) -> list[Any]:
        return [block for layer in self.layers for block in layer.children()]

    def _shared_arguments(self, given: Tensor, position_data: Tensor | None) -> dict[str, Any]:
        modality = modality_of(given, self.ranges) if position_data is None else position_data
        return {"modality": Groups.of(modality.flatten(), len(self.ranges))}
