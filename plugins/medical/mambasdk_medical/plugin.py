"""What this plugin registers: names and import strings only, so that listing models imports no torch."""

from __future__ import annotations

from pathlib import Path

from mambasdk.plugins import CommandSpec, FamilySpec, HeadSpec, ProcessorSpec, collect_families, hookimpl

LIBRARY = Path(__file__).parent / "libmambasdk_medical.so"


@hookimpl
def mambasdk_families() -> list[FamilySpec]:
    """Those in the folder `families`."""
    return collect_families("mambasdk_medical.families")


@hookimpl
def mambasdk_heads() -> list[HeadSpec]:
    """Structures in images and volumes."""
    return [
        HeadSpec(
            name="medical_segmentation",
            summary="structures in medical images and volumes: training on nnU-Net's folders, label maps, overlays",
            implementation="mambasdk_medical.heads.medical_segmentation:MedicalSegmentationHead",
        )
    ]


@hookimpl
def mambasdk_commands() -> list[CommandSpec]:
    """nnU-Net's steps."""
    return [
        CommandSpec(
            name="medical",
            summary="segment medical images: plan, preprocess, train, predict, evaluate",
            implementation="mambasdk_medical.commands.group:MedicalCommand",
        )
    ]


@hookimpl
def mambasdk_processors() -> list[ProcessorSpec]:
    """The processor `medical_image` for Python."""
    return [
        ProcessorSpec(
            slot="image",
            kind="medical_image",
            summary="the files of a case, NIfTI or PNG, to the volume that a segmenter sees",
            factory="mambasdk_medical.processors:MedicalImage.from_manifest",
            patterns=("*.nii", "*.nii.gz", "*.png"),
        )
    ]


@hookimpl
def mambasdk_native_libraries() -> list[Path]:
    """What reads, prepares and merges volumes."""
    return [LIBRARY]
