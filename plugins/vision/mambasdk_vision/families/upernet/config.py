"""The configuration of a UPerNet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from mambasdk.errors import InvalidArgumentError
from mambasdk.models import find_model
from mambasdk.models.identity import make_config
from mambasdk.plugins import resolve
from mambasdk_vision.nn import pair


@dataclass
class UPerNetConfig:
    """UPerNet with an auxiliary head; the defaults are those of the published segmenters on ADE20K.

    backbone: a family or variant with maps, as `mambasdk_vision.model.feature_maps` takes it; afterwards its family.
    backbone_config: overrides of its configuration; afterwards all of it, so that a package depends on no variant.
    num_classes: of the last layers. image_size: that the model is built for, the backbone too. channels, pool_scales,
    dropout: see UPerHead. auxiliary_channels: of the FCNHead that training alone uses, 0 for none; auxiliary_index: the
    map that it sees; auxiliary_weight: of its loss.
    """

    backbone: str = "vmamba-tiny-s1l8"
    backbone_config: Mapping[str, Any] = field(default_factory=dict)
    num_classes: int = 150
    image_size: int | Sequence[int] = 512
    channels: int = 512
    pool_scales: Sequence[int] = (1, 2, 3, 6)
    dropout: float = 0.1
    auxiliary_channels: int = 256
    auxiliary_index: int = 2
    auxiliary_weight: float = 0.4

    def __post_init__(self) -> None:
        where = type(self).__name__
        self.image_size = pair(self.image_size, "image_size", where)
        self.pool_scales = tuple(self.pool_scales)
        self._settle_backbone()
        for name, least in (("num_classes", 1), ("channels", 1), ("auxiliary_channels", 0)):
            _integer(name, getattr(self, name), least)
        for scale in self.pool_scales:
            _integer("pool_scales", scale, 1)
        if not 0 <= self.dropout < 1:
            raise InvalidArgumentError("bad dropout", where=where, expected="from 0 to below 1", got=self.dropout)

    def _settle_backbone(self) -> None:
        family, variant = find_model(self.backbone)
        variant = variant or family.default_variant
        settings = {**(family.variants[variant] if variant else {}), **self.backbone_config}
        made: Any = make_config(resolve(family.config), settings, f"UPerNetConfig: backbone {self.backbone!r}")
        self.backbone, self.backbone_config = family.name, asdict(made)


def _integer(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InvalidArgumentError(
            f"bad {name}", where="UPerNetConfig", expected=f"an integer of {least} or more", got=repr(value)
        )
