"""Text files as token arrays: which files are held out, and which tokens a training step sees. Imports no torch."""

from __future__ import annotations

import fnmatch
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mambasdk.errors import InvalidArgumentError
from mambasdk.progress import track
from mambasdk_language.text import BytesProcessor, TextProcessor

Tokens = NDArray[np.int32]
_BINARY_PROBE = 8192  # bytes in which a NUL marks a file as no text


@dataclass(frozen=True)
class Document:
    """One text: `name` decides whether it is held out, `data` is its UTF-8."""

    name: str
    data: bytes


@dataclass(frozen=True)
class Corpus:
    """Training tokens in one array, each document followed by a separator, and held-out documents."""

    train: Tokens  # (total,)
    held_out: list[Tokens]
    held_out_bytes: int
    train_bytes: int


def read_documents(paths: Sequence[str | os.PathLike[str]], pattern: str = "*") -> list[Document]:
    """The texts of files, and of the files in directories whose names match `pattern`; sorted, empty ones left out.

    Below a directory hidden files, binary files and links are left out. Raises InvalidArgumentError for a path that is
    not there, or when nothing is found.
    """
    documents: list[Document] = []
    for given in map(Path, paths):
        if given.is_dir():
            files = [path for path in sorted(given.rglob("*")) if _wanted(path, given, pattern)]
            found = [Document(path.relative_to(given).as_posix(), path.read_bytes()) for path in files]
            documents += [doc for doc in found if b"\0" not in doc.data[:_BINARY_PROBE]]
        elif given.is_file():
            documents.append(Document(given.name, given.read_bytes()))
        else:
            raise InvalidArgumentError(f"no file or directory {str(given)!r}", where="training data")
    documents = [document for document in documents if document.data]
    if not documents:
        raise InvalidArgumentError(f"no text in {', '.join(map(str, paths))}", where="training data", got=pattern)
    return documents


def split_documents(documents: Sequence[Document], fraction: float) -> tuple[list[Document], list[Document]]:
    """(training, held out): about `fraction` of the documents, by a hash of their names, so that the choice stays.

    Where that leaves one side empty, the end of each document is held out.
    """
    if not 0 < fraction < 1:
        raise InvalidArgumentError("bad held-out fraction", expected="between 0 and 1", got=fraction)
    held_out = [document for document in documents if _hash_fraction(document.name) < fraction]
    train = [document for document in documents if _hash_fraction(document.name) >= fraction]
    if held_out and train:
        return train, held_out
    cuts = [(document, int(len(document.data) * (1 - fraction))) for document in documents]
    return (
        [Document(document.name, document.data[:cut]) for document, cut in cuts],
        [Document(document.name, document.data[cut:]) for document, cut in cuts],
    )


def make_corpus(train: Sequence[Document], held_out: Sequence[Document], processor: TextProcessor) -> Corpus:
    """Tokens of both sides; the separator is the end token, or a zero byte for raw bytes without one."""
    raw = isinstance(processor, BytesProcessor)
    separator = processor.eos_token_id if processor.eos_token_id is not None else (0 if raw else None)

    def tokens(document: Document) -> Tokens:
        if raw:
            return np.frombuffer(document.data, np.uint8).astype(np.int32)
        return np.asarray(processor.encode(document.data.decode("utf-8", errors="replace")), np.int32)

    parts: list[Tokens] = []
    for document in track(train, "tokens", len(train)):
        parts.append(tokens(document))
        if separator is not None:
            parts.append(np.asarray([separator], np.int32))
    return Corpus(
        np.concatenate(parts),
        [tokens(document) for document in held_out],
        sum(len(document.data) for document in held_out),
        sum(len(document.data) for document in train),
    )


class Windows:
    """Which tokens each row of each step sees, as a function of (seed, step) alone.

    A row reads `segment` windows of `context` tokens one after the other, its state carried along, and then begins anew
    at a random place with a zero state; rows do so at different steps.
    """

    def __init__(self, tokens: Tokens, *, batch: int, context: int, segment: int, seed: int) -> None:
        for name, value in (("batch", batch), ("context", context), ("segment", segment)):
            if value < 1:
                raise InvalidArgumentError(f"bad {name}", where="training", expected="1 or more", got=value)
        if len(tokens) <= context:
            raise InvalidArgumentError(
                f"{len(tokens)} training tokens",
                where="training",
                expected=f"more than the context of {context}",
                way_out="give more text or a smaller --context",
            )
        self._tokens = tokens
        self._batch = batch
        self._context = context
        self._segment = min(segment, (len(tokens) - 1) // context)
        self._seed = seed

    def at(self, step: int) -> tuple[Tokens, NDArray[np.bool_]]:
        """(tokens (B, context + 1), whether each row begins anew (B))."""
        rows = np.empty((self._batch, self._context + 1), np.int32)
        fresh = np.empty(self._batch, np.bool_)
        for row in range(self._batch):
            # Rows begin anew at different steps, so that every step has rows with short and long histories.
            segment, window = divmod(step + row * self._segment // self._batch, self._segment)
            span = self._segment * self._context
            generator = np.random.default_rng((self._seed, row, segment))
            start = int(generator.integers(0, len(self._tokens) - span)) + window * self._context
            rows[row] = self._tokens[start : start + self._context + 1]
            fresh[row] = window == 0 or step == 0
        return rows, fresh


def _wanted(path: Path, root: Path, pattern: str) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
    return path.is_file() and not path.is_symlink() and not hidden and fnmatch.fnmatch(path.name, pattern)


def _hash_fraction(name: str) -> float:
    """A number in [0, 1) that is the same for the same name on every machine."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64
