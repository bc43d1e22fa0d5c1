"""The family `mambatrack`: its models by name."""

from __future__ import annotations

from mambasdk.plugins import FamilySpec

FAMILY = FamilySpec(
    name="mambatrack",
    summary="MambaTrack's motion predictor for multi-object tracking (arXiv 2408.09178)",
    config=".config:MambaTrackConfig",
    factory=".model:build",
    importer=".checkpoint:import_mambatrack",
    variants={
        "mambatrack-mtp": {},
        # What the unofficial code does otherwise than the paper (docs/tracking.md).
        "mambatrack-mtp-unofficial": {"backward_flip": False, "pool_channels": 128},
    },
    default_variant="mambatrack-mtp",
    head="motion_tracker",
    processors={"detections": {"kind": "detections", "model_input": "deltas"}},
    tiny={"d_model": 16, "n_layer": 2, "d_state": 4, "head_hidden": 8},
    causal=False,
)
