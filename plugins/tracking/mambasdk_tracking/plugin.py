"""What this plugin registers: names and import strings only."""

from __future__ import annotations

from pathlib import Path

from mambasdk.plugins import ProcessorSpec, hookimpl

LIBRARY = Path(__file__).parent / "libmambasdk_tracking.so"


@hookimpl
def mambasdk_native_libraries() -> list[Path]:
    """Processor `detections`; head `tracker`; operations of assignment and filtering."""
    return [LIBRARY]


@hookimpl
def mambasdk_processors() -> list[ProcessorSpec]:
    """The processor `detections` for Python."""
    return [
        ProcessorSpec(
            slot="detections",
            kind="detections",
            summary="boxes of a frame, or MOTChallenge text, to one table",
            factory="mambasdk_tracking.tracker:DetectionsProcessor.from_manifest",
        )
    ]
