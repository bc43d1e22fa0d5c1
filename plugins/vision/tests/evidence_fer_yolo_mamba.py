"""FER-YOLO-Mamba: the authors' golden tensors of encoder, neck, end, assignment and loss; published counts, shapes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from detection_golden import sizes, suppressed
from safetensors.torch import load_file
from torch import Tensor, nn
from vision_golden import Taps

from mambasdk.testing import families, golden
from mambasdk.testing.golden import Golden, Recorded, Tensors, Tolerance
from mambasdk_vision.families.fer_yolo_mamba.darknet import CSPDarknet
from mambasdk_vision.families.fer_yolo_mamba.head import DecoupledHead
from mambasdk_vision.families.fer_yolo_mamba.loss import assignments, decode_boxes, detection_loss
from mambasdk_vision.families.fer_yolo_mamba.neck import Neck
from mambasdk_vision.nn.boxes import cells, places
from mambasdk_vision.nn.routes import diagonal_routes

_STRIDES, _UPSTREAM = (16, 16, 32), (8, 16, 32)


class Parts(nn.Module):
    """Neck and end of one width, and an encoder of another."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        head, darknet = config["head"], config["darknet"]
        low, middle, high = (config["neck"]["reduce"][1], config["neck"]["lateral"][1], config["neck"]["lateral"][0])
        self.neck = Neck((low, middle, high))
        self.head = DecoupledHead(head["stems_in"], head["hidden"], config["nc"])
        self.darknet = CSPDarknet(3, darknet["depth"], darknet["width"])


def parts(folder: Path, _: str) -> nn.Module:
    model = Parts(golden.config(folder))
    model.load_state_dict(load_file(folder / "weights.safetensors"))
    return model


def run(model: Any, given: Recorded) -> Tensors:
    found: Tensors = {}
    maps = model.darknet(given["in.image"])
    found |= {f"out.darknet.dark{level + 3}": map_ for level, map_ in enumerate(maps)}
    outputs = model.neck.mixed(*(given[f"in.feat{level}"] for level in (1, 2, 3)))
    found |= {f"out.P{level + 3}": map_ for level, map_ in enumerate(outputs)}
    raw = model.head(outputs)
    found |= {f"out.head{level}": map_ for level, map_ in enumerate(raw)}
    return {**found, **_block(model, given), **_routes(), **_decoded(raw, given), **_losses(raw, given)}


def _block(model: Any, given: Recorded) -> Tensors:
    taps = Taps(model.neck.C3_p3, {"mid.block_frm": ("0.frm", "out"), "mid.block_ss2d": ("0.self_attention", "out")})
    out = model.neck.C3_p3(given["mid.block_in_nhwc"].permute(0, 3, 1, 2))
    return {"mid.block_out": out.permute(0, 2, 3, 1), **taps.seen}


def _routes() -> Tensors:
    """What every route reads of a map of 0, 1, …, and the sum when each adds what it read where it read it."""
    order = diagonal_routes(4, 6).long()
    merged = torch.zeros(24).index_add(0, order.flatten(), order.flatten().float())
    return {"scan.arange_4x6_routes": order.float()[None, :, None], "scan.arange_4x6_merged": merged[None, None]}


def _size(given: Recorded) -> tuple[int, int]:
    height, width = given.config["decode"]["input_shape"]
    return height, width


def _decoded(raw: list[Tensor], given: Recorded) -> Tensors:
    height, width = _size(given)
    rows = places(raw)
    boxes = decode_boxes(rows, *cells(raw, _STRIDES))
    share = boxes / boxes.new_tensor([width, height, width, height])
    chances = rows[..., 4:].sigmoid()
    if "nms.det" in given:
        det = _suppressed(boxes[0], chances[0], given)
        theirs = given["nms.det"].double()  # y1, x1, y2, x2, objectness, probability of the class, class
        rows = torch.cat([theirs[:, [1, 0, 3, 2]], theirs[:, 4:5] * theirs[:, 5:6], theirs[:, 6:]], dim=1)
        height, width = given.config["nms"]["image_shape"]
        rows[:, :4] = rows[:, :4].clamp(torch.zeros(4), torch.tensor([width, height, width, height]))
        Tolerance(1e-5, "largest").check(det, rows, "nms.det")
    return {"decode.out": torch.cat([share, chances], dim=-1)}


def _suppressed(boxes: Tensor, chances: Tensor, given: Recorded) -> Tensor:
    """Rows of the head, which cuts boxes off at the border of the original; chances: of an object, of the classes."""
    size, nms = _size(given), given.config["nms"]
    original = nms["image_shape"]
    scale = min(whole / side for whole, side in zip(size, original, strict=True))
    inner = [round(side * scale) for side in original]
    scales = [side / part for side, part in zip(original, inner, strict=True)]
    offsets = [-(whole - part) / 2 * by for whole, part, by in zip(size, inner, scales, strict=True)]
    image = {
        "image_size": np.array(original),
        "image_transform": np.array([scales[1], scales[0], offsets[1], offsets[0]]),
    }
    return suppressed(boxes, chances[:, :1] * chances[:, 1:], nms, image)


def _losses(raw: list[Tensor], given: Recorded) -> Tensors:
    height, width = _size(given)
    theirs = given["loss.gt_cxcywh_cls"]
    objects = torch.cat([theirs[:, 4:], theirs[:, :4] / theirs.new_tensor([width, height, width, height])], dim=1)
    (one,) = assignments(raw, [objects], _STRIDES, (height, width))
    mask = torch.zeros(sum(map_.shape[2] * map_.shape[3] for map_ in raw), dtype=torch.uint8)
    return {
        "loss.total_strides_16_16_32": detection_loss(raw, [objects], _STRIDES, (height, width))["loss"][None],
        "loss.total_strides_8_16_32_upstream": detection_loss(raw, [objects], _UPSTREAM, (height, width))["loss"][None],
        "simota.matched_gt": one.objects.int(),
        "simota.matched_iou": one.overlap,
        "simota.fg_mask": mask.index_fill(0, one.places, 1),
    }


PARTS = Golden(
    system="fer-yolo-mamba",
    model=parts,
    run=run,
    tolerance=Tolerance(1e-5, "largest"),
    double=Tolerance(1e-5, "largest"),
)


def shapes() -> dict[str, list[int]]:
    published = golden.facts("fer-yolo-mamba/state_dict_shapes.json")["state_dict"]
    return {name: shape for name, (shape, _) in published.items()}


EVIDENCE = (
    families.Evidence(
        "fer_yolo_mamba",
        goldens=[PARTS],
        dear=["test_compiled_model_takes_any_size", "test_exported_model_takes_any_batch_and_length"],
        counts={  # arXiv 2405.01828, of the authors' code
            "fer-yolo-mamba-s": {
                "": 10_256_772,
                "backbone.backbone": 4_212_672,
                "backbone.lateral_conv0": 131_584,
                "backbone.reduce_conv1": 65_792,
                "backbone.reduce_conv111": 295_168,
                "backbone.bu_conv2": 295_168,
                "backbone.bu_conv1": 590_336,
                "backbone.C3_p4": 1_066_816,
                "backbone.C3_n4": 1_066_816,
                "backbone.C3_p3": 319_888,
                "backbone.C3_n3": 319_888,
                "head": 1_892_644,
                "head.stems": 115_456,
            }
        },
        shapes={"fer-yolo-mamba-s": shapes},
        inputs=sizes,
    ),
)


# ---- another set of the same layout ----

_CONFIG: dict[str, Any] = {
    "nc": 4,
    "neck": {"lateral": [160, 80], "reduce": [160, 40]},
    "head": {"hidden": 12, "stems_in": [40, 80, 160]},
    "darknet": {"depth": 0.67, "width": 0.0625},
    "decode": {"input_shape": [64, 96]},
    "nms": {"conf_thres": 0.1, "nms_thres": 0.3, "image_shape": [50, 90]},
}
_OBJECTS = [[20.0, 30.0, 18.0, 22.0, 1.0], [70.0, 40.0, 30.0, 40.0, 3.0], [24.0, 34.0, 12.0, 15.0, 0.0]]


def write_golden(root: Path) -> None:
    """The folder `fer-yolo-mamba` of another size, from our own modules."""
    folder = root / "fer-yolo-mamba"
    torch.manual_seed(9)
    model = golden.scatter(Parts(_CONFIG), 9, 0.05)
    golden.write(folder, "config.json", _CONFIG)
    golden.write(folder, "weights.safetensors", model.state_dict())
    inputs = {
        "in.image": torch.randn(1, 3, 64, 32),
        "in.feat1": torch.randn(1, 40, 8, 12),
        "in.feat2": torch.randn(1, 80, 4, 6),
        "in.feat3": torch.randn(1, 160, 2, 3),
        "mid.block_in_nhwc": torch.randn(1, 5, 3, 80),
        "loss.gt_cxcywh_cls": torch.tensor(_OBJECTS),
    }
    golden.write(folder, "io.safetensors", golden.record(PARTS, model, inputs, _CONFIG))
