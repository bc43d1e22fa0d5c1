"""What this plugin registers: names and import strings only, so that listing models imports no torch."""

from __future__ import annotations

from pathlib import Path

from mambasdk.plugins import CommandSpec, FamilySpec, HeadSpec, ProcessorSpec, collect_families, hookimpl

LIBRARY = Path(__file__).parent / "libmambasdk_tracking.so"


@hookimpl
def mambasdk_families() -> list[FamilySpec]:
    """Those in the folder `families`."""
    return collect_families("mambasdk_tracking.families")


@hookimpl
def mambasdk_heads() -> list[HeadSpec]:
    """Training of motion predictors."""
    return [
        HeadSpec(
            name="motion_tracker",
            summary="tracks by the predictions of a motion model: training on MOTChallenge folders, pictures",
            implementation="mambasdk_tracking.heads.motion_tracker:MotionTrackerHead",
        )
    ]


@hookimpl
def mambasdk_commands() -> list[CommandSpec]:
    """The tracker on files."""
    return [
        CommandSpec(
            name="track",
            summary="give the detections of a video identities",
            implementation="mambasdk_tracking.cli:TrackCommand",
        )
    ]


@hookimpl
def mambasdk_processors() -> list[ProcessorSpec]:
    """The processor `detections` for Python."""
    return [
        ProcessorSpec(
            slot="detections",
            kind="detections",
            summary="boxes of a frame, or MOTChallenge text, to one table",
            factory="mambasdk_tracking.processors:DetectionsProcessor.from_manifest",
            patterns=("*.txt",),
        )
    ]


@hookimpl
def mambasdk_native_libraries() -> list[Path]:
    """Processor `detections`; heads `tracker` and `motion_tracker`; operations of assignment and filtering."""
    return [LIBRARY]
