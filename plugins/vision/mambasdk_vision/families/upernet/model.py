"""UPerNet: an encoder's maps, the decode head, and in training an auxiliary head."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mambasdk.errors import InvalidArgumentError
from mambasdk.models import create_model, find_model
from mambasdk_vision.families.upernet.config import UPerNetConfig
from mambasdk_vision.model import FeatureMaps, Segmenter, adapted, feature_maps
from mambasdk_vision.nn.decode_heads import FCNHead, UPerHead

_BACKBONE = "backbone."


class UPerNet(nn.Module, Segmenter):
    """Image (B, 3, H, W) to logits (B, classes, h, w) of the size of the encoder's first map, mostly H / 4 x W / 4.

    Parameter names are mmsegmentation's: `backbone.*` as the encoder's family has them, `decode_head.*` and
    `auxiliary_head.*`.
    """

    ends = ("decode_head.conv_seg.", "auxiliary_head.conv_seg.")

    def __init__(self, config: UPerNetConfig) -> None:
        super().__init__()
        self.config = config
        backbone: Any = _backbone(config)
        self.backbone = backbone
        widths = backbone.map_channels
        self.decode_head = UPerHead(widths, config.num_classes, config.channels, config.pool_scales, config.dropout)
        self.auxiliary_head: FCNHead | None = None
        if config.auxiliary_channels:
            if config.auxiliary_index not in range(-len(widths), len(widths)):
                raise InvalidArgumentError(
                    "bad auxiliary_index",
                    where="UPerNet",
                    expected=f"0 to {len(widths) - 1}, one of {config.backbone}'s maps",
                    got=config.auxiliary_index,
                )
            width = widths[config.auxiliary_index]
            self.auxiliary_head = FCNHead(width, config.num_classes, config.auxiliary_channels, config.dropout)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, classes, h, w); image (B, 3, H, W) of a size that the backbone takes. Raises ShapeError."""
        logits: Tensor = self.decode_head(self.backbone(image))
        return logits

    def training_logits(self, image: Tensor) -> list[tuple[float, Tensor]]:
        """See Segmenter: the decode head's, and the auxiliary head's with its weight."""
        maps = self.backbone(image)
        found = [(1.0, self.decode_head(maps))]
        if self.auxiliary_head is not None:
            found.append((self.config.auxiliary_weight, self.auxiliary_head(maps[self.config.auxiliary_index])))
        return found

    @property
    def classes(self) -> int | None:
        """Of the last layer."""
        count: int = self.config.num_classes
        return count

    def with_classes(self, count: int) -> nn.Module:
        """The model with fresh last layers for `count` classes, drawn as torch draws convolutions."""
        made: Any = adapted(self, num_classes=count)
        for head in (made.decode_head, made.auxiliary_head):
            if head is not None:
                head.conv_seg.reset_parameters()
        return made  # type: ignore[no-any-return]

    def converted(self, name: str, value: Tensor | None, old: Any, *, legacy: bool) -> Tensor | None:
        """See ImageModel: what the backbone says of its own."""
        if not name.startswith(_BACKBONE):
            return value
        own: FeatureMaps = self.backbone
        # An encoder inside a backbone is called as it is by itself.
        plain = name.removeprefix(_BACKBONE).removeprefix("net.")
        return own.converted(plain, value, old.backbone, legacy=legacy)

    def example_inputs(self) -> dict[str, Tensor]:
        """The backbone's."""
        inputs: dict[str, Tensor] = self.backbone.example_inputs()
        return inputs

    def input_shapes(self) -> dict[str, list[int | str]]:
        """The backbone's: height and width are free where it takes any."""
        shapes: dict[str, list[int | str]] = self.backbone.input_shapes()
        return shapes


def build(config: UPerNetConfig) -> UPerNet:
    """The module of a configuration, freshly initialised; also on the meta device."""
    return UPerNet(config)


def _backbone(config: UPerNetConfig) -> FeatureMaps:
    family, _ = find_model(config.backbone)
    settings = dict(config.backbone_config)
    size = family.field("image_size")
    if size in settings:
        assert not isinstance(config.image_size, int)
        settings[size] = list(config.image_size)
    with torch.device("meta"):
        plain: Any = create_model(config.backbone, **settings)
    form = {} if isinstance(plain, FeatureMaps) else getattr(plain, "maps_config", {})
    return feature_maps(config.backbone, **{**settings, **form})
