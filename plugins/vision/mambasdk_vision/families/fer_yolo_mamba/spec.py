"""The family `fer_yolo_mamba`: its models by name."""

from __future__ import annotations

from mambasdk.plugins import FamilySpec
from mambasdk_vision.processors import IMAGENET

FAMILY = FamilySpec(
    name="fer_yolo_mamba",
    summary="FER-YOLO-Mamba, faces and their expressions by blocks of eight-route scans (arXiv 2405.01828)",
    config=".config:FerYoloMambaConfig",
    factory=".model:build",
    importer=".checkpoint:import_fer_yolo_mamba",
    variants={
        "fer-yolo-mamba-s": {},  # the published size (arXiv 2405.01828)
        # What the bare name means: it trains on two cores.
        "fer-yolo-mamba-mini": {"width": 0.125, "imgsz": 96},
    },
    default_variant="fer-yolo-mamba-mini",
    head="object_detection",
    processors={
        "image": {
            "kind": "image",
            "size": 320,
            "resize": "letterbox",
            "fill": 128,
            "mean": IMAGENET["mean"],
            "std": IMAGENET["std"],
        }
    },
    tiny={"width": 0.125, "num_classes": 3, "imgsz": 64},
    fields={"image_size": "imgsz"},
    causal=False,
)
