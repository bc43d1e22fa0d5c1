"""MSVMamba: stem, stages of blocks with downsampling between, and its ends: logits, or maps of every stage.

Maps are channel-last throughout; v3 is channel-first upstream, with the same values under the same names.
"""

from __future__ import annotations

from torch import Tensor, nn

from mambasdk.nn import DropPath, LayerNorm
from mambasdk_vision.families.msvmamba.config import MSVMambaConfig
from mambasdk_vision.families.msvmamba.conv_ffn import ConvFFN
from mambasdk_vision.families.msvmamba.ms2d import MS2D
from mambasdk_vision.nn.downsampling import PatchMerging, conv_downsample
from mambasdk_vision.nn.stages import StagedClassifier, StagedEncoder, StageMaps, init_linear, make_stages
from mambasdk_vision.nn.stems import overlapping_stem, patch_stem

_PATCH = 4


class MSVBlock(nn.Module):
    """`x += drop(op(norm(x)))`, then `x += drop(convFFN(norm2(x)))` in v1, `x += drop(norm2(convFFN(x)))` in v3."""

    def __init__(self, config: MSVMambaConfig, channels: int, drop_path: float) -> None:
        super().__init__()
        self.norm = LayerNorm(channels)
        self.op = MS2D(
            channels,
            config.d_state,
            config.ssm_ratio,
            config.dt_rank,
            version=config.version,
            gate=config.gate,
            full_res_index=config.full_res_index,
        )
        self.drop_path = DropPath(drop_path)
        self.norm2 = LayerNorm(channels)
        self.convFFN = ConvFFN(channels, int(channels * config.ffn_ratio), config.ffn_dropout)
        self.norm_first = config.version == "v1"

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, H, W, C) to the same shape."""
        x = x + self.drop_path(self.op(self.norm(x)))
        branch = self.convFFN(self.norm2(x)) if self.norm_first else self.norm2(self.convFFN(x))
        y: Tensor = x + self.drop_path(branch)
        return y


class MSVMambaEncoder(StagedEncoder):
    """Stem and stages; parameter names are upstream's."""

    where = "MSVMamba"

    def __init__(self, config: MSVMambaConfig) -> None:
        super().__init__(config)
        first = config.version == "v1"
        self.least = _PATCH if first else 1
        self.patch_embed = (patch_stem if first else overlapping_stem)(config.in_chans, config.widths[0], _PATCH)
        self.layers = make_stages(
            config,
            config.drop_path_rate,
            lambda channels, rate: MSVBlock(config, channels, rate),
            PatchMerging if first else conv_downsample,
        )


class MSVMambaClassifier(StagedClassifier, MSVMambaEncoder):
    """Image (B, 3, H, W) to logits (B, classes)."""

    def __init__(self, config: MSVMambaConfig) -> None:
        super().__init__(config)
        init_linear(self)


class MSVMambaFeatures(StageMaps, MSVMambaEncoder):
    """Image to the maps of the stages in out_indices."""

    def __init__(self, config: MSVMambaConfig) -> None:
        super().__init__(config)
        init_linear(self)


def build(config: MSVMambaConfig) -> MSVMambaClassifier | MSVMambaFeatures:
    """The module of a configuration, freshly initialised; also on the meta device."""
    return MSVMambaFeatures(config) if config.out_indices else MSVMambaClassifier(config)
