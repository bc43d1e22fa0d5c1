"""The native processor `multimodal` from Python: a document of several modalities to the tokens of a model."""

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
