"""EfficientVMamba: two stages of scans beside convolutions, then inverted residuals; logits, or maps of every stage."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mambasdk.nn import DropPath, LayerNorm
from mambasdk_vision.families.efficientvmamba.config import EfficientVMambaConfig
from mambasdk_vision.families.efficientvmamba.es2d import ES2D
from mambasdk_vision.nn import channel_first, channel_last
from mambasdk_vision.nn.downsampling import PatchMerging
from mambasdk_vision.nn.mlp import Mlp
from mambasdk_vision.nn.stages import Stage, StagedClassifier, StagedEncoder, StageMaps, init_linear
from mambasdk_vision.nn.stems import patch_stem

_SCANNING_STAGES = 2
_EXPANSION = 4  # of an inverted residual
_SQUEEZE = 8  # channels for each of the bottleneck of squeeze and excitation


class MapExcitation(nn.Module):
    """x times a weight for each channel, from the mean of the map's normalised pixels (arXiv 1709.01507)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = LayerNorm(channels)
        self.global_reduce = nn.Linear(channels, channels // _SQUEEZE)
        self.act = nn.GELU()
        self.channel_select = nn.Linear(channels // _SQUEEZE, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, H, W, C) to the same shape."""
        mean = self.norm(x).mean(dim=(1, 2), keepdim=True)
        return x * torch.sigmoid(self.channel_select(self.act(self.global_reduce(mean))))


class EVSSBlock(nn.Module):
    """`x += drop(se(op(norm(x))) + se(conv_branch(norm(x))))`, one `se` for both; then an MLP where there is one."""

    def __init__(self, channels: int, drop_path: float, mlp_ratio: float = 0.0) -> None:
        super().__init__()
        self.norm = LayerNorm(channels)
        self.op = ES2D(channels)
        self.conv_branch = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels),
            nn.BatchNorm2d(channels),
            nn.GELU(),
            nn.Conv2d(channels, channels, 1),
        )
        self.se = MapExcitation(channels)
        self.drop_path = DropPath(drop_path)
        self.norm2 = LayerNorm(channels) if mlp_ratio > 0 else None
        self.mlp = Mlp(channels, int(channels * mlp_ratio)) if mlp_ratio > 0 else None

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, H, W, C) to the same shape."""
        v = self.norm(x)
        near = channel_last(self.conv_branch(channel_first(v)))
        x = x + self.drop_path(self.se(self.op(v)) + self.se(near))
        if self.norm2 is not None and self.mlp is not None:
            x = x + self.drop_path(self.mlp(self.norm2(x)))
        return x


class ChannelExcitation(nn.Module):
    """x (B, C, H, W) times a weight for each channel, from the mean of its pixels (arXiv 1709.01507)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_reduce = nn.Conv2d(channels, channels // _SQUEEZE, 1)
        self.act = nn.ReLU()
        self.conv_expand = nn.Conv2d(channels // _SQUEEZE, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, C, H, W) to the same shape."""
        mean = x.mean(dim=(2, 3), keepdim=True)
        return x * torch.sigmoid(self.conv_expand(self.act(self.conv_reduce(mean))))


class InvertedResidual(nn.Module):
    """x (B, C, H, W) plus what a wide depthwise convolution makes of it (arXiv 1801.04381, 1905.02244)."""

    def __init__(self, channels: int, drop_path: float) -> None:
        super().__init__()
        wide = _EXPANSION * channels
        self.conv_pw = nn.Sequential(nn.Conv2d(channels, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU())
        depthwise = nn.Conv2d(wide, wide, 3, padding=1, groups=wide, bias=False)
        self.conv_dw = nn.Sequential(depthwise, nn.BatchNorm2d(wide), nn.ReLU())
        self.se = ChannelExcitation(wide)
        self.conv_pw2 = nn.Sequential(nn.Conv2d(wide, channels, 1, bias=False), nn.BatchNorm2d(channels))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, C, H, W) to the same shape."""
        y: Tensor = self.drop_path(self.conv_pw2(self.se(self.conv_dw(self.conv_pw(x)))))
        return x + y


class ConvStage(nn.Module):
    """Inverted residuals, then the way to the next stage, under upstream's numbers: 1 to n, and n + 2 for the way."""

    def __init__(self, blocks: Sequence[nn.Module], downsample: nn.Module | None) -> None:
        super().__init__()
        self.depth = len(blocks)
        for number, block in enumerate(blocks, start=1):
            self.add_module(str(number), block)
        if downsample is not None:
            self.add_module(str(self.depth + 2), downsample)
        self.has_downsample = downsample is not None

    def blocks(self, x: Tensor) -> Tensor:
        """Map x (B, H, W, C) to the same shape."""
        x = channel_first(x)
        for number in range(1, self.depth + 1):
            x = self.get_submodule(str(number))(x)
        return channel_last(x)

    def downsample(self, x: Tensor) -> Tensor:
        """Map x (B, H, W, C) to the map of the next stage; x itself in the last stage."""
        if not self.has_downsample:
            return x
        y: Tensor = self.get_submodule(str(self.depth + 2))(x)
        return y


class EfficientVMambaEncoder(StagedEncoder):
    """Stem and stages; parameter names are upstream's."""

    where = "EfficientVMamba"

    def __init__(self, config: EfficientVMambaConfig) -> None:
        super().__init__(config)
        widths = config.widths
        self.least = config.patch_size
        self.patch_embed = patch_stem(config.in_chans, widths[0], config.patch_size, config.patch_norm)
        rates = torch.linspace(0, config.drop_path_rate, sum(config.depths), device="cpu").tolist()
        self.layers = nn.ModuleList()
        for index, (channels, depth) in enumerate(zip(widths, config.depths, strict=True)):
            of_stage = [rates.pop(0) for _ in range(depth)]
            merging = PatchMerging(channels, widths[index + 1]) if index + 1 < len(widths) else None
            if index < _SCANNING_STAGES:
                blocks = [EVSSBlock(channels, rate, config.mlp_ratio) for rate in of_stage]
                self.layers.append(Stage(blocks, merging or nn.Identity()))
            else:
                self.layers.append(ConvStage([InvertedResidual(channels, rate) for rate in of_stage], merging))


class EfficientVMambaClassifier(StagedClassifier, EfficientVMambaEncoder):
    """Image (B, 3, H, W) to logits (B, classes)."""

    def __init__(self, config: EfficientVMambaConfig) -> None:
        super().__init__(config)
        init_linear(self)


class EfficientVMambaFeatures(StageMaps, EfficientVMambaEncoder):
    """Image to the maps of the stages in out_indices."""

    def __init__(self, config: EfficientVMambaConfig) -> None:
        super().__init__(config)
        init_linear(self)


def build(config: EfficientVMambaConfig) -> EfficientVMambaClassifier | EfficientVMambaFeatures:
    """The module of a configuration, freshly initialised; also on the meta device."""
    return EfficientVMambaFeatures(config) if config.out_indices else EfficientVMambaClassifier(config)
