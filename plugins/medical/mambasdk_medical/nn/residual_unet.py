"""The residual U-Net of nnU-Net's shape in two and three dimensions, which the token U-Nets put their layers into."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from mambasdk.errors import ShapeError
from mambasdk_medical.model import MedicalSegmenter
from mambasdk_medical.nn.residual_blocks import blocks, convolution
from mambasdk_medical.nn.residual_unet_config import ResidualUNetConfig


class ResidualEncoder(nn.Module):
    """Image (B, C, *S) to the maps of all stages, full resolution first; parameters `stem.*` and `stages.*`."""

    def __init__(self, config: ResidualUNetConfig) -> None:
        super().__init__()
        widths, kernels = config.features_per_stage, config.kernel_sizes
        self.stem = blocks(config.in_channels, widths[0], kernels[0], count=config.encoder_blocks[0])
        inputs = (widths[0], *widths)
        self.stages = nn.Sequential(
            *(
                blocks(inputs[stage], width, kernels[stage], config.strides[stage], count=config.encoder_blocks[stage])
                for stage, width in enumerate(widths)
            )
        )

    def after(self, stage: int, x: Tensor) -> Tensor:
        """What follows a stage, on its map (B, C, *S): nothing, or a layer of a subclass."""
        return x

    def forward(self, image: Tensor) -> list[Tensor]:
        """The map (B, width, *size) of every stage."""
        x, maps = self.stem(image), []
        for index, stage in enumerate(self.stages):
            x = self.after(index, stage(x))
            maps.append(x)
        return maps


class Upsample(nn.Module):
    """Nearest up-sampling of (B, inputs, *S) to another size, and a convolution of size 1, `conv.*`.

    The convolution comes first: it sees one position at a time, so the result is the same and the work a fraction.
    """

    def __init__(self, inputs: int, outputs: int, dims: int) -> None:
        super().__init__()
        self.conv = convolution(inputs, outputs, (1,) * dims)

    def forward(self, x: Tensor, size: Sequence[int]) -> Tensor:
        """Map x (B, inputs, *S) to (B, outputs, *size)."""
        x = self.conv(x)
        return x if tuple(x.shape[2:]) == tuple(size) else functional.interpolate(x, tuple(size), mode="nearest")


class ResidualDecoder(nn.Module):
    """Maps of the stages to logits; parameters `upsample_layers.*`, `stages.*`, `seg_layers.*`, the deepest step first.

    Every step joins the map of its stage to what comes from below; in two dimensions the last one, at full resolution,
    does not (upstream's nets leave it out). All steps have a layer of logits, whether or not it is trained.
    """

    def __init__(self, config: ResidualUNetConfig) -> None:
        super().__init__()
        widths, dims = config.features_per_stage, config.spatial_dims
        self.joined = [dims == 3 or stage > 0 for stage in reversed(range(len(widths) - 1))]
        ups, stages, heads = [], [], []
        for step, joined in enumerate(self.joined):
            stage = len(widths) - 2 - step
            width = widths[stage]
            ups.append(Upsample(widths[stage + 1], width, dims))
            count = config.decoder_blocks[step]
            stages.append(blocks(2 * width if joined else width, width, config.kernel_sizes[stage], count=count))
            heads.append(convolution(width, config.num_classes, (1,) * dims))
        self.upsample_layers = nn.ModuleList(ups)
        self.stages = nn.ModuleList(stages)
        self.seg_layers = nn.ModuleList(heads)

    def forward(self, maps: list[Tensor], every_step: bool = False) -> list[Tensor]:
        """Logits at full resolution; with every_step those of coarser steps behind them. Takes the maps out of the list,
        so that each is free when its step is done.
        """
        x, logits = maps.pop(), []
        last = len(self.joined) - 1
        for step, joined in enumerate(self.joined):
            skip = maps.pop()
            x = self.upsample_layers[step](x, skip.shape[2:])
            x = torch.cat([x, skip], 1) if joined else x
            del skip
            x = self.stages[step](x)
            if every_step or step == last:
                logits.append(self.seg_layers[step](x))
        return logits[::-1]


class ResidualUNet(nn.Module, MedicalSegmenter):
    """Image (B, C, *S) to logits (B, classes, *S), S a multiple of `patch_divisor`.

    Maps are channel-first. Source: arXiv 2401.04722, the frame of its networks; He-normal convolutions.
    """

    config: ResidualUNetConfig

    def __init__(self, config: ResidualUNetConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = self.make_encoder(config)
        self.decoder = ResidualDecoder(config)

    def make_encoder(self, config: ResidualUNetConfig) -> ResidualEncoder:
        """The encoder; a subclass has its own."""
        return ResidualEncoder(config)

    def bottleneck(self, x: Tensor) -> Tensor:
        """What is done to the deepest map (B, C, *S): nothing, or a layer of a subclass."""
        return x

    @property
    def patch_divisor(self) -> tuple[int, ...]:
        """The product of all strides, by axis."""
        return self.config.divisor

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, classes, *S) of image (B, C, *S). Raises ShapeError."""
        logits: Tensor = self.decoder(self._maps(image))[0]
        return logits

    def training_outputs(self, image: Tensor) -> list[Tensor]:
        """Logits of every step of the decoder, full resolution first, down to the second deepest stage's.

        Without deep supervision those at full resolution alone. Raises ShapeError.
        """
        logits: list[Tensor] = self.decoder(self._maps(image), self.config.deep_supervision)
        return logits

    def _maps(self, image: Tensor) -> list[Tensor]:
        self.check_image(image)
        maps: list[Tensor] = self.encoder(image)
        maps[-1] = self.bottleneck(maps[-1])
        return maps

    def check_image(self, image: Tensor) -> None:
        """Raises ShapeError for what is not (B, C, *S), S divisible, of two deepest positions, and the patch's size
        where the network takes no other.
        """
        super().check_image(image)
        size, patch, where = tuple(image.shape[2:]), tuple(self.config.patch_size), type(self).__name__
        if self.config.fixed_size and size != patch:
            raise ShapeError(
                "the image is not of the plan's patch, whose size layers of channel tokens fix",
                where=where,
                expected=f"(B, {self.config.in_channels}, {', '.join(map(str, patch))})",
                got=tuple(image.shape),
                way_out="predict it in tiles of the patch",
            )
        if size == self.patch_divisor:
            raise ShapeError(
                "the image is too small: its deepest map has one position, over which nothing can be normalised",
                where=where,
                expected=f"two times {self.patch_divisor} on one axis",
                got=size,
                way_out="pad the image",
            )
