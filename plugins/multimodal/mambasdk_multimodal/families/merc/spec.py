"""The family `merc`: its models by name. The authors published neither code nor sizes; these are of our reading."""

from __future__ import annotations

from typing import Any

from mambasdk.plugins import FamilySpec

# Widths of the public feature files: RoBERTa-large, openSMILE, DenseNet of faces.
_IEMOCAP: dict[str, Any] = {"in_dims": [1024, 1582, 342], "n_speakers": 2, "n_classes": 6}
_MELD: dict[str, Any] = {"in_dims": [1024, 300, 342], "n_speakers": 9, "n_classes": 7}

FAMILY = FamilySpec(
    name="merc",
    summary="Broad Mamba, emotions in conversations, our implementation of the published idea (arXiv 2404.17858)",
    config=".config:MERCConfig",
    factory=".model:build",
    variants={
        **{
            f"merc-iemocap-{width}x{layers}": {"d_model": width, "n_layer": layers, **_IEMOCAP}
            for layers in (1, 2, 3)
            for width in (128, 192, 256)
        },
        "merc-meld-192x1": {"d_model": 192, "n_layer": 1, **_MELD},
    },
    default_variant="merc-iemocap-192x1",
    head="emotion_recognition",
    processors={"conversation": {"kind": "conversation"}},
    tiny={
        "d_model": 12,
        "in_dims": [9, 7, 5],
        "d_state": 4,
        "bls_groups": 2,
        "bls_group_width": 3,
        "bls_enhance": 5,
        "n_speakers": 3,
        "n_classes": 4,
    },
    causal=False,
    fields={"num_classes": "n_classes"},
)
