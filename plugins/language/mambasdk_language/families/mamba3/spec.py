"""The family `mamba3`: its models by name."""

from __future__ import annotations

from typing import Any

from mambasdk.plugins import FamilySpec

# Shapes of the published checkpoints (state-spaces/mamba): width, depth, hidden size of the MLP with one rank and with
# four. Those beyond 187m are the sizes whose parameter count is the one in the name; an import reads config.json.
_SHAPES = {
    ("187m", "187m"): (768, 12, 1536, 1264),
    ("443m", "444m"): (1024, 24, 2048, 1792),
    ("893m", "894m"): (1536, 24, 3072, 2816),
    ("1.5b", "1.5b"): (2048, 24, 4096, 3840),
}
_VARIANTS: dict[str, dict[str, Any]] = {}
for _names, (_d_model, _n_layer, *_hidden) in _SHAPES.items():
    for _form, _name, _d_intermediate in zip(("siso", "mimo"), _names, _hidden, strict=True):
        _VARIANTS[f"mamba3-{_form}-{_name}"] = {
            "d_model": _d_model,
            "n_layer": _n_layer,
            "d_intermediate": _d_intermediate,
            "is_mimo": _form == "mimo",
            "vocab_size": 128256,  # that of Llama 3.1
            "pad_vocab_size_multiple": 16,
        }
_PUBLISHED = list(_VARIANTS)
# What the bare name means: a model of bytes that learns within minutes on two cores.
_VARIANTS["mamba3-mini"] = {"d_model": 256, "n_layer": 6, "vocab_size": 256, "d_state": 64}

FAMILY = FamilySpec(
    name="mamba3",
    summary="Mamba-3 language model, trapezoidal steps and a turning state, SISO and MIMO (arXiv 2603.15569)",
    config=".config:Mamba3Config",
    factory=".model:build",
    importer=".checkpoint:import_mamba3",
    variants=_VARIANTS,
    default_variant="mamba3-mini",
    head="causal_lm",
    processors={"text": {"kind": "bytes"}},
    hub={name: f"state-spaces/{name}" for name in _PUBLISHED},
    tiny={"d_model": 16, "n_layer": 2, "vocab_size": 256, "d_state": 8, "headdim": 8},
)
