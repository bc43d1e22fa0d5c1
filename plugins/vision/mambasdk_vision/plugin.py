"""What this plugin registers: names and import strings only, so that listing models imports no torch."""

from __future__ import annotations

from pathlib import Path

from mambasdk.plugins import FamilySpec, HeadSpec, ProcessorSpec, collect_families, hookimpl

LIBRARY = Path(__file__).parent / "libmambasdk_vision.so"
SUFFIXES = (".png", ".jpg", ".jpeg")  # of images


@hookimpl
def mambasdk_families() -> list[FamilySpec]:
    """Those in the folder `families`."""
    return collect_families("mambasdk_vision.families")


@hookimpl
def mambasdk_heads() -> list[HeadSpec]:
    """Labels of images, and of their pixels."""
    return [
        HeadSpec(
            name="image_classification",
            summary="labels of images: training from folders, pictures with probabilities",
            implementation="mambasdk_vision.heads.image_classification:ImageClassificationHead",
        ),
        HeadSpec(
            name="semantic_segmentation",
            summary="classes of pixels: training from images and masks, masks over pictures",
            implementation="mambasdk_vision.heads.semantic_segmentation:SemanticSegmentationHead",
        ),
    ]


@hookimpl
def mambasdk_native_libraries() -> list[Path]:
    """Processors `image` and `mask`; heads `image_classification`, `object_detection` and `semantic_segmentation`."""
    return [LIBRARY]


@hookimpl
def mambasdk_processors() -> list[ProcessorSpec]:
    """The processor `image` for Python."""
    return [
        ProcessorSpec(
            slot="image",
            kind="image",
            summary="PNG, JPEG or pixels to a normalised tensor",
            factory="mambasdk_vision.processors:ImageProcessor.from_manifest",
            patterns=tuple(f"*{suffix}" for suffix in SUFFIXES),
        )
    ]
