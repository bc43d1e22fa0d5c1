"""What this plugin registers: names and import strings only, so that listing models imports no torch."""

from __future__ import annotations

from pathlib import Path

from mambasdk.plugins import FamilySpec, HeadSpec, ProcessorSpec, collect_families, hookimpl

LIBRARY = Path(__file__).parent / "libmambasdk_multimodal.so"


@hookimpl
def mambasdk_families() -> list[FamilySpec]:
    """Those in the folder `families`."""
    return collect_families("mambasdk_multimodal.families")


@hookimpl
def mambasdk_heads() -> list[HeadSpec]:
    """Next tokens of every modality, and the noise of latent vectors."""
    return [
        HeadSpec(
            name="multimodal_lm",
            summary="documents of several modalities: training, what their tokens cost by modality, generation",
            implementation="mambasdk_multimodal.heads.multimodal_lm:MultimodalHead",
        )
    ]


@hookimpl
def mambasdk_native_libraries() -> list[Path]:
    """Processor `multimodal`; head `multimodal_lm`."""
    return [LIBRARY]


@hookimpl
def mambasdk_processors() -> list[ProcessorSpec]:
    """Documents, for Python."""
    return [
        ProcessorSpec(
            slot="document",
            kind="multimodal",
            summary="a document of text, tokens and latent vectors to one sequence",
            factory="mambasdk_multimodal.processors:from_manifest",
            patterns=("*.json",),
        )
    ]
