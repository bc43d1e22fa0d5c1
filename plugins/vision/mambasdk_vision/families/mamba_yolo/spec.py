"""The family `mamba_yolo`: its models by name."""

from __future__ import annotations

from typing import Any

from mambasdk.plugins import FamilySpec

# As YOLO prepares images: kept proportions on grey, samples from 0 to 1.
LETTERBOX: dict[str, Any] = {
    "kind": "image",
    "size": 640,
    "resize": "letterbox",
    "interpolation": "bilinear",
    "mean": [0.0, 0.0, 0.0],
    "std": [1.0, 1.0, 1.0],
}


def _scale(depth: float, width: float, max_channels: int = 1024) -> dict[str, Any]:
    return {"depth": depth, "width": width, "max_channels": max_channels}


FAMILY = FamilySpec(
    name="mamba_yolo",
    summary="Mamba-YOLO, objects in images by blocks of four-route scans (arXiv 2406.05835)",
    config=".config:MambaYoloConfig",
    factory=".model:build",
    importer=".checkpoint:import_mamba_yolo",
    variants={
        # Published scales (arXiv 2406.05835).
        "mamba-yolo-t": _scale(0.33, 0.25),
        "mamba-yolo-b": _scale(0.33, 0.5),
        "mamba-yolo-l": _scale(0.67, 0.75, 768),
        # What the bare name means: it trains on two cores.
        "mamba-yolo-mini": {**_scale(0.33, 0.0625), "imgsz": 160},
    },
    default_variant="mamba-yolo-mini",
    head="object_detection",
    processors={"image": LETTERBOX},
    tiny={"depth": 0.1, "width": 0.03125, "num_classes": 3, "reg_max": 4, "imgsz": 64},
    fields={"image_size": "imgsz"},
    causal=False,
)
