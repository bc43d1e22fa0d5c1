"""VSSD: stem, stages of blocks with downsampling between, and its ends: logits, or maps of every stage."""

from __future__ import annotations

from torch import Tensor, nn

from mambasdk.nn import DropPath, LayerNorm
from mambasdk_vision.families.vssd.config import VSSDConfig
from mambasdk_vision.families.vssd.layers import Downsample, Stem
from mambasdk_vision.families.vssd.mixer import VSSDAttention, VSSDMixer
from mambasdk_vision.model import ImageClassifier
from mambasdk_vision.nn import MapConv2d
from mambasdk_vision.nn.mlp import Mlp
from mambasdk_vision.nn.stages import StagedEncoder, StageMaps, init_linear, make_stages


class VSSDBlock(nn.Module):
    """`x += cpe1(x)`, `x += drop(attn(norm1(x)))`, `x += cpe2(x)`, `x += drop(mlp(norm2(x)))` on maps (B, H, W, C).

    cpe1, cpe2: depthwise convolutions, which are all that tells positions apart.
    """

    def __init__(self, config: VSSDConfig, stage: int, drop_path: float) -> None:
        super().__init__()
        channels, heads = config.widths[stage], config.num_heads[stage]
        self.cpe1 = MapConv2d(channels, channels, 3, padding=1, groups=channels)
        self.norm1 = LayerNorm(channels)
        self.attn = (
            VSSDAttention(channels, heads)
            if config.attn_types[stage] == "standard"
            else VSSDMixer(
                channels,
                heads,
                config.d_state,
                config.expand,
                config.ngroups,
                mixing=config.mixing,
                positive=config.positive,
            )
        )
        self.drop_path = DropPath(drop_path)
        self.cpe2 = MapConv2d(channels, channels, 3, padding=1, groups=channels)
        self.norm2 = LayerNorm(channels)
        self.mlp = Mlp(channels, int(channels * config.mlp_ratio))

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, H, W, C) to the same shape."""
        x = x + self.cpe1(x)
        x = x + self.drop_path(self.attn(self.norm1(x)))
        x = x + self.cpe2(x)
        y: Tensor = x + self.drop_path(self.mlp(self.norm2(x)))
        return y


class VSSDEncoder(StagedEncoder):
    """Stem and stages; parameter names are upstream's."""

    ends = ("norm.", "head.", "outnorm")
    where = "VSSD"

    def __init__(self, config: VSSDConfig) -> None:
        super().__init__(config)
        self.patch_embed = Stem(config.in_chans, config.widths[0])
        self.layers = make_stages(
            config,
            config.drop_path_rate,
            lambda channels, rate: VSSDBlock(config, config.widths.index(channels), rate),
            Downsample,
        )


class VSSDClassifier(VSSDEncoder, ImageClassifier):
    """Image (B, 3, H, W) to logits (B, classes): norm, mean over the last map, linear."""

    def __init__(self, config: VSSDConfig) -> None:
        super().__init__(config)
        self.norm = LayerNorm(config.widths[-1])
        self.head = nn.Linear(config.widths[-1], config.num_classes)
        init_linear(self)

    def features(self, image: Tensor) -> Tensor:
        """What the head sees, (B, C of the last stage)."""
        y: Tensor = self.norm(self.stages(image)[-1])
        return y.mean(dim=(1, 2))

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, classes); image (B, 3, H, W) of any size. Raises ShapeError."""
        logits: Tensor = self.head(self.features(image))
        return logits

    def native_outputs(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """`logits` and, for other uses than classification, `features`."""
        features = self.features(inputs["image"])
        return {"logits": self.head(features), "features": features}


class VSSDFeatures(StageMaps, VSSDEncoder):
    """Image to the maps of the stages in out_indices."""

    def __init__(self, config: VSSDConfig) -> None:
        super().__init__(config)
        init_linear(self)


def build(config: VSSDConfig) -> VSSDClassifier | VSSDFeatures:
    """The module of a configuration, freshly initialised; also on the meta device."""
    return VSSDFeatures(config) if config.out_indices else VSSDClassifier(config)
