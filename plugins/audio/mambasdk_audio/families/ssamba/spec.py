"""The family `ssamba`: its models by name."""

from __future__ import annotations

from mambasdk.plugins import FamilySpec

_SIZES = {"tiny": 192, "small": 384, "base": 768}
# What the bare name means: it trains on two cores.
_MINI = {"embed_dim": 96, "depth": 8}
# AudioSet and LibriSpeech, on which the published models were pretrained (arXiv 2405.11831).
AUDIOSET = {"kind": "fbank", "target_length": 1024, "mean": -4.2677393, "std": 4.5689974}

FAMILY = FamilySpec(
    name="ssamba",
    summary="SSAMBA, self-supervised audio encoder on bidirectional Mamba (arXiv 2405.11831)",
    config=".config:SsambaConfig",
    factory=".model:build",
    importer=".checkpoint:import_ssamba",
    variants={**{f"ssamba-{size}": {"embed_dim": dim} for size, dim in _SIZES.items()}, "ssamba-mini": _MINI},
    default_variant="ssamba-mini",
    head="audio_classification",
    processors={"audio": AUDIOSET},
    tiny={"embed_dim": 16, "depth": 2, "d_state": 4, "input_fdim": 32, "input_tdim": 48, "label_dim": 3},
    causal=False,
)
