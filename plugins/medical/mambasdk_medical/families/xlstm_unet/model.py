"""xLSTM-UNet: the residual U-Net and its Vision-LSTM layers."""

from __future__ import annotations

from torch import Tensor, nn

from mambasdk.nn import ViLBlock
from mambasdk_medical.families.xlstm_unet.config import XLSTMUNetConfig
from mambasdk_medical.nn.residual_blocks import PlainBlock
from mambasdk_medical.nn.residual_unet import ResidualEncoder, ResidualUNet
from mambasdk_medical.nn.residual_unet_config import ResidualUNetConfig
from mambasdk_medical.nn.token_layer import TokenLayer


class ViLLayer(TokenLayer):
    """A ViL block on a map, always in raster order, so each token sees itself and those before it.

    Parameters `vil.*`, and `norm.*`, which upstream's layer has and never applies: its checkpoints and its published
    counts hold them.
    """

    def __init__(self, dim: int, *, channel_tokens: bool = False) -> None:
        super().__init__(dim, channel_tokens=channel_tokens)
        self.vil = ViLBlock(dim)

    def mix(self, tokens: Tensor) -> Tensor:
        """Map tokens (B, L, dim) to the same shape; the residual is the block's own."""
        y: Tensor = self.vil(tokens)
        return y


class XLSTMUNetEncoder(ResidualEncoder):
    """The encoder with a ViL layer or a block of convolutions after some stages, `xlstm_layers.*`."""

    def __init__(self, config: XLSTMUNetConfig) -> None:
        super().__init__(config)
        self.xlstm_layers = nn.ModuleList(
            _layer_after(stage, config) for stage in range(len(config.features_per_stage))
        )

    def after(self, stage: int, x: Tensor) -> Tensor:
        """The stage's layer, where there is one."""
        y: Tensor = self.xlstm_layers[stage](x)
        return y


def _layer_after(stage: int, config: XLSTMUNetConfig) -> nn.Module:
    if stage in config.token_stages:
        return ViLLayer(config.token_dim(stage), channel_tokens=config.channel_tokens(stage))
    if stage in config.block_stages:
        return PlainBlock(config.features_per_stage[stage], config.kernel_sizes[stage])
    return nn.Identity()


class XLSTMUNet(ResidualUNet):
    """Image (B, C, *S) to logits (B, classes, *S)."""

    config: XLSTMUNetConfig

    def __init__(self, config: XLSTMUNetConfig) -> None:
        super().__init__(config)
        if config.placement == "bot":
            self.xlstm = ViLLayer(config.features_per_stage[-1])

    def make_encoder(self, config: ResidualUNetConfig) -> ResidualEncoder:
        """The plain encoder, or the one with ViL layers."""
        assert isinstance(config, XLSTMUNetConfig)
        return XLSTMUNetEncoder(config) if config.placement == "enc" else ResidualEncoder(config)

    def bottleneck(self, x: Tensor) -> Tensor:
        """The ViL layer of the deepest map, where that is its place."""
        return self.xlstm(x) if self.config.placement == "bot" else x  # type: ignore[no-any-return]


def build(config: XLSTMUNetConfig) -> XLSTMUNet:
    """The module of a configuration, freshly initialised; also on the meta device."""
    return XLSTMUNet(config)
