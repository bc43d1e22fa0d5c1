"""Encoders of several stages, each at half the sides of the one before, and their two ends: logits, or maps.

Maps are channel-last inside. Parameters have the names that VMamba and its relatives share (`patch_embed`,
`layers.0.blocks`, `classifier`, `outnorm0`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from mambasdk.errors import InvalidArgumentError
from mambasdk.nn import LayerNorm, MarkedParameters
from mambasdk_vision.model import FeatureMaps, ImageClassifier, ImageModel
from mambasdk_vision.nn.image_input import check_image


class StagedConfig(Protocol):
    """What the configuration of a StagedEncoder has."""

    in_chans: int
    num_classes: int
    depths: Sequence[int]
    out_indices: Sequence[int]

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) that a package's processor makes."""

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of every stage."""


class Stage(nn.Module):
    """Blocks, then the way to the next stage."""

    def __init__(self, blocks: Sequence[nn.Module], downsample: nn.Module) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.downsample = downsample


class StagedEncoder(MarkedParameters, ImageModel):
    """Base of an encoder: `patch_embed`, an image (B, H, W, 3) to a map, and `layers`, of Stages.

    config: a StagedConfig. A subclass makes both modules, and has `where`, its name in errors, and `least`, the
    smallest side of an image.
    """

    ends: tuple[str, ...] = ("classifier.", "outnorm")
    maps_config: ClassVar = {"out_indices": (0, 1, 2, 3)}
    where = "encoder"
    least = 1
    patch_embed: nn.Module
    layers: nn.ModuleList

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config

    def embed(self, image: Tensor) -> Tensor:
        """The map (B, h, w, C) of the first stage; image (B, 3, H, W) of any size. Raises ShapeError."""
        check_image(image, self.config.in_chans, self.where, least=self.least)
        x: Tensor = self.patch_embed(image.permute(0, 2, 3, 1).contiguous())
        return x

    def stages(self, image: Tensor) -> list[Tensor]:
        """Maps (B, h, w, C) of every stage before its downsampling; image (B, 3, H, W). Raises ShapeError."""
        x = self.embed(image)
        maps = []
        for stage in self.layers:
            layer: Any = stage
            x = layer.blocks(x)
            maps.append(x)
            x = layer.downsample(x)
        return maps

    def example_inputs(self) -> dict[str, Tensor]:
        """What a package's golden file is made from: two images of noise."""
        return {"image": torch.randn(2, self.config.in_chans, 64, 96, generator=torch.Generator().manual_seed(0))}

    def input_shapes(self) -> dict[str, list[int | str]]:
        """Batch and size are free."""
        return {"image": ["B", self.config.in_chans, "H", "W"]}


class StagedClassifier(StagedEncoder, ImageClassifier):
    """Before an encoder in the bases of a class: image to logits (B, classes): norm, mean over the last map, linear."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        width = config.widths[-1]
        self.classifier = nn.ModuleDict({"norm": LayerNorm(width), "head": nn.Linear(width, config.num_classes)})

    def last_layer(self) -> nn.Linear:
        """See ImageClassifier."""
        layer: Any = self.classifier["head"]
        return layer  # type: ignore[no-any-return]

    def features(self, image: Tensor) -> Tensor:
        """What the head sees, (B, C of the last stage)."""
        y: Tensor = self.classifier["norm"](self.stages(image)[-1])
        return y.mean(dim=(1, 2))

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, classes); image (B, 3, H, W) of any size. Raises ShapeError."""
        logits: Tensor = self.classifier["head"](self.features(image))
        return logits

    def native_outputs(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """`logits` and, for other uses than classification, `features`."""
        features = self.features(inputs["image"])
        return {"logits": self.classifier["head"](features), "features": features}


class StageMaps(StagedEncoder, FeatureMaps):
    """Before an encoder in the bases of a class: image to the maps of the stages in out_indices, each with a norm."""

    first_stride = 4

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.feature_outputs = tuple(f"p{index + 2}" for index in config.out_indices)
        self.map_channels = tuple(config.widths[index] for index in config.out_indices)
        self.map_strides = tuple(self.first_stride << index for index in config.out_indices)
        for index in config.out_indices:
            self.add_module(f"outnorm{index}", LayerNorm(config.widths[index]))

    def forward(self, image: Tensor) -> list[Tensor]:
        """Maps (B, C, h, w) of strides 4, 8, 16, 32, as out_indices has them; image (B, 3, H, W). Raises ShapeError."""
        maps = self.stages(image)
        return [
            self.get_submodule(f"outnorm{index}")(maps[index]).permute(0, 3, 1, 2) for index in self.config.out_indices
        ]


def make_stages(
    config: StagedConfig,
    drop_path_rate: float,
    block: Callable[[int, float], nn.Module],
    downsample: Callable[[int, int], nn.Module],
) -> nn.ModuleList:
    """The Stages of a configuration. block: (channels, drop path rate) to a block; the rate grows from 0 linearly.

    downsample: (channels, channels of the next stage) to the module between them; the last stage has none.
    """
    widths = config.widths
    rates = torch.linspace(0, drop_path_rate, sum(config.depths), device="cpu").tolist()
    stages = nn.ModuleList()
    for index, (channels, depth) in enumerate(zip(widths, config.depths, strict=True)):
        blocks = [block(channels, rates.pop(0)) for _ in range(depth)]
        last = index + 1 == len(widths)
        stages.append(Stage(blocks, nn.Identity() if last else downsample(channels, widths[index + 1])))
    return stages


def stage_widths(dims: int | Sequence[int], depths: Sequence[int], where: str) -> tuple[int, ...]:
    """Channels of every stage: `dims`, or where it is one number that and its doubles. Raises InvalidArgumentError."""
    widths = tuple(dims * 2**stage for stage in range(len(depths))) if isinstance(dims, int) else tuple(dims)
    for name, values in (("depths", tuple(depths)), ("dims", widths)):
        if not values or any(isinstance(v, bool) or not isinstance(v, int) or v < 1 for v in values):
            raise InvalidArgumentError(f"bad {name}", where=where, expected="integers of 1 or more", got=values)
    if len(widths) != len(depths):
        raise InvalidArgumentError("bad dims", where=where, expected=f"{len(depths)} stages", got=widths)
    return widths


def check_out_indices(out_indices: Sequence[int], stages: int, where: str) -> tuple[int, ...]:
    """The stages whose maps come out; raises InvalidArgumentError for others than 0 to stages - 1."""
    if any(index not in range(stages) for index in out_indices):
        raise InvalidArgumentError(
            "bad out_indices", where=where, expected=f"stages 0 to {stages - 1}", got=tuple(out_indices)
        )
    return tuple(out_indices)


def init_linear(model: nn.Module) -> None:
    """Every linear layer normal with deviation 0.02, biases zero; convolutions keep torch's (arXiv 2401.10166)."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
