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
    """Next tokens of every modality, and the noise of latent vectors; emotions of utterances."""
    return [
        HeadSpec(
            name="multimodal_lm",
            summary="documents of several modalities: training, what their tokens cost by modality, generation",
            implementation="mambasdk_multimodal.heads.multimodal_lm:MultimodalHead",
        ),
        HeadSpec(
            name="emotion_recognition",
            summary="emotions of a conversation's utterances from several modalities, and what each modality weighs",
            implementation="mambasdk_multimodal.heads.emotion_recognition:EmotionHead",
        ),
    ]


@hookimpl
def mambasdk_native_libraries() -> list[Path]:
    """Processors `multimodal` and `conversation`; heads `multimodal_lm` and `emotion_recognition`."""
    return [LIBRARY]


@hookimpl
def mambasdk_processors() -> list[ProcessorSpec]:
    """Documents and conversations, for Python."""
    return [
        ProcessorSpec(
            slot="document",
            kind="multimodal",
            summary="a document of text, tokens and latent vectors to one sequence",
            factory="mambasdk_multimodal.processors:from_manifest",
            patterns=("*.json",),
        ),
        ProcessorSpec(
            slot="conversation",
            kind="conversation",
            summary="a conversation's JSON to feature vectors of its utterances",
            factory="mambasdk_multimodal.processors:conversation_from_manifest",
            patterns=("*.json",),
        ),
    ]
