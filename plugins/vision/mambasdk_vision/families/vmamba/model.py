"""VMamba: stem, stages of SS2D blocks with downsampling between, and its ends: logits, or maps of every stage.

Maps are channel-last throughout; upstream's channel-first variants have the same values under the same names.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mambasdk.errors import ShapeError
from mambasdk.nn import DropPath, LayerNorm, MarkedParameters
from mambasdk_vision.families.vmamba.config import VMambaConfig
from mambasdk_vision.families.vmamba.ss2d import SS2D
from mambasdk_vision.model import ImageClassifier, ImageModel
from mambasdk_vision.nn import MapConv2d, activation, check_image
from mambasdk_vision.nn.positions import resize_grid


class Mlp(nn.Module):
    """`fc2(act(fc1(x)))` on channels."""

    def __init__(self, channels: int, hidden: int, act: str, dropout: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden)
        self.act = activation(act, "VMamba")
        self.fc2 = nn.Linear(hidden, channels)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (…, C) to the same shape."""
        y: Tensor = self.drop(self.fc2(self.drop(self.act(self.fc1(x)))))
        return y


class VSSBlock(nn.Module):
    """`x += drop(op(norm(x)))`, then `x += drop(mlp(norm2(x)))` where there is an MLP."""

    def __init__(self, config: VMambaConfig, channels: int, drop_path: float) -> None:
        super().__init__()
        self.norm = LayerNorm(channels)
        self.op = SS2D(
            channels,
            config.ssm_d_state,
            config.ssm_ratio,
            config.ssm_dt_rank,
            d_conv=config.ssm_conv,
            conv_bias=config.ssm_conv_bias,
            act=config.ssm_act_layer,
            dropout=config.ssm_drop_rate,
            ssm_init=config.ssm_init,
            forward_type=config.forward_type,
        )
        self.drop_path = DropPath(drop_path)
        has_mlp = config.mlp_ratio > 0
        self.norm2 = LayerNorm(channels) if has_mlp else None
        self.mlp = (
            Mlp(channels, int(channels * config.mlp_ratio), config.mlp_act_layer, config.mlp_drop_rate)
            if has_mlp
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, H, W, C) to the same shape."""
        x = x + self.drop_path(self.op(self.norm(x)))
        if self.norm2 is not None and self.mlp is not None:
            x = x + self.drop_path(self.mlp(self.norm2(x)))
        return x


class PatchMerging(nn.Module):
    """(B, H, W, C) to half the size and twice the channels: neighbours side by side, norm, linear (downsample v1)."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm = LayerNorm(4 * channels)
        self.reduction = nn.Linear(4 * channels, out_channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, H, W, C) to (B, ceil(H/2), ceil(W/2), out); odd sides get a row or column of zeros."""
        x = functional.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        parts = [x[:, row::2, column::2] for row, column in ((0, 0), (1, 0), (0, 1), (1, 1))]
        y: Tensor = self.reduction(self.norm(torch.cat(parts, dim=-1)))
        return y


class Stage(nn.Module):
    """Blocks, then the way to the next stage."""

    def __init__(self, blocks: list[VSSBlock], downsample: nn.Module) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.downsample = downsample


class VMambaEncoder(MarkedParameters, ImageModel):
    """Stem and stages; parameter names are upstream's."""

    no_weight_decay = ("pos_embed",)
    ends = ("classifier.", "outnorm")

    def __init__(self, config: VMambaConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.widths
        self.patch_embed = _stem(config)
        rates = torch.linspace(0, config.drop_path_rate, sum(config.depths), device="cpu").tolist()
        self.layers = nn.ModuleList()
        for index, (channels, depth) in enumerate(zip(widths, config.depths, strict=True)):
            blocks = [VSSBlock(config, channels, rates.pop(0)) for _ in range(depth)]
            last = index + 1 == len(widths)
            self.layers.append(
                Stage(
                    blocks,
                    nn.Identity() if last else _downsample(config.downsample_version, channels, widths[index + 1]),
                )
            )
        rows, columns = (side // config.patch_size for side in config.image_size)
        self.pos_embed = nn.Parameter(torch.zeros(1, widths[0], rows, columns)) if config.posembed else None
        if self.pos_embed is not None:
            nn.init.trunc_normal_(self.pos_embed, std=0.02)
        self.mark_parameters()

    def stages(self, image: Tensor) -> list[Tensor]:
        """Maps (B, h, w, C) of every stage before its downsampling; image (B, 3, H, W), any size. Raises ShapeError."""
        config = self.config
        least = config.patch_size if config.patchembed_version == "v1" else 1
        check_image(image, config.in_chans, "VMamba", least=least)
        x: Tensor = self.patch_embed(image.permute(0, 2, 3, 1).contiguous())
        if self.pos_embed is not None:
            positions = self.pos_embed.permute(0, 2, 3, 1)
            if positions.shape[1:3] != x.shape[1:3]:
                raise ShapeError(
                    "the image has another size than the position embedding",
                    where="VMamba",
                    expected=f"an image of {config.imgsize}",
                    got=tuple(image.shape),
                    way_out="mambasdk_vision.adaptation.adapted(model, imgsize=(H, W)) interpolates it",
                )
            x = x + positions
        maps = []
        for stage in self.layers:
            layer: Any = stage
            x = layer.blocks(x)
            maps.append(x)
            x = layer.downsample(x)
        return maps

    def example_inputs(self) -> dict[str, Tensor]:
        """What a package's golden file is made from: two images of noise."""
        size = self.config.image_size if self.config.posembed else (64, 96)
        return {"image": torch.randn(2, self.config.in_chans, *size, generator=torch.Generator().manual_seed(0))}

    def input_shapes(self) -> dict[str, list[int | str]]:
        """Batch and size are free, but for a position embedding."""
        size: list[int | str] = list(self.config.image_size) if self.config.posembed else ["H", "W"]
        return {"image": ["B", self.config.in_chans, *size]}

    def converted(self, name: str, value: Tensor | None, old: Any, *, legacy: bool) -> Tensor | None:
        """See ImageModel: the position embedding is interpolated."""
        if name == "pos_embed" and value is not None and self.pos_embed is not None:
            return resize_grid(value, *self.pos_embed.shape[2:])
        return value


class VMambaClassifier(VMambaEncoder, ImageClassifier):
    """Image (B, 3, H, W) to logits (B, classes): norm, mean over the last map, linear."""

    def __init__(self, config: VMambaConfig) -> None:
        super().__init__(config)
        width = config.widths[-1]
        self.classifier = nn.ModuleDict({"norm": LayerNorm(width), "head": nn.Linear(width, config.num_classes)})
        _init_linear(self)

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


class VMambaFeatures(VMambaEncoder):
    """Image to the maps of the stages in out_indices, each through its own norm."""

    def __init__(self, config: VMambaConfig) -> None:
        super().__init__(config)
        self.feature_outputs = tuple(f"p{index + 2}" for index in config.out_indices)
        for index in config.out_indices:
            self.add_module(f"outnorm{index}", LayerNorm(config.widths[index]))
        _init_linear(self)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Maps (B, C, h, w) of strides 4, 8, 16, 32, as out_indices has them; image (B, 3, H, W). Raises ShapeError."""
        maps = self.stages(image)
        return [
            self.get_submodule(f"outnorm{index}")(maps[index]).permute(0, 3, 1, 2) for index in self.config.out_indices
        ]

    def native_outputs(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """`p2` for stage 0 to `p5` for stage 3."""
        return dict(zip(self.feature_outputs, self(inputs["image"]), strict=True))


def build(config: VMambaConfig) -> VMambaClassifier | VMambaFeatures:
    """The module of a configuration, freshly initialised; also on the meta device."""
    return VMambaFeatures(config) if config.out_indices else VMambaClassifier(config)


def _stem(config: VMambaConfig) -> nn.Sequential:
    """(B, H, W, 3) to (B, h, w, C). The Identity modules keep upstream's numbering of parameters."""
    width, patch = config.widths[0], config.patch_size

    def norm(channels: int) -> nn.Module:
        return LayerNorm(channels) if config.patch_norm else nn.Identity()

    if config.patchembed_version == "v1":
        return nn.Sequential(MapConv2d(config.in_chans, width, patch, stride=patch), nn.Identity(), norm(width))
    stride = patch // 2
    first = MapConv2d(config.in_chans, width // 2, stride + 1, stride=stride, padding=1)
    second = MapConv2d(width // 2, width, stride + 1, stride=stride, padding=1)
    between = [nn.Identity(), norm(width // 2), nn.Identity(), nn.GELU()]
    return nn.Sequential(first, *between, second, nn.Identity(), norm(width))


def _downsample(version: str, channels: int, out_channels: int) -> nn.Module:
    if version == "v1":
        return PatchMerging(channels, out_channels)
    if version == "none":
        return nn.Identity()
    kernel, padding = (2, 0) if version == "v2" else (3, 1)
    conv = MapConv2d(channels, out_channels, kernel, stride=2, padding=padding)
    return nn.Sequential(nn.Identity(), conv, nn.Identity(), LayerNorm(out_channels))


def _init_linear(model: nn.Module) -> None:
    """Every linear layer normal with deviation 0.02, biases zero; convolutions keep torch's (arXiv 2401.10166)."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
