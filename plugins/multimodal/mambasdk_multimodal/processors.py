"""The native processors `multimodal` (documents) and `conversation`, and the head of emotions, from Python."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mambasdk.pipeline import NativeProcessor, raw_input


class DocumentProcessor(NativeProcessor):
    """Documents to token ids, and latent vectors where the model reads such.

    Options: modalities (names), ranges (the id at which each one's tokens end), latent_dim (0), file (a
    tokenizer.json; without it a token of text is a byte).
    """

    def __init__(self, *, directory: str | os.PathLike[str] | None = None, **options: Any) -> None:
        super().__init__("multimodal", "multimodal", options, directory=directory)
        self.options = options

    def __call__(self, document: Mapping[str, Any] | str | os.PathLike[str] | bytes) -> dict[str, Any]:
        """document: its object, a path, or the bytes of a JSON file.

        Returns tokens int32 (1, L) and, with latent_dim P, latents float32 (1, L, P), zero where there is none, and
        times (1, L) of zeros. Raises ValueError with the segment and what is wrong with it.
        """
        if isinstance(document, Mapping):
            return self.run(document=json.dumps(document).encode())
        return self.run(document=raw_input(document))

    def manifest_entry(self) -> dict[str, Any]:
        """The entry `processors.document` of a package that uses this processor."""
        return {"kind": "multimodal", **self.options}


def from_manifest(entry: Mapping[str, Any], directory: Path) -> DocumentProcessor:
    """The processor of a package's manifest entry."""
    return DocumentProcessor(directory=directory, **{name: value for name, value in entry.items() if name != "kind"})


class ConversationProcessor(NativeProcessor):
    """Conversations to feature vectors of their utterances.

    Options: modalities (names), in_dims (numbers of a vector of each), max_speakers (0: any).
    """

    def __init__(self, **options: Any) -> None:
        super().__init__("multimodal", "conversation", options)
        self.options = options

    def __call__(self, conversation: Mapping[str, Any] | str | os.PathLike[str] | bytes) -> dict[str, Any]:
        """conversation: its object, a path, or the bytes of a JSON file.

        Returns for each modality float32 (1, L, in_dim), zero where it is missing, speakers int64 (1, L) and present
        int64 (1, L, M). Raises ValueError with the utterance and what is wrong with it.
        """
        if isinstance(conversation, Mapping):
            return self.run(conversation=json.dumps(conversation).encode())
        return self.run(conversation=raw_input(conversation))


class EmotionRecognition(NativeProcessor):
    """Logits of utterances to emotions. Options: labels (names by class), modalities (names)."""

    def __init__(self, **options: Any) -> None:
        super().__init__("multimodal", "emotion_recognition", options, head=True)

    def __call__(self, logits: Any, weights: Any, speakers: Any | None = None) -> list[dict[str, Any]]:
        """logits: float32 (1, L, C). weights: float32 (1, L, M). speakers: int64 (1, L).

        Returns {"utterance", "speaker", "label", "index", "score", "scores", "weights"} of each utterance.
        """
        given = {"logits": logits, "weights": weights} | ({} if speakers is None else {"speakers": speakers})
        utterances: list[dict[str, Any]] = self.run_named(given)["json"]["utterances"]
        return utterances


def conversation_from_manifest(entry: Mapping[str, Any], _: Path) -> ConversationProcessor:
    """The processor of a package's manifest entry."""
    return ConversationProcessor(**{name: value for name, value in entry.items() if name != "kind"})
