"""The family `mamba2`: its models by name."""

from __future__ import annotations

from typing import Any

from mambasdk.plugins import FamilySpec

# Shapes of the published checkpoints (state-spaces/mamba). 50277 is the GPT-NeoX-20B vocabulary.
_SHAPES = {"130m": (768, 24), "370m": (1024, 48), "780m": (1536, 48), "1.3b": (2048, 48), "2.7b": (2560, 64)}
_VARIANTS: dict[str, dict[str, Any]] = {
    f"mamba2-{name}": {"d_model": d_model, "n_layer": n_layer, "vocab_size": 50277, "pad_vocab_size_multiple": 16}
    for name, (d_model, n_layer) in _SHAPES.items()
}
# What the bare name means: a model of bytes that learns within minutes on two cores.
_VARIANTS["mamba2-mini"] = {"d_model": 256, "n_layer": 6, "vocab_size": 256, "d_state": 64}

FAMILY = FamilySpec(
    name="mamba2",
    summary="Mamba-2 language model, state space duality (arXiv 2405.21060)",
    config=".config:Mamba2Config",
    factory=".model:build",
    importer=".checkpoint:import_mamba2",
    variants=_VARIANTS,
    default_variant="mamba2-mini",
    head="causal_lm",
    processors={"text": {"kind": "bytes"}},
    hub={name: f"state-spaces/{name}" for name in _VARIANTS if name != "mamba2-mini"},
    tiny={"d_model": 16, "n_layer": 2, "vocab_size": 256, "d_state": 8, "headdim": 8},
)
