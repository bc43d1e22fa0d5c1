"""Documents of several modalities: which files hold them, and what a model is given of each. Imports no torch."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mambasdk.errors import InvalidArgumentError, MambaSDKError
from mambasdk.progress import track
from mambasdk_language.documents import Document
from mambasdk_multimodal.processors import DocumentProcessor

_SUFFIXES = (".jsonl", ".ndjson", ".json")


@dataclass(frozen=True)
class Sequences:
    """One document. tokens: (n) int32. latents: (n, P) float32, zero at tokens; None of a model without latents."""

    name: str
    tokens: NDArray[np.int32]
    latents: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    def piece(self, start: int, end: int) -> Sequences:
        """Positions [start, end)."""
        latents = None if self.latents is None else self.latents[start:end]
        return Sequences(self.name, self.tokens[start:end], latents)


def read_rows(paths: Sequence[str | os.PathLike[str]]) -> list[Document]:
    """The documents of files, one for each line of `.jsonl`, one or a list of them in `.json`, sorted by file.

    Each is named FILE#NUMBER, which decides whether it is held out; its data is its JSON. Of a directory all such files
    are read, at any depth. Raises InvalidArgumentError for a path that is not there, a file of another kind, one that
    is no JSON, or when nothing is found.
    """
    documents: list[Document] = []
    for given in map(Path, paths):
        if not given.exists():
            raise InvalidArgumentError(f"no file or directory {str(given)!r}", where="documents")
        found = sorted(path for path in given.rglob("*") if path.suffix in _SUFFIXES) if given.is_dir() else [given]
        for path in found:
            name = str(path.relative_to(given)) if given.is_dir() else path.name
            documents += [
                Document(f"{name}#{number}", json.dumps(row).encode()) for number, row in enumerate(json_rows(path), 1)
            ]
    if not documents:
        raise InvalidArgumentError(
            "no documents", where=", ".join(map(str, paths)), expected=f"files {', '.join(_SUFFIXES)}"
        )
    return documents


def read_document(path: str | os.PathLike[str]) -> Any:
    """The JSON of a file that holds one document. Raises InvalidArgumentError with the file and what is wrong."""
    rows = list(json_rows(Path(path)))
    if len(rows) != 1:
        raise InvalidArgumentError(f"{len(rows)} documents", where=str(path), expected="one")
    return rows[0]


def json_rows(path: Path) -> Iterator[Any]:
    """The values of a file: one for each line of `.jsonl`, one or a list in `.json`. Raises InvalidArgumentError."""
    if path.suffix not in _SUFFIXES:
        raise InvalidArgumentError(f"{path.suffix or 'a file'} holds no documents", where=str(path), expected=_SUFFIXES)
    try:
        text = path.read_text("utf-8")
        if path.suffix == ".json":
            value = json.loads(text)
            yield from value if isinstance(value, list) else [value]
            return
        # str.splitlines would also cut at separators that JSON allows inside a string.
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                try:
                    yield json.loads(line)
                except ValueError as error:
                    raise InvalidArgumentError(f"no JSON: {error}", where=f"{path}: line {number}") from error
    except (OSError, ValueError) as error:
        if isinstance(error, MambaSDKError):
            raise
        raise InvalidArgumentError(f"cannot be read: {error}", where=str(path)) from error


def encode(documents: Sequence[Document], processor: DocumentProcessor) -> list[Sequences]:
    """What a model is given of each. Raises InvalidArgumentError that names the document."""
    return [_encoded(document, processor) for document in track(documents, "documents", len(documents))]


def _encoded(document: Document, processor: DocumentProcessor) -> Sequences:
    try:
        made = processor(document.data)
    except ValueError as error:
        raise InvalidArgumentError(str(error), where=document.name) from error
    latents = made.get("latents")
    return Sequences(document.name, made["tokens"][0], None if latents is None else latents[0])
