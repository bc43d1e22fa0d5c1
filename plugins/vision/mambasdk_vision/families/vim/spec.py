"""The family `vim`: its models by name."""

from __future__ import annotations

from typing import Any

from mambasdk.plugins import FamilySpec
from mambasdk_vision.processors import IMAGENET

# Published shapes (arXiv 2401.09417). "plus" is the paper's "+": patches that overlap by half.
_VARIANTS: dict[str, dict[str, Any]] = {
    "vim-tiny": {"embed_dim": 192},
    "vim-tiny-plus": {"embed_dim": 192, "stride": 8},
    "vim-small": {"embed_dim": 384, "drop_path_rate": 0.05},
    "vim-small-plus": {"embed_dim": 384, "stride": 8, "drop_path_rate": 0.05},
    "vim-base": {"embed_dim": 768},
    # What the bare name means: it trains on two cores.
    "vim-mini": {"embed_dim": 96, "depth": 8},
}

FAMILY = FamilySpec(
    name="vim",
    summary="Vision Mamba, bidirectional image encoder (arXiv 2401.09417)",
    config=".config:VimConfig",
    factory=".model:build",
    importer=".checkpoint:import_vim",
    variants=_VARIANTS,
    default_variant="vim-mini",
    head="image_classification",
    processors={"image": IMAGENET},
    tiny={"img_size": 32, "patch_size": 8, "depth": 2, "embed_dim": 16, "d_state": 4, "num_classes": 10},
    fields={"image_size": "img_size"},
    causal=False,
)
