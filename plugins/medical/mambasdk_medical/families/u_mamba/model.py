"""U-Mamba: the residual U-Net and its Mamba layers."""

from __future__ import annotations

from torch import Tensor, nn

from mambasdk.nn import Mamba
from mambasdk_medical.families.u_mamba.config import UMambaConfig
from mambasdk_medical.nn.residual_unet import ResidualEncoder, ResidualUNet
from mambasdk_medical.nn.residual_unet_config import ResidualUNetConfig
from mambasdk_medical.nn.token_layer import TokenLayer


class MambaLayer(TokenLayer):
    """`mamba(norm(tokens))` on a map, with no residual around it. Parameters `norm.*`, `mamba.*`."""

    def __init__(self, dim: int, config: UMambaConfig, *, channel_tokens: bool = False) -> None:
        super().__init__(dim, channel_tokens=channel_tokens)
        self.mamba = Mamba(dim, config.d_state, config.d_conv, config.expand)

    def mix(self, tokens: Tensor) -> Tensor:
        """Map tokens (B, L, dim) to the same shape, each from itself and those before it."""
        y: Tensor = self.mamba(self.norm(tokens))
        return y


class UMambaEncoder(ResidualEncoder):
    """The encoder with a Mamba layer after some stages, `mamba_layers.*`."""

    def __init__(self, config: UMambaConfig) -> None:
        super().__init__(config)
        self.mamba_layers = nn.ModuleList(
            MambaLayer(config.token_dim(stage), config, channel_tokens=config.channel_tokens(stage))
            if stage in config.token_stages
            else nn.Identity()
            for stage in range(len(config.features_per_stage))
        )

    def after(self, stage: int, x: Tensor) -> Tensor:
        """The stage's Mamba layer, where there is one."""
        y: Tensor = self.mamba_layers[stage](x)
        return y


class UMamba(ResidualUNet):
    """Image (B, C, *S) to logits (B, classes, *S)."""

    config: UMambaConfig

    def __init__(self, config: UMambaConfig) -> None:
        super().__init__(config)
        if config.placement == "bot":
            self.mamba_layer = MambaLayer(config.features_per_stage[-1], config)

    def make_encoder(self, config: ResidualUNetConfig) -> ResidualEncoder:
        """The plain encoder, or the one with Mamba layers."""
        assert isinstance(config, UMambaConfig)
        return UMambaEncoder(config) if config.placement == "enc" else ResidualEncoder(config)

    def bottleneck(self, x: Tensor) -> Tensor:
        """The Mamba layer of the deepest map, where that is its place."""
        return self.mamba_layer(x) if self.config.placement == "bot" else x  # type: ignore[no-any-return]


def build(config: UMambaConfig) -> UMamba:
    """The module of a configuration, freshly initialised; also on the meta device."""
    return UMamba(config)
