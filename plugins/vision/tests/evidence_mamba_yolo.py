"""Mamba-YOLO: the authors' golden tensors from image to suppressed boxes and loss, published counts and shapes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from detection_golden import by_corners, sizes, suppressed
from safetensors.torch import load_file
from torch import Tensor
from vision_golden import Taps

import mambasdk
from mambasdk.testing import families, golden
from mambasdk.testing.golden import Golden, Recorded, Tensors, Tolerance
from mambasdk_vision.families.mamba_yolo.assignment import assign
from mambasdk_vision.nn.boxes import cells

_SCALE = ("nc", "depth", "width", "max_channels", "reg_max", "imgsz")
_ODSS = {"lsblock": "lsblock", "proj": "proj_conv", "rgblock": "mlp", "ss2d": "op"}


def checkpoint(folder: Path, _: str) -> tuple[Any, Tensors]:
    config = golden.config(folder)
    return {name: config[name] for name in _SCALE}, load_file(folder / "weights.safetensors")


def run(model: Any, given: Recorded) -> Tensors:
    layers = [name for name in given if name.startswith("mid.model.")] or ["mid.model.0", "mid.model.7", "mid.model.14"]
    places = {name: (name.removeprefix("mid."), "out") for name in layers}
    places |= {f"mid.odss.{name}": (f"model.1.{part}", "out") for name, part in _ODSS.items()}
    taps = Taps(model, places)
    image = given["input"]
    raw = model(image)
    found = {f"out.raw{level}": map_ for level, map_ in enumerate(raw)} | taps.seen
    found["mid.odss.ss2d"] = found["mid.odss.ss2d"].permute(0, 3, 1, 2)  # maps of the scan are channel-last
    boxes, scores = model.decode(raw)
    found["out.pred"] = torch.cat([boxes, scores], dim=-1).transpose(1, 2)
    objects = torch.cat([given["loss.gt_cls"].to(boxes)[:, None], given["loss.gt_xywhn"]], dim=1)
    loss = model.loss(raw, [objects])
    found["loss.total"] = loss["loss"][None]
    found["loss.box_cls_dfl"] = torch.stack([loss[part] for part in ("box", "cls", "dfl")])
    found |= _assigned(model, raw, boxes, scores, objects, image.shape[-2:])
    found["nms.det"] = suppressed(boxes[0], scores[0], given.config["nms"])
    return found


def _assigned(model: Any, raw: Any, boxes: Tensor, scores: Tensor, objects: Tensor, size: Any) -> Tensors:
    cell, stride = cells(raw, model.strides)
    height, width = size
    corners = by_corners(objects[:, 1:] * objects.new_tensor([width, height, width, height]))
    kinds = objects[:, 0].long()
    one = assign(scores[0], by_corners(boxes[0]), (cell + 0.5) * stride, kinds, corners)
    return {
        "tal.target_bboxes": corners[one.objects][None],
        "tal.target_scores": one.scores[None],
        "tal.target_gt_idx": one.objects.int()[None],
        "tal.fg_mask": one.found.to(torch.uint8)[None],
    }


WHOLE = Golden(
    system="mamba-yolo",
    checkpoint=checkpoint,
    run=run,
    tolerance=Tolerance(1e-5, "largest"),
    double=Tolerance(1e-5, "largest"),
)


def shapes() -> dict[str, list[int]]:
    """Those of T; a scan's projections, 1 x 1 convolutions in the authors' files, are linear layers here."""
    published = golden.facts("mamba-yolo/state_dict_shapes.json")["state_dict"]
    linear = (".op.in_proj.weight", ".ss2d.0.in_proj.weight", ".out_proj.weight")
    return {name: shape[:2] if name.endswith(linear) else shape for name, (shape, _) in published.items()}


EVIDENCE = (
    families.Evidence(
        "mamba_yolo",
        goldens=[WHOLE],
        dear=["test_compiled_model_takes_any_size", "test_exported_model_takes_any_batch_and_length"],
        forms={
            "deep": {"depth": 0.5, "num_classes": 1},
            "many classes": {"num_classes": 130, "reg_max": 16},
        },
        counts={  # arXiv 2406.05835, of its configurations
            "mamba-yolo-t": 6_131_704,
            "mamba-yolo-b": 21_828_000,
            "mamba-yolo-l": 57_631_024,
        },
        shapes={"mamba-yolo-t": shapes},
        inputs=sizes,
    ),
)


# ---- another set of the same layout ----

_CONFIG: dict[str, Any] = {
    "nc": 3,
    "depth": 0.4,
    "width": 0.0625,
    "max_channels": 512,
    "reg_max": 8,
    "imgsz": [96, 64],
    "nms": {"conf_thres": 0.004, "iou_thres": 0.6, "multi_label": False, "max_det": 20},
}
_OBJECTS = [[2, 0.4, 0.3, 0.5, 0.3], [0, 0.7, 0.75, 0.4, 0.4], [0, 0.72, 0.7, 0.35, 0.5], [1, 0.1, 0.1, 0.05, 0.02]]


def write_golden(root: Path) -> None:
    """The folder `mamba-yolo` of another size, from our own model."""
    folder = root / "mamba-yolo"
    torch.manual_seed(8)
    own = {name: _CONFIG[name] for name in _SCALE if name != "nc"}
    model: Any = golden.scatter(mambasdk.create_model("mamba_yolo", num_classes=_CONFIG["nc"], **own), 8, 0.05)
    golden.write(folder, "config.json", _CONFIG)
    golden.write(folder, "weights.safetensors", model.state_dict())
    objects = torch.tensor(_OBJECTS)
    inputs = {"input": torch.randn(1, 3, 96, 64), "loss.gt_cls": objects[:, 0], "loss.gt_xywhn": objects[:, 1:]}
    golden.write(folder, "io.safetensors", golden.record(WHOLE, model, inputs, _CONFIG))
