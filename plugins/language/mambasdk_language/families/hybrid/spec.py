"""The family `hybrid`: its models by name."""

from __future__ import annotations

from typing import Any

from mambasdk.plugins import FamilySpec

# arXiv 2406.07887, table 5 and its text: four models of 8B parameters on the same tokens.
_STUDY: dict[str, Any] = {"d_model": 4096, "vocab_size": 256000, "d_state": 128}
_HYBRID = {
    **_STUDY,
    "pattern": "M-M-M--M-M*-M-M-M-M--M*-M-M-M-M-M*--M-M-M-M-M*-M--M-M-M-",
    "num_heads": 32,
    "num_kv_heads": 8,
    "d_mlp": 16384,
}
_VARIANTS: dict[str, dict[str, Any]] = {
    "mamba2-hybrid-8b": _HYBRID,
    "mamba-8b": {**_STUDY, "pattern": "m" * 56},
    "mamba2-8b": {**_STUDY, "pattern": "M" * 56},
    "transformer-8b": {
        **_STUDY,
        "pattern": "*-" * 32,
        "rms_norm": False,
        "num_heads": 32,
        "rotary_dim": 64,
        "d_mlp": 16384,
        "mlp_activation": "squared_relu",
    },
    # state-spaces/mamba2attn-2.7b: attention at blocks 9, 18, 27, 36, 45 and 56, each with a convolution.
    "mamba2attn-2.7b": {
        "d_model": 2560,
        "pattern": "".join("*" if index in (9, 18, 27, 36, 45, 56) else "M" for index in range(64)),
        "vocab_size": 50277,
        "pad_vocab_size_multiple": 16,
        "tie_embeddings": True,
        "ngroups": 1,
        "num_heads": 30,
        "head_dim": 128,
        "rotary_dim": 64,
        "attention_conv": 4,
    },
    # What the bare name means: a model of bytes that learns within minutes on two cores.
    "hybrid-mini": {
        "d_model": 256,
        "pattern": "M-M-M*-M-M-M*-",
        "vocab_size": 256,
        "d_state": 64,
        "ngroups": 1,
        "num_heads": 4,
        "num_kv_heads": 2,
        "d_mlp": 512,
        "tie_embeddings": True,
    },
}

FAMILY = FamilySpec(
    name="hybrid",
    summary="state space, attention, MLP and expert layers by a pattern (arXiv 2406.07887)",
    config=".config:HybridConfig",
    factory=".model:build",
    importer=".checkpoint:import_hybrid",
    variants=_VARIANTS,
    default_variant="hybrid-mini",
    head="causal_lm",
    processors={"text": {"kind": "bytes"}},
    tiny={
        "d_model": 16,
        "pattern": "M*-",
        "vocab_size": 256,
        "d_state": 8,
        "headdim": 8,
        "ngroups": 2,
        "num_heads": 4,
        "num_kv_heads": 2,
        "d_mlp": 24,
        "tie_embeddings": True,
    },
)
