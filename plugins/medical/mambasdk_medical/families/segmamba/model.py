"""SegMamba: an encoder of gated convolutions and tri-oriented scans, and UNETR's decoder of residual convolutions."""

from __future__ import annotations

import itertools

from torch import Tensor, nn
from torch.nn import functional

from mambasdk.nn import LayerNorm
from mambasdk_medical.families.segmamba.config import SegMambaConfig
from mambasdk_medical.families.segmamba.mixer import TriOrientedMamba
from mambasdk_medical.model import MedicalSegmenter
from mambasdk_medical.nn.precision import without_autocast
from mambasdk_medical.nn.spatial import InstanceNorm, convolution, tokens, untokens
from mambasdk_medical.nn.unetr import NamedConv, UnetrBlock, UnetrUp


class GatedConvs(nn.Module):
    """`x + c(b(b(x)) + a(x))`: b two convolutions of side 3, a and c one of side 1, each with norm and ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.proj = convolution(3, channels, channels, 3, bias=True)
        self.proj2 = convolution(3, channels, channels, 3, bias=True)
        self.proj3 = convolution(3, channels, channels, 1, bias=True)
        self.proj4 = convolution(3, channels, channels, 1, bias=True)
        self.norm = InstanceNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, C, D, H, W) to the same shape."""
        y = functional.relu(self.norm(self.proj(x)))
        y = functional.relu(self.norm(self.proj2(y)))
        y = y + functional.relu(self.norm(self.proj3(x)))
        return x + functional.relu(self.norm(self.proj4(y)))


class MambaLayer(nn.Module):
    """`x + mamba(norm(x))` of a map's voxels, in float32 under autocast."""

    def __init__(self, channels: int, num_slices: int, d_state: int) -> None:
        super().__init__()
        self.norm = LayerNorm(channels)
        self.mamba = TriOrientedMamba(channels, num_slices, d_state)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, C, D, H, W) to the same shape."""
        y = without_autocast(lambda wide: self.mamba(self.norm(tokens(wide))), x)
        return x + untokens(y, x.shape[2:])


class ChannelMlp(nn.Module):
    """Two linear layers of each voxel with GELU between."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = convolution(3, channels, hidden, 1, bias=True)
        self.fc2 = convolution(3, hidden, channels, 1, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, C, D, H, W) to the same shape."""
        y: Tensor = self.fc2(functional.gelu(self.fc1(x)))
        return y


class MambaEncoder(nn.Module):
    """Volume to the map of each stage: halving, gated convolutions, Mamba layers; each comes out by norm and MLP."""

    def __init__(self, config: SegMambaConfig) -> None:
        super().__init__()
        dims = tuple(config.dims)
        stem = nn.Sequential(convolution(3, config.in_channels, dims[0], 7, 2, bias=True))
        self.downsample_layers = nn.ModuleList([stem])
        for before, channels in itertools.pairwise(dims):
            halve = convolution(3, before, channels, 2, 2, padding=0, bias=True)
            self.downsample_layers.append(nn.Sequential(InstanceNorm(before), halve))
        self.gscs = nn.ModuleList(GatedConvs(channels) for channels in dims)
        self.stages = nn.ModuleList(
            nn.Sequential(*(MambaLayer(channels, slices, config.d_state) for _ in range(depth)))
            for channels, slices, depth in zip(dims, config.num_slices, config.depths, strict=True)
        )
        self.norms = nn.ModuleList(InstanceNorm(channels) for channels in dims)
        self.mlps = nn.ModuleList(ChannelMlp(channels, 2 * channels) for channels in dims)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Image (B, C, D, H, W) to maps of 1/2, 1/4, … of its size, largest first."""
        maps: list[Tensor] = []
        parts = zip(self.downsample_layers, self.gscs, self.stages, self.norms, self.mlps, strict=True)
        for halve, gate, stage, norm, mlp in parts:
            x = stage(gate(halve(x)))
            maps.append(mlp(norm(x)))
        return maps


class SegMamba(nn.Module, MedicalSegmenter):
    """Image (B, C, D, H, W) to logits (B, classes, D, H, W); see SegMambaConfig for what extents divide.

    A reading: the published facts give the layers and the number of parameters, 67,416,196 from four channels to four
    classes; that the image and each stage's map go through a residual block into the decoder, and the deepest through
    one of hidden_size channels, is UNETR's form (arXiv 2103.10504), and has exactly that number. Source: arXiv
    2401.13560.
    """

    config: SegMambaConfig

    def __init__(self, config: SegMambaConfig) -> None:
        super().__init__()
        self.config = config
        self.vit = MambaEncoder(config)
        widths = (config.in_channels, *config.dims, config.hidden_size)
        last = len(widths) - 1
        for level in range(1, last + 1):  # encoder1 sees the image, encoder5 the deepest map
            setattr(self, f"encoder{level}", UnetrBlock(3, widths[level - 1], widths[level]))
        for level in range(last, 1, -1):
            setattr(self, f"decoder{level}", UnetrUp(3, widths[level], widths[level - 1]))
        self.decoder1 = UnetrBlock(3, widths[1], widths[1])
        self.out = nn.ModuleDict({"conv": NamedConv(3, widths[1], config.num_classes, 1, bias=True)})

    @property
    def patch_divisor(self) -> tuple[int, ...]:
        """Of every axis, as often as the encoder halves."""
        return (self.config.divisor,) * 3

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, classes, D, H, W) of image (B, C, D, H, W). Raises ShapeError."""
        self.check_image(image)
        maps = [image, *self.vit(image)]
        skips = [self.get_submodule(f"encoder{level}")(x) for level, x in enumerate(maps, 1)]
        x = skips.pop()
        for level in range(len(maps), 1, -1):
            x = self.get_submodule(f"decoder{level}")(x, skips.pop())
        logits: Tensor = self.out["conv"](self.decoder1(x))
        return logits


def build(config: SegMambaConfig) -> SegMamba:
    """The module of a configuration, freshly initialised; also on the meta device."""
    return SegMamba(config)
