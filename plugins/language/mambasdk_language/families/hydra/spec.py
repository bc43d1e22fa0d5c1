"""The family `hydra`: its models by name."""

from __future__ import annotations

from typing import Any

from mambasdk.plugins import FamilySpec

# Published shapes (arXiv 2407.09941, section 4 and appendix).
_VARIANTS: dict[str, dict[str, Any]] = {
    "hydra-bert": {},
    "hydra-bert-24": {"n_layer": 24},
}
# The paper's comparison of structures: 12 layers, 128 tokens.
_DEPENDENT = {"n_layer": 12, "qk_dim": 16, "headdim": 128}
_FIXED = {"n_layer": 12, "qk_dim": 64, "headdim": 64}
_WIDE = {"d_model": 800, "headdim": 64}
_ABLATIONS: dict[str, dict[str, Any]] = {
    "dense_di": _FIXED,
    "toeplitz_dd": {**_DEPENDENT, **_WIDE},
    "toeplitz_di": {**_FIXED, **_WIDE},
    "vandermonde_dd": _DEPENDENT,
    "vandermonde_di": {**_FIXED, **_WIDE},
    "cauchy_dd": _DEPENDENT,
    "cauchy_di": _FIXED,
    "low_rank_dd": _DEPENDENT,
    "low_rank_di": _FIXED,
    "attention_dd": _DEPENDENT,
    "quasiseparable_dd": _DEPENDENT,
    "quasiseparable_di": _FIXED,
}
_VARIANTS |= {f"hydra-{mixer.replace('_', '-')}": {"mixer": mixer, **sizes} for mixer, sizes in _ABLATIONS.items()}
# What the bare name means: a model of bytes, and one token more for the mask, that trains on two cores.
_VARIANTS["hydra-mini"] = {
    "d_model": 192,
    "n_layer": 6,
    "vocab_size": 257,
    "d_state": 32,
    "headdim": 32,
    "pool": "mean",
    "initializer_range": 0.05,  # 0.02 is for matrices four times as wide
}

FAMILY = FamilySpec(
    name="hydra",
    summary="Hydra, bidirectional text encoder of quasiseparable mixers (arXiv 2407.09941)",
    config=".config:HydraConfig",
    factory=".model:build",
    importer=".checkpoint:import_hydra",
    variants=_VARIANTS,
    default_variant="hydra-mini",
    head="fill_mask",
    processors={"text": {"kind": "bytes", "mask_token": "[MASK]"}},
    hub={"hydra-bert": "goombalab/hydra"},
    tiny={"d_model": 16, "n_layer": 2, "vocab_size": 257, "d_state": 4, "headdim": 8, "dropout": 0.0, "pool": "mean"},
    causal=False,
)
