"""The family `mamba`: its models by name."""

from __future__ import annotations

from typing import Any

from mambasdk.plugins import FamilySpec

# Shapes of the published checkpoints (state-spaces/mamba). 50277 is the GPT-NeoX-20B vocabulary.
_SHAPES = {"130m": (768, 24), "370m": (1024, 48), "790m": (1536, 48), "1.4b": (2048, 48), "2.8b": (2560, 64)}
_VARIANTS: dict[str, dict[str, Any]] = {
    f"mamba-{name}": {"d_model": d_model, "n_layer": n_layer, "vocab_size": 50277, "pad_vocab_size_multiple": 8}
    for name, (d_model, n_layer) in _SHAPES.items()
}
_VARIANTS["mamba-2.8b-slimpj"] = dict(_VARIANTS["mamba-2.8b"])
# What the bare name means: a model of bytes that learns within minutes on two cores.
_VARIANTS["mamba-mini"] = {"d_model": 256, "n_layer": 6, "vocab_size": 256}
_OTHER_HUB = ("mamba-2.8b-slimpj", "mamba-mini")

FAMILY = FamilySpec(
    name="mamba",
    summary="Mamba language model, selective state spaces (arXiv 2312.00752)",
    config=".config:MambaConfig",
    factory=".model:build",
    importer=".checkpoint:import_mamba",
    variants=_VARIANTS,
    default_variant="mamba-mini",
    head="causal_lm",
    processors={"text": {"kind": "bytes"}},
    # The repositories with "-hf" hold the tokenizer too.
    hub={
        **{name: f"state-spaces/{name}-hf" for name in _VARIANTS if name not in _OTHER_HUB},
        "mamba-2.8b-slimpj": "state-spaces/mamba-2.8b-slimpj",
    },
    tiny={"d_model": 16, "n_layer": 2, "vocab_size": 256, "d_state": 4},
)
