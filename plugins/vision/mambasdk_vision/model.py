"""What models of images have in common: size, classes, and how weights go into a model of another configuration."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mambasdk.errors import InvalidArgumentError
from mambasdk.lowering import as_model
from mambasdk.models import create_model, find_model, identity
from mambasdk.nn import Model
from mambasdk_vision.processors import IMAGENET

_ENCODER = "net."  # where a model is an encoder and more, the encoder's tensors may be under this name


class ImageModel(Model):
    """Base of a model with the input `image` (B, C, H, W), beside `torch.nn.Module`.

    config: has the property or field image_size, the height and width that the model was built for.
    ends: beginnings of the names of tensors that another task, other classes or another size need anew.
    maps_config: overrides of the configuration that make FeatureMaps of the model; empty where there is no such form.
    first_map_config: overrides that make FeatureMaps of the first map alone, where that needs fewer weights.
    """

    config: Any
    ends: tuple[str, ...] = ()
    maps_config: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    first_map_config: ClassVar[Mapping[str, Any]] = MappingProxyType({})

    def package_processors(self) -> Mapping[str, Mapping[str, Any]]:
        """The family's image processor (else ImageNet's), for images of the size that the model was built for."""
        entry = super().package_processors().get("image", IMAGENET)
        return {"image": {**entry, "size": list(self.config.image_size)}}

    def resized(self, **extents: tuple[int, ...]) -> nn.Module:
        """A model for images of `image=(height, width)`, with these weights; what depends on the size is converted."""
        module: Any = self
        changes: dict[str, Any] = {field_of(module, "image_size"): list(extents["image"])}
        return adapted(module, **changes)

    def converted(self, name: str, value: Tensor | None, old: Any, *, legacy: bool) -> Tensor | None:
        """What this model takes for its tensor `name` from a model of another configuration; None draws it anew.

        value: the tensor of that name in `old`, None where it has none. legacy: as upstream converts it, where that
        is different.
        """
        return value


class ImageClassifier(ImageModel):
    """An ImageModel whose outputs are `logits` (B, classes), of `last_layer`, and `features`, what that layer sees."""

    feature_outputs = ("features",)

    def last_layer(self) -> nn.Linear:
        """The layer that tells the classes apart; the module's `head` unless a subclass says otherwise."""
        layer: nn.Linear = self.head  # type: ignore[attr-defined]
        return layer

    @property
    def classes(self) -> int | None:
        """Rows of the last layer."""
        return self.last_layer().out_features

    def with_classes(self, count: int) -> nn.Module:
        """The model with a fresh last layer for `count` classes: normal with deviation 0.02, zero bias."""
        module: Any = self
        changes: dict[str, Any] = {field_of(module, "num_classes"): count}
        made: Any = adapted(module, **changes)
        layer = made.last_layer()
        with torch.no_grad():
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        return made  # type: ignore[no-any-return]


class FeatureMaps(ImageModel):
    """An ImageModel whose outputs are maps for dense prediction: `forward(image)` gives a list of (B, C, h, w).

    map_channels, map_strides: C and the stride of every map, largest map first. feature_outputs: their names, `p2` for
    stride 4, `p3` for 8, …; names of another kind where several have one stride.
    """

    map_channels: tuple[int, ...] = ()
    map_strides: tuple[int, ...] = ()

    def native_outputs(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """The maps by name."""
        module: Any = self
        return dict(zip(self.feature_outputs, module(inputs["image"]), strict=True))


class Segmenter(ImageModel):
    """An ImageModel whose `forward(image)` is `logits` (B, classes, h, w) of a map, the classes of its positions.

    The stride may be any; the head `semantic_segmentation` brings them to the image's size.
    """

    def training_logits(self, image: Tensor) -> list[tuple[float, Tensor]]:
        """What the loss is a sum of: (weight, logits (B, classes, h, w)), auxiliary heads after the model's own."""
        module: Any = self
        return [(1.0, module(image))]

    def native_outputs(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """`logits`."""
        module: Any = self
        return {"logits": module(inputs["image"])}


def feature_maps(model: str | nn.Module, **overrides: Any) -> FeatureMaps:
    """The FeatureMaps of a family or variant, freshly initialised, or of a model, with its weights.

    overrides: fields of its configuration. Raises InvalidArgumentError where the family has no such form.
    """
    if isinstance(model, str):
        with torch.device("meta"):
            kind: Any = create_model(model, **overrides)
    else:
        kind = model
    if isinstance(kind, FeatureMaps) and not overrides and not isinstance(model, str):
        return kind
    form = getattr(kind, "maps_config", {})
    if not isinstance(kind, ImageModel) or not (form or isinstance(kind, FeatureMaps)):
        raise InvalidArgumentError(
            f"{model if isinstance(model, str) else type(model).__name__} gives no maps for dense prediction",
            where="feature_maps",
            expected="an image encoder such as vmamba",
            way_out="`mambasdk models` lists the families",
        )
    settings = {**({} if isinstance(kind, FeatureMaps) else form), **overrides}
    made: Any = create_model(model, **settings) if isinstance(model, str) else adapted(model, **settings)
    return made  # type: ignore[no-any-return]


def image_size(model: nn.Module) -> tuple[int, int]:
    """(height, width) that a model was built for: of its input, or where that is free, of its image processor."""
    contract = as_model(model)
    height, width = contract.input_shapes()["image"][-2:]
    if isinstance(height, int) and isinstance(width, int):
        return height, width
    size = contract.package_processors()["image"]["size"]
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def adapted(model: nn.Module, *, legacy_positions: bool = False, **overrides: Any) -> nn.Module:
    """A new model with the configuration of `model` but for `overrides`, and its weights.

    overrides: fields of the configuration, for example img_size=384, num_classes=10 or task="segmentation". What a new
    task or other classes need is freshly initialised; the position embedding is interpolated. legacy_positions:
    interpolate Vim's as upstream does (`mambasdk_vision.families.vim.resize_positions`).
    Raises InvalidArgumentError where other weights would change their shape, or the model is no ImageModel.
    """
    if not isinstance(model, ImageModel):
        raise InvalidArgumentError(
            f"{type(model).__name__} does not say which of its weights go into another model",
            where="adapted",
            way_out="inherit from mambasdk_vision.model.ImageClassifier or ImageModel",
        )
    who = identity(model)
    first = next(model.parameters())
    new: Any = create_model(who.family, device=first.device, **{**who.config, **overrides})
    old_tensors = {name.removeprefix(_ENCODER): tensor for name, tensor in model.state_dict().items()}
    state: dict[str, Tensor] = {}
    for name, tensor in new.state_dict().items():
        plain = name.removeprefix(_ENCODER)
        with torch.no_grad():
            value = new.converted(plain, old_tensors.get(plain), model, legacy=legacy_positions)
        if value is None or value.shape != tensor.shape:
            if not plain.startswith(new.ends):
                raise InvalidArgumentError(
                    f"{name} does not fit",
                    where="adapted",
                    expected=tuple(tensor.shape),
                    got=None if value is None else tuple(value.shape),
                    way_out="change only what leaves the encoder's weights as they are",
                )
            value = tensor
        state[name] = value
    new.load_state_dict(state)
    return new.to(first.dtype).train(model.training)  # type: ignore[no-any-return]


def field_of(model: nn.Module, word: str) -> str:
    """The configuration's field that heads call `word`; see `FamilySpec.fields`."""
    family, _ = find_model(identity(model).family)
    return family.field(word)
