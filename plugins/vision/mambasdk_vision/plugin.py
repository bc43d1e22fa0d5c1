"""What this plugin registers: names and import strings only."""

from __future__ import annotations

from pathlib import Path

from mambasdk.plugins import ProcessorSpec, hookimpl

LIBRARY = Path(__file__).parent / "libmambasdk_vision.so"


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
