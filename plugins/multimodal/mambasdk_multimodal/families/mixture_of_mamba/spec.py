"""The family `mixture_of_mamba`: its models by name."""

from __future__ import annotations

from typing import Any

from mambasdk.plugins import FamilySpec

# Settings of arXiv 2501.16295: discrete tokens of text and images; speech beside them; text and latent images.
_TEXT, _IMAGE, _SPEECH = 57344, 8192, 500
_CHAMELEON: dict[str, Any] = {"modalities": ["text", "image"], "modality_ranges": [_TEXT, _TEXT + _IMAGE]}
_WITH_SPEECH: dict[str, Any] = {
    "modalities": ["text", "image", "speech"],
    "modality_ranges": [_TEXT, _TEXT + _IMAGE, _TEXT + _IMAGE + _SPEECH],
}
# One token stands for a patch of an image's latents: 2 x 2 of 8 channels.
_TRANSFUSION: dict[str, Any] = {"modalities": ["text", "image"], "modality_ranges": [32000, 32001], "latent_dim": 32}

# Width and number of two-block layers.
_CHAMELEON_SIZES = {"37m": (256, 4), "94m": (512, 8), "443m": (1024, 24), "880m": (1536, 24), "1.5b": (2048, 24)}
_TRANSFUSION_SIZES = {"163m": (768, 16), "760m": (1536, 24), "1.4b": (2048, 24)}


def _variants(setting: str, config: dict[str, Any], sizes: dict[str, tuple[int, int]]) -> dict[str, dict[str, Any]]:
    return {
        f"mixture-of-mamba-{setting}-{label}": {"d_model": width, "n_layer": layers, **config}
        for label, (width, layers) in sizes.items()
    }


FAMILY = FamilySpec(
    name="mixture_of_mamba",
    summary="Mixture-of-Mamba, projections by modality over one mixed sequence (arXiv 2501.16295)",
    config=".config:MixtureOfMambaConfig",
    factory=".model:build",
    variants={
        **_variants("chameleon", _CHAMELEON, _CHAMELEON_SIZES),
        **_variants("chameleon-speech", _WITH_SPEECH, _CHAMELEON_SIZES),
        **_variants("transfusion", _TRANSFUSION, _TRANSFUSION_SIZES),
        # What the bare name means: bytes of text and 256 codes of images, small enough to learn on two cores.
        "mixture-of-mamba-mini": {"d_model": 128, "n_layer": 2},
    },
    default_variant="mixture-of-mamba-mini",
    head="multimodal_lm",
    processors={"document": {"kind": "multimodal"}, "text": {"kind": "bytes"}},
    tiny={"d_model": 16, "n_layer": 1, "d_state": 4, "modality_ranges": [256, 400]},
)
