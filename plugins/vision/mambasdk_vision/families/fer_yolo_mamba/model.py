"""FER-YOLO-Mamba: CSPDarknet, the neck of dual-branch blocks, and YOLOX's decoupled end with its stems applied."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mambasdk_vision.detector import Detector, check_targets
from mambasdk_vision.families.fer_yolo_mamba.config import FerYoloMambaConfig
from mambasdk_vision.families.fer_yolo_mamba.darknet import CSPDarknet
from mambasdk_vision.families.fer_yolo_mamba.head import DecoupledHead
from mambasdk_vision.families.fer_yolo_mamba.loss import decode_boxes, detection_loss
from mambasdk_vision.families.fer_yolo_mamba.neck import Neck
from mambasdk_vision.nn.boxes import cells, places
from mambasdk_vision.nn.conv_norm import channels_last
from mambasdk_vision.nn.routed_scan import RoutedScan

_HIDDEN = 256  # channels of the end before scaling
_UPSTREAM_STRIDES = (8, 16, 32)
_PRIOR = 0.01  # what a place says of objects and classes before training (arXiv 1708.02002)


class FerYoloMamba(Detector):
    """Image (B, 3, H, W), H and W multiples of 32, to raw maps of strides 16, 16 and 32 (arXiv 2405.01828).

    `backbone` is the neck, which holds the encoder, as upstream calls them.
    """

    strides = (16, 16, 32)
    ends = ("head.cls_preds.",)
    where = "FerYoloMamba"

    def __init__(self, config: FerYoloMambaConfig) -> None:
        super().__init__()
        self.config = config
        darknet = CSPDarknet(config.in_chans, config.depth, config.width)
        low, middle, high = darknet.widths
        self.backbone = Neck((low, middle, high), darknet)
        # What comes out of the second and third block has twice the channels of their levels.
        hidden = int(_HIDDEN * config.width)
        self.head = DecoupledHead((low, 2 * low, 2 * middle), hidden, config.num_classes)
        self.loss_strides = _UPSTREAM_STRIDES if config.upstream_strides else self.strides
        if config.upstream_init:
            _init_as_upstream(self)
        else:
            _init_ends(self.head.obj_preds)
            _init_ends(self.head.cls_preds)
        if config.upstream_groups:
            _freeze_scans(self)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Raw maps (B, 5 + classes, h, w); image (B, 3, H, W). Raises ShapeError, DtypeError."""
        self.check_image(image)
        raw: list[Tensor] = self.head(self.backbone(channels_last(image)))
        return raw

    def decode(self, raw: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """See Detector: a score is the probability of an object times that of the class."""
        rows = places(raw)
        boxes = decode_boxes(rows, *cells(raw, self.strides))
        return boxes, rows[..., 4:5].sigmoid() * rows[..., 5:].sigmoid()

    def loss(self, raw: Sequence[Tensor], targets: Sequence[Tensor]) -> dict[str, Tensor]:
        """See Detector: `loss`, and its parts `box`, `obj` and `cls`."""
        check_targets(targets, len(raw[0]), self.classes, self.where)
        height, width = (side * self.strides[0] for side in raw[0].shape[2:])
        return detection_loss(raw, targets, self.loss_strides, (height, width))

    def draw_classes(self) -> None:
        """See Detector: the last layer of every level."""
        for layer in self.head.cls_preds:
            layer.reset_parameters()  # type: ignore[operator]
        if self.config.upstream_init:
            _init_as_upstream(self.head.cls_preds)
        else:
            _init_ends(self.head.cls_preds)


def build(config: FerYoloMambaConfig) -> FerYoloMamba:
    """The module of a configuration, freshly initialised; also on the meta device."""
    return FerYoloMamba(config)


@torch.no_grad()
def _init_ends(layers: nn.ModuleList) -> None:
    """Biases by which every place is nearly sure of nothing: nearly all are right at once, and few have to learn."""
    for layer in layers:
        nn.init.constant_(layer.bias, -math.log((1 - _PRIOR) / _PRIOR))  # type: ignore[arg-type]


@torch.no_grad()
def _init_as_upstream(model: nn.Module) -> None:
    """Convolutions normal with deviation 0.02, norms of batches around 1: upstream's last pass over all modules."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, 0.0, 0.02)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)
            nn.init.zeros_(module.bias)


def _freeze_scans(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, RoutedScan):
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad_(False)
