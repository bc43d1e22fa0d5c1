"""HRVMamba: a stem, stages with two, three and four branches, and its ends: logits, branch maps or the neck's maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from mambasdk.nn import LayerNorm, MarkedParameters
from mambasdk_vision.families.hrvmamba.blocks import DVSSBlock
from mambasdk_vision.families.hrvmamba.branches import Bottleneck, BranchModule, ConvUnit, conv_norm
from mambasdk_vision.families.hrvmamba.config import BRANCHES, HRVMambaConfig
from mambasdk_vision.model import FeatureMaps, ImageClassifier, ImageModel
from mambasdk_vision.nn.image_input import check_image
from mambasdk_vision.nn.stages import init_linear

_STRIDES = (4, 8, 16, 32)
_NAMES = ("p2", "p3", "p4", "p5")
_LEAST = 32  # pixels of a side: one element of the last branch


class HRVMambaEncoder(MarkedParameters, ImageModel):
    """Stem and branches; parameter names are upstream's."""

    ends = ("neck.", "head.", "outnorm")
    maps_config: ClassVar = {"task": "pose"}
    first_map_config: ClassVar = {"task": "pose", "multiscale_output": False}

    def __init__(self, config: HRVMambaConfig) -> None:
        super().__init__()
        self.config = config
        stem, widths = config.stem_channels, config.widths
        self.conv1, self.bn1 = conv_norm(config.in_chans, stem, 3, 2)
        self.conv2, self.bn2 = conv_norm(stem, stem, 3, 2)
        inner = config.stage1_channels
        before = [stem, *[4 * inner] * (config.stage1_blocks - 1)]
        self.layer1 = nn.Sequential(*(Bottleneck(inputs, inner) for inputs in before))
        rates = torch.linspace(0, config.drop_path_rate, sum(config.num_modules) * config.num_blocks, device="cpu")
        per_module = rates.view(-1, config.num_blocks).tolist()
        source = [4 * inner]
        for stage, modules in enumerate(config.num_modules, start=2):
            self.add_module(f"transition{stage - 1}", _transition(source, widths[:stage]))
            last_stage = stage == BRANCHES
            made = []
            for index in range(modules):
                single = last_stage and index + 1 == modules and not config.multiscale_output
                made.append(_branch_module(config, widths[:stage], per_module.pop(0), 1 if single else stage))
            self.add_module(f"stage{stage}", nn.Sequential(*made))
            source = list(widths[:stage])

    def branches(self, image: Tensor) -> list[Tensor]:
        """Maps (B, C, h, w) of the branches that come out; image (B, 3, H, W), sides from 32. Raises ShapeError."""
        check_image(image, self.config.in_chans, "HRVMamba", least=_LEAST)
        if not torch.compiler.is_exporting():
            image = image.contiguous(memory_format=torch.channels_last)
        x = functional.relu(self.bn1(self.conv1(image)))
        x = self.layer1(functional.relu(self.bn2(self.conv2(x))))
        maps = [x]
        for stage in range(2, BRANCHES + 1):
            transition: Any = self.get_submodule(f"transition{stage - 1}")
            # The first transition makes both branches of one map; later ones add a branch from the last.
            sources = [maps[min(index, len(maps) - 1)] for index in range(stage)]
            maps = [layer(x) for layer, x in zip(transition, sources, strict=True)]
            maps = self.get_submodule(f"stage{stage}")(maps)
        return maps

    def example_inputs(self) -> dict[str, Tensor]:
        """What a package's golden file is made from: two images of noise."""
        return {"image": torch.randn(2, self.config.in_chans, 64, 96, generator=torch.Generator().manual_seed(0))}

    def input_shapes(self) -> dict[str, list[int | str]]:
        """Batch and size are free."""
        return {"image": ["B", self.config.in_chans, "H", "W"]}


class Neck(nn.Module):
    """The maps of all branches to more channels, each added to the one before at half its sides (arXiv 1908.07919)."""

    def __init__(self, widths: Sequence[int], channels: Sequence[int], features: int) -> None:
        super().__init__()
        self.increase_layers = nn.ModuleList(
            nn.Sequential(Bottleneck(width, out // 4)) for width, out in zip(widths, channels, strict=True)
        )
        self.downsample_layers = nn.ModuleList(
            ConvUnit(channels[i], channels[i + 1], 3, 2) for i in range(len(channels) - 1)
        )
        self.final_layer = ConvUnit(channels[-1], features)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Branch maps to the sums at strides 4, 8 and 16 and, through the final layer, at 32."""
        x = self.increase_layers[0](maps[0])
        out = []
        for increase, down, y in zip(self.increase_layers[1:], self.downsample_layers, maps[1:], strict=True):
            out.append(x)
            x = down(x) + increase(y)
        return [*out, self.final_layer(x)]


class HRVMambaClassifier(HRVMambaEncoder, ImageClassifier):
    """Image (B, 3, H, W) to logits (B, classes): neck, mean over the last map, linear."""

    def __init__(self, config: HRVMambaConfig) -> None:
        super().__init__(config)
        self.neck = Neck(config.widths, config.neck_channels, config.neck_features)
        self.head = nn.Linear(config.neck_features, config.num_classes)
        init_linear(self)

    def features(self, image: Tensor) -> Tensor:
        """What the head sees, (B, neck_features)."""
        last: Tensor = self.neck(self.branches(image))[-1]
        return last.mean(dim=(2, 3))

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, classes); image (B, 3, H, W), sides of 32 or more. Raises ShapeError."""
        logits: Tensor = self.head(self.features(image))
        return logits

    def native_outputs(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """`logits` and, for other uses than classification, `features`."""
        features = self.features(inputs["image"])
        return {"logits": self.head(features), "features": features}


class HRVMambaBranches(HRVMambaEncoder, FeatureMaps):
    """Image to the maps of the branches, C, 2C, 4C and 8C channels at strides 4 to 32; or to the first alone."""

    def __init__(self, config: HRVMambaConfig) -> None:
        super().__init__(config)
        count = BRANCHES if config.multiscale_output else 1
        self.map_channels, self.map_strides = config.widths[:count], _STRIDES[:count]
        self.feature_outputs = _NAMES[:count]
        init_linear(self)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Maps (B, C, h, w), largest first; image (B, 3, H, W), sides of 32 or more. Raises ShapeError."""
        return self.branches(image)


class HRVMambaPyramid(HRVMambaEncoder, FeatureMaps):
    """Image to the maps of the classifier's neck at strides 4 to 32, each through its own norm."""

    def __init__(self, config: HRVMambaConfig) -> None:
        super().__init__(config)
        self.neck = Neck(config.widths, config.neck_channels, config.neck_features)
        self.map_channels = (*config.neck_channels[:-1], config.neck_features)
        self.map_strides, self.feature_outputs = _STRIDES, _NAMES
        for index, channels in enumerate(self.map_channels):
            self.add_module(f"outnorm{index}", LayerNorm(channels))
        init_linear(self)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Maps (B, C, h, w), largest first; image (B, 3, H, W), sides of 32 or more. Raises ShapeError."""
        maps = self.neck(self.branches(image))
        norms = [self.get_submodule(f"outnorm{index}") for index in range(BRANCHES)]
        return [norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) for norm, x in zip(norms, maps, strict=True)]


def build(config: HRVMambaConfig) -> HRVMambaClassifier | HRVMambaBranches | HRVMambaPyramid:
    """The module of a configuration, freshly initialised; also on the meta device."""
    if config.task == "classification":
        return HRVMambaClassifier(config)
    return HRVMambaBranches(config) if config.task == "pose" else HRVMambaPyramid(config)


def _transition(source: Sequence[int], widths: Sequence[int]) -> nn.ModuleList:
    """From the branches of a stage to those of the next: one more, of stride 2; others change where channels differ."""
    layers: list[nn.Module] = []
    for index, width in enumerate(widths):
        if index >= len(source):
            layers.append(nn.Sequential(nn.Sequential(*conv_norm(source[-1], width, 3, 2), nn.ReLU())))
        elif source[index] != width:
            layers.append(nn.Sequential(*conv_norm(source[index], width, 3), nn.ReLU()))
        else:
            layers.append(nn.Identity())
    return nn.ModuleList(layers)


def _branch_module(
    config: HRVMambaConfig, widths: Sequence[int], drop_path: Sequence[float], outputs: int
) -> BranchModule:
    """drop_path: of each block of a branch. For pose the convolutions of a block are never dropped."""

    def block(channels: int, index: int) -> DVSSBlock:
        return DVSSBlock(
            channels,
            mlp_ratio=config.mlp_ratio,
            se_lpu=config.se_lpu,
            drop_path=drop_path[index],
            drop_first=0.0 if config.task == "pose" else drop_path[index],
            ssm_ratio=config.ssm_ratio,
            projections=config.projections,
            offset_scale=config.offset_scale,
            dropout=config.ssm_drop_rate,
        )

    return BranchModule(widths, config.num_blocks, block, outputs)
