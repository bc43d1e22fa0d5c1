"""Mamba-YOLO: backbone of scan blocks, a neck up and down again, and the detecting end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mambasdk_vision.detector import Detector, check_targets
from mambasdk_vision.families.mamba_yolo.blocks import SPPF, ODSSBlock, SimpleStem, VisionClueMerge, XSSBlock
from mambasdk_vision.families.mamba_yolo.config import LEVELS, NECK_SCANS, REPEATS, STRIDES, MambaYoloConfig
from mambasdk_vision.families.mamba_yolo.detect import Detect
from mambasdk_vision.families.mamba_yolo.loss import detection_loss
from mambasdk_vision.nn.boxes import cells, places
from mambasdk_vision.nn.conv_norm import ConvNorm, channels_last, doubled


class MambaYolo(nn.Module, Detector):
    """Image (B, 3, H, W), H and W multiples of 32, to raw maps of strides 8, 16 and 32 (arXiv 2406.05835).

    `model.{i}` are upstream's layers; those without weights (upsampling, concatenation) are identities here.
    """

    strides = STRIDES
    ends = ("model.21.cv3.",)
    where = "MambaYolo"

    def __init__(self, config: MambaYoloConfig) -> None:
        super().__init__()
        self.config = config
        p2, p3, p4, p5 = (config.channels(nominal) for nominal in LEVELS)
        scans = config.repeats(NECK_SCANS)
        layers: dict[int, nn.Module] = {
            0: SimpleStem(config.in_chans, p2),
            2: VisionClueMerge(p2, p3),
            4: VisionClueMerge(p3, p4),
            6: VisionClueMerge(p4, p5),
            8: SPPF(p5),
            11: XSSBlock(p5 + p4, p4, scans),
            14: XSSBlock(p4 + p3, p3, scans),
            15: ConvNorm(p3, p3, 3, stride=2),
            17: XSSBlock(p3 + p4, p4, scans),
            18: ConvNorm(p4, p4, 3, stride=2),
            20: XSSBlock(p4 + p5, p5, scans),
            21: Detect((p3, p4, p5), config.num_classes, config.reg_max),
        }
        for index, (channels, nominal) in enumerate(zip((p2, p3, p4, p5), REPEATS, strict=True)):
            blocks = [ODSSBlock(channels, channels) for _ in range(config.repeats(nominal))]
            layers[2 * index + 1] = blocks[0] if len(blocks) == 1 else nn.Sequential(*blocks)
        self.model = nn.ModuleList(layers.get(index, nn.Identity()) for index in range(22))
        self.detect.init_biases(self.strides)

    @property
    def detect(self) -> Detect:
        """The end, from maps to raw maps."""
        end: Any = self.model[21]
        return end  # type: ignore[no-any-return]

    def features(self, image: Tensor) -> list[Tensor]:
        """The neck's maps (B, C, h, w) of strides 8, 16 and 32; image as in `forward`."""
        self.check_image(image)
        layer = self.model
        p3 = layer[3](layer[2](layer[1](layer[0](channels_last(image)))))
        p4 = layer[5](layer[4](p3))
        p5 = layer[8](layer[7](layer[6](p4)))
        up4 = layer[11](torch.cat([doubled(p5), p4], dim=1))
        out3 = layer[14](torch.cat([doubled(up4), p3], dim=1))
        out4 = layer[17](torch.cat([layer[15](out3), up4], dim=1))
        out5 = layer[20](torch.cat([layer[18](out4), p5], dim=1))
        return [out3, out4, out5]

    def forward(self, image: Tensor) -> list[Tensor]:
        """Raw maps (B, 4 * reg_max + classes, h, w); image (B, 3, H, W). Raises ShapeError, DtypeError."""
        raw: list[Tensor] = self.detect(self.features(image))
        return raw

    def decode(self, raw: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """See Detector: sides at expected distances from the centres of cells."""
        sides, logits = self.detect.split(places(raw))
        corner, stride = cells(raw, self.strides)
        before, after = self.detect.dfl(sides).chunk(2, dim=-1)  # left and top, right and bottom, in cells
        centre = corner + 0.5 + (after - before) / 2
        return torch.cat([centre, before + after], dim=-1) * stride, logits.sigmoid()

    def loss(self, raw: Sequence[Tensor], targets: Sequence[Tensor]) -> dict[str, Tensor]:
        """See Detector: `loss`, and its parts `box`, `cls` and `dfl`."""
        check_targets(targets, len(raw[0]), self.classes, self.where)
        return detection_loss(self.detect, raw, targets, self.strides)

    def draw_classes(self) -> None:
        """See Detector: the last layer of every level."""
        for branch in self.detect.cv3:
            branch[-1].reset_parameters()  # type: ignore[index]
        self.detect.init_class_biases(self.strides)


def build(config: MambaYoloConfig) -> MambaYolo:
    """The module of a configuration, freshly initialised; also on the meta device."""
    return MambaYolo(config)
