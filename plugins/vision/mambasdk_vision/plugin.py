"""What this plugin registers: names and import strings only, so that listing models imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mambasdk.plugins import FamilySpec, HeadSpec, ProcessorSpec, hookimpl

LIBRARY = Path(__file__).parent / "libmambasdk_vision.so"

# ImageNet as both families were trained and evaluated: the shorter side to 256, the centre, mean and deviation.
_PROCESSORS = {
    "image": {
        "kind": "image",
        "size": 224,
        "crop_pct": 0.875,
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
    }
}

# Published shapes (spec vim.md section 6). "plus" is the paper's "+": patches that overlap by half.
_VIM: dict[str, dict[str, Any]] = {
    "vim-tiny": {"embed_dim": 192},
    "vim-tiny-plus": {"embed_dim": 192, "stride": 8},
    "vim-small": {"embed_dim": 384, "drop_path_rate": 0.05},
    "vim-small-plus": {"embed_dim": 384, "stride": 8, "drop_path_rate": 0.05},
    "vim-base": {"embed_dim": 768},
}


def _vanilla(dims: int, middle: int, drop_path_rate: float) -> dict[str, Any]:
    return {
        "dims": dims,
        "depths": [2, 2, middle, 2],
        "forward_type": "v0",
        "ssm_d_state": 16,
        "ssm_ratio": 2.0,
        "ssm_conv_bias": True,
        "mlp_ratio": 0.0,
        "patchembed_version": "v1",
        "downsample_version": "v1",
        "drop_path_rate": drop_path_rate,
    }


def _second(dims: int, middle: int, ssm_ratio: float, drop_path_rate: float) -> dict[str, Any]:
    return {
        "dims": dims,
        "depths": [2, 2, middle, 2],
        "forward_type": "v05_noz",
        "ssm_d_state": 1,
        "ssm_ratio": ssm_ratio,
        "ssm_conv_bias": False,
        "mlp_ratio": 4.0,
        "patchembed_version": "v2",
        "downsample_version": "v3",
        "drop_path_rate": drop_path_rate,
    }


# Published shapes (spec vmamba-ss2d.md section 9); s and l are the SSM ratio and the depth of the third stage.
_VMAMBA = {
    "vmamba-tiny-vanilla": _vanilla(96, 9, 0.2),
    "vmamba-small-vanilla": _vanilla(96, 27, 0.3),
    "vmamba-base-vanilla": _vanilla(128, 27, 0.6),
    "vmamba-tiny-s2l5": _second(96, 5, 2.0, 0.2),
    "vmamba-small-s2l15": _second(96, 15, 2.0, 0.3),
    "vmamba-base-s2l15": _second(128, 15, 2.0, 0.6),
    "vmamba-tiny-s1l8": _second(96, 8, 1.0, 0.2),
    "vmamba-small-s1l20": _second(96, 20, 1.0, 0.3),
    "vmamba-base-s1l20": _second(128, 20, 1.0, 0.5),
}


@hookimpl
def mambasdk_families() -> list[FamilySpec]:
    """Vim and VMamba."""
    return [
        FamilySpec(
            name="vim",
            summary="Vision Mamba, bidirectional image encoder (arXiv 2401.09417)",
            config="mambasdk_vision.vim.config:VimConfig",
            factory="mambasdk_vision.vim.model:build",
            importer="mambasdk_vision.vim.checkpoint:import_vim",
            variants=_VIM,
            head="image_classification",
            processors=_PROCESSORS,
            tiny={"img_size": 32, "patch_size": 8, "depth": 2, "embed_dim": 16, "d_state": 4, "num_classes": 10},
            causal=False,
        ),
        FamilySpec(
            name="vmamba",
            summary="VMamba, hierarchical encoder with four-route 2-D scans (arXiv 2401.10166)",
            config="mambasdk_vision.vmamba.config:VMambaConfig",
            factory="mambasdk_vision.vmamba.model:build",
            importer="mambasdk_vision.vmamba.checkpoint:import_vmamba",
            variants=_VMAMBA,
            head="image_classification",
            processors=_PROCESSORS,
            tiny={"dims": 8, "depths": [1, 1, 1, 1], "num_classes": 10},
            causal=False,
        ),
    ]


@hookimpl
def mambasdk_heads() -> list[HeadSpec]:
    """Labels of images."""
    return [
        HeadSpec(
            name="image_classification",
            summary="labels of images: training from folders, pictures with probabilities",
            implementation="mambasdk_vision.classification.head:ImageClassificationHead",
        )
    ]


@hookimpl
def mambasdk_native_libraries() -> list[Path]:
    """Processor `image`; heads `image_classification` and `object_detection`."""
    return [LIBRARY]


@hookimpl
def mambasdk_processors() -> list[ProcessorSpec]:
    """The processor `image` for Python."""
    return [
        ProcessorSpec(
            slot="image",
            kind="image",
            summary="PNG, JPEG or pixels to a normalised tensor",
            factory="mambasdk_vision.image:ImageProcessor.from_manifest",
        )
    ]
