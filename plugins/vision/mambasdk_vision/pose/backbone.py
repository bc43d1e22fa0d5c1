"""The encoder inside a pose model, and what pose models share. Needs torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mambasdk.errors import CheckpointError
from mambasdk.models import Checkpoint, create_model, find_model
from mambasdk.plugins import resolve
from mambasdk_vision.model import FeatureMaps, ImageModel, feature_maps

PREFIX = "backbone."  # of the encoder's tensors
_NESTED = "net."  # see mambasdk_vision.model


def backbone_of(
    name: str, settings: Mapping[str, Any], size: tuple[int, int], *, first_map: bool = False
) -> FeatureMaps:
    """The encoder of a family or variant, for images of (height, width) = size where its size is a setting.

    settings: fields of its configuration. first_map: without the weights that only other maps than the first need.
    """
    family, _ = find_model(name)
    field = family.field("image_size")
    fields = {one.name for one in dataclasses.fields(resolve(family.config))}
    given = {field: list(size)} if field in fields else {}
    if first_map:
        given.update(_on_meta(name).first_map_config)
    return feature_maps(name, **{**given, **settings})


def _on_meta(name: str) -> Any:
    with torch.device("meta"):
        return create_model(name)


def import_backbone(
    name: str | None, settings: Mapping[str, Any], weights: Checkpoint
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Configuration and tensors, under `backbone.`, of the encoder in a pose model's file, by its family's importer.

    settings: as that importer takes them; what makes maps of the encoder is added.
    """
    if name is None:
        raise CheckpointError(
            "the file does not say which encoder it has",
            where=weights.where,
            way_out='give {"backbone": FAMILY_OR_VARIANT, "input_size": [H, W]} as the configuration',
        )
    family, _ = find_model(name)
    given = {**_on_meta(name).maps_config, **settings}
    part = weights.rename(lambda key: key.removeprefix(PREFIX) if key.startswith(PREFIX) else None)
    if family.importer is None:
        return given, {f"{PREFIX}{key}": tensor for key, tensor in part.items()}
    own, tensors = resolve(family.importer)(given, part)
    return dict(own), {f"{PREFIX}{key}": tensor for key, tensor in tensors.items()}


class PoseModel(ImageModel):
    """Base of models with an encoder `backbone` and further layers in `head`, beside `torch.nn.Module`."""

    backbone: FeatureMaps

    @property
    def ends(self) -> tuple[str, ...]:  # type: ignore[override]
        """See ImageModel: the head, and what of the encoder may be drawn anew."""
        return ("head.", *(f"{PREFIX}{nested}{end}" for end in self.backbone.ends for nested in ("", _NESTED)))

    def converted(self, name: str, value: Tensor | None, old: Any, *, legacy: bool) -> Tensor | None:
        """See ImageModel: the encoder converts its own."""
        if not name.startswith(PREFIX):
            return value
        own = name.removeprefix(PREFIX).removeprefix(_NESTED)
        return self.backbone.converted(own, value, old.backbone, legacy=legacy)

    def example_inputs(self) -> dict[str, Tensor]:
        """What a package's golden file is made from: two images of noise."""
        return {"image": torch.randn(2, 3, *self.config.image_size, generator=torch.Generator().manual_seed(0))}
