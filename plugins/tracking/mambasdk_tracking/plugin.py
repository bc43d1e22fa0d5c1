"""What this plugin registers: names and import strings only."""

from __future__ import annotations

from pathlib import Path

from mambasdk.plugins import CommandSpec, FamilySpec, HeadSpec, ProcessorSpec, hookimpl

LIBRARY = Path(__file__).parent / "libmambasdk_tracking.so"


@hookimpl
def mambasdk_native_libraries() -> list[Path]:
    """Processor `detections`; heads `tracker` and `motion_tracker`; operations of assignment and filtering."""
    return [LIBRARY]


@hookimpl
def mambasdk_families() -> list[FamilySpec]:
    """Motion predictors for tracking."""
    return [
        FamilySpec(
            name="mambatrack",
            summary="MambaTrack's motion predictor for multi-object tracking (arXiv 2408.09178)",
            config="mambasdk_tracking.families.mambatrack:MambaTrackConfig",
            factory="mambasdk_tracking.families.mambatrack:build",
            importer="mambasdk_tracking.families.mambatrack:import_mambatrack",
            variants={
                "mambatrack-mtp": {},
                # What the unofficial code does otherwise than the paper (mambatrack.md, section 9).
                "mambatrack-mtp-unofficial": {"backward_flip": False, "pool_channels": 128},
            },
            head="motion_tracker",
            processors={"detections": {"kind": "detections", "model_input": "deltas"}},
            tiny={"d_model": 16, "n_layer": 2, "d_state": 4, "head_hidden": 8},
            causal=False,
        )
    ]


@hookimpl
def mambasdk_heads() -> list[HeadSpec]:
    """Training of motion predictors."""
    return [
        HeadSpec(
            name="motion_tracker",
            summary="tracks by the predictions of a motion model: training on MOTChallenge folders, pictures",
            implementation="mambasdk_tracking.head:MotionTrackerHead",
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
            factory="mambasdk_tracking.tracker:DetectionsProcessor.from_manifest",
        )
    ]
