"""Text files as token arrays: which files are held out, and which tokens a training step sees. Imports no torch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mambasdk.errors import InvalidArgumentError
from mambasdk.progress import track
from mambasdk.training import distributed
from mambasdk_language.documents import Document, read_documents
from mambasdk_language.processors import BytesProcessor, TextProcessor, separator_id

__all__ = ["Corpus", "Document", "Tokens", "Windows", "make_corpus", "read_documents", "split_documents", "split_rows"]

Tokens = NDArray[np.int32]


@dataclass(frozen=True)
class Corpus:
    """Training tokens in one array, each document followed by a separator, and held-out documents."""

    train: Tokens  # (total,)
    held_out: list[Tokens]
    held_out_bytes: int
    train_bytes: int


def split_documents(
    documents: Sequence[Document], fraction: float, seed: int = 0
) -> tuple[list[Document], list[Document]]:
    """(training, held out): about `fraction` of the text, chosen by a hash of names and `seed`.

    A document stays on its side when others are added. One that is larger than its share is never held out whole, so
    that no single file stands for all. Where documents are too few to choose from (fewer than two are held out, or less
    than half or more than twice the fraction), the end of each is held out. 0 holds out nothing.
    """
    if not 0 <= fraction < 1:
        raise InvalidArgumentError("bad held-out fraction", expected="0 or more and below 1", got=fraction)
    if fraction == 0:
        return list(documents), []
    total = sum(len(document.data) for document in documents)
    chosen = [
        _hash_fraction(document.name, seed) < fraction and len(document.data) <= fraction * total
        for document in documents
    ]
    held_out = [document for document, out in zip(documents, chosen, strict=True) if out]
    share = sum(len(document.data) for document in held_out) / max(total, 1)
    if len(held_out) >= 2 and fraction / 2 <= share <= 2 * fraction:
        return [document for document, out in zip(documents, chosen, strict=True) if not out], held_out
    cuts = [(document, _cut(document.data, 1 - fraction)) for document in documents]
    return (
        [Document(document.name, document.data[:cut]) for document, cut in cuts],
        [Document(document.name, document.data[cut:]) for document, cut in cuts],
    )


def split_rows(documents: Sequence[Document], fraction: float, seed: int = 0) -> tuple[list[Document], list[Document]]:
    """(training, held out) of texts that are not cut, because something is known of each as a whole.

    Those whose hash is below `fraction` are held out, so that a text stays on its side when others are added; where
    none is, the one with the least. 0 holds out nothing. Raises InvalidArgumentError for fewer than two texts.
    """
    if fraction == 0:
        return list(documents), []
    if len(documents) < 2:
        raise InvalidArgumentError(f"{len(documents)} text to train on and to hold out", expected="two or more")
    places = {index: _hash_fraction(document.name, seed) for index, document in enumerate(documents)}
    order = sorted(places, key=lambda index: places[index])
    count = min(max(sum(place < fraction for place in places.values()), 1), len(documents) - 1)
    out = set(order[:count])
    return (
        [document for index, document in enumerate(documents) if index not in out],
        [documents[index] for index in sorted(out)],
    )


def _cut(text: bytes, share: float) -> int:
    """Where the first `share` of a text ends, on the border of a character."""
    cut = int(len(text) * share)
    while cut < len(text) and text[cut] & 0xC0 == 0x80:
        cut += 1
    return cut


def make_corpus(train: Sequence[Document], held_out: Sequence[Document], processor: TextProcessor) -> Corpus:
    """Tokens of both sides; the separator is the end token, or a zero byte for raw bytes without one."""
    raw = isinstance(processor, BytesProcessor)
    separator = separator_id(processor)
    if separator is None and raw:
        separator = 0

    def tokens(document: Document) -> Tokens:
        if raw:  # what a text spells like the mask is no mask
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
    at a random place with a zero state; rows do so at different steps. Of several processes each has its own `batch`
    rows of one larger batch.
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
        self._first_row = distributed.rank() * batch
        self._all_rows = distributed.world_size() * batch
        self._context = context
        self._segment = min(segment, (len(tokens) - 1) // context)
        self._seed = seed

    def at(self, step: int) -> tuple[Tokens, NDArray[np.bool_]]:
        """(tokens (B, context + 1), whether each row begins anew (B))."""
        rows = np.empty((self._batch, self._context + 1), np.int32)
        fresh = np.empty(self._batch, np.bool_)
        for row in range(self._batch):
            # Rows begin anew at different steps, so that every step has rows with short and long histories.
            place = self._first_row + row
            segment, window = divmod(step + place * self._segment // self._all_rows, self._segment)
            span = self._segment * self._context
            generator = np.random.default_rng((self._seed, place, segment))
            start = int(generator.integers(0, len(self._tokens) - span)) + window * self._context
            rows[row] = self._tokens[start : start + self._context + 1]
            fresh[row] = window == 0 or step == 0
        return rows, fresh


def _hash_fraction(name: str, seed: int) -> float:
    """A number in [0, 1) that is the same for the same name on every machine."""
    text = name if seed == 0 else f"{seed}:{name}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64
