"""Text encoders for the Trainer: masked tokens, and classes or numbers of whole texts. Needs torch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from mambasdk.errors import InvalidArgumentError
from mambasdk.training import Batches, distributed
from mambasdk_language.corpus import Corpus, Tokens
from mambasdk_language.documents import Document
from mambasdk_language.processors import TextProcessor

UNASKED = -100  # the label of a token that is not asked for, as torch's cross entropy has it


def mask_tokens(
    rows: Tokens, generator: np.random.Generator, *, rate: float, mask_token: int, vocab_size: int
) -> tuple[Tokens, npt.NDArray[np.int64]]:
    """(what the model reads, labels) of int32 rows (B, L): each token is asked for with probability `rate`.

    Of those asked for 80 % are the mask, 10 % another token and 10 % as they are (arXiv 1810.04805, section 3.1); at
    least one token of every row is asked for.
    """
    asked = generator.random(rows.shape) < rate
    asked[np.arange(len(rows)), generator.integers(0, rows.shape[1], len(rows))] = True
    labels = np.where(asked, rows, UNASKED).astype(np.int64)
    kind = generator.random(rows.shape)
    read = np.where(asked & (kind < 0.8), mask_token, rows)
    others = generator.integers(0, vocab_size, rows.shape)
    return np.where(asked & (kind >= 0.9), others, read).astype(np.int32), labels


class MaskedLanguageModeling:
    """Cross entropy of masked tokens; metrics `masked_accuracy` and `masked_bits` (of each) on held-out texts.

    Every step has `batch` windows of `context` tokens at random places.
    """

    unit = "tokens"
    loss_unit = ("bits", math.log(2))
    goals: ClassVar = {"masked_bits": "min", "masked_accuracy": "max"}

    def __init__(
        self,
        model: Any,
        corpus: Corpus,
        *,
        mask_token: int,
        batch: int = 16,
        context: int = 256,
        rate: float = 0.15,
        seed: int = 0,
    ) -> None:
        if not 0 < rate < 1:
            raise InvalidArgumentError("bad mask rate", where="training", expected="between 0 and 1", got=rate)
        if len(corpus.train) < context:
            raise InvalidArgumentError(
                f"{len(corpus.train)} training tokens",
                where="training",
                expected=f"the context of {context} or more",
                way_out="give more text or a smaller --context",
            )
        largest = max(int(corpus.train.max(initial=0)), mask_token)
        if largest >= model.vocab_size:
            raise InvalidArgumentError(
                f"token {largest} in the data", where="training", expected=f"below vocab_size {model.vocab_size}"
            )
        self.model = model
        self._corpus = corpus
        self._batch, self._context, self._seed = batch, context, seed
        self._masks: dict[str, Any] = {"rate": rate, "mask_token": mask_token, "vocab_size": model.vocab_size}
        self._device = next(model.parameters()).device
        self.data = f"{corpus.train_bytes:,} bytes of text, {corpus.held_out_bytes:,} held out"

    def sample_inputs(self) -> tuple[dict[str, Tensor], int]:
        """One row of a step."""
        return {"tokens": torch.zeros(1, self._context, dtype=torch.int64)}, 1

    def loss(self, step: int) -> tuple[Tensor, int]:
        """Mean cross entropy of the step's masked tokens in nats, and how many tokens were read."""
        generator = np.random.default_rng((self._seed, step, distributed.rank()))
        starts = generator.integers(0, len(self._corpus.train) - self._context + 1, self._batch)
        rows = np.stack([self._corpus.train[start : start + self._context] for start in starts])
        read, labels = mask_tokens(rows, generator, **self._masks)
        out = self.model(self._tensor(read), labels=torch.from_numpy(labels).to(self._device))
        return out.loss, rows.size

    def evaluate(self) -> dict[str, float]:
        """Nothing where no text is held out."""
        if not self._corpus.held_out_bytes:
            return {}
        return masked_scores(self.model, self._corpus.held_out, batch=self._batch, context=self._context, **self._masks)

    def _tensor(self, rows: Tokens) -> Tensor:
        return torch.from_numpy(rows).to(self._device, torch.int64)


@torch.no_grad()
def masked_scores(
    model: Any,
    documents: Sequence[Tokens],
    *,
    batch: int,
    context: int,
    rate: float,
    mask_token: int,
    vocab_size: int,
) -> dict[str, float]:
    """`masked_bits` and `masked_accuracy` of texts in pieces of `context` tokens; always the same tokens are masked."""
    pieces = [each[start : start + context] for each in documents for start in range(0, len(each), context)]
    if not pieces:
        raise InvalidArgumentError("no held-out text", where="masked_scores")
    nats, right, asked = 0.0, 0, 0
    device = next(model.parameters()).device
    generator = np.random.default_rng(0)
    for rows in _in_batches(sorted(pieces, key=len), batch):
        masked = [
            mask_tokens(row[None], generator, rate=rate, mask_token=mask_token, vocab_size=vocab_size) for row in rows
        ]
        tokens, mask = padded([read[0] for read, _ in masked], device)
        labels, _ = padded([label[0] for _, label in masked], device)
        labels = labels.masked_fill(mask == 0, UNASKED)
        logits = model(tokens, mask).logits.float()  # (B, L, V)
        wanted = labels != UNASKED
        nats += float(functional.cross_entropy(logits[wanted], labels[wanted], reduction="sum"))
        right += int((logits[wanted].argmax(-1) == labels[wanted]).sum())
        asked += int(wanted.sum())
    return {"masked_bits": nats / math.log(2) / asked, "masked_accuracy": right / asked}


@dataclass(frozen=True)
class LabelledTexts:
    """tokens: of each text, int32. targets: int64 classes, or float32 numbers, (texts)."""

    tokens: list[Tokens]
    targets: npt.NDArray[Any]

    def __len__(self) -> int:
        return len(self.tokens)

    @classmethod
    def of(
        cls, documents: Sequence[Document], processor: TextProcessor, labels: Sequence[str] | None, context: int
    ) -> LabelledTexts:
        """Of documents with labels, each cut after `context` tokens. labels: names of the classes; None: numbers.

        Raises InvalidArgumentError for a label that is none of these, or no number, naming the row.
        """
        places = None if labels is None else {label: place for place, label in enumerate(labels)}
        targets = [_target(document, places) for document in documents]
        tokens = [
            np.asarray(processor.encode(document.data.decode("utf-8", errors="replace"))[:context], np.int32)
            for document in documents
        ]
        return cls(tokens, np.asarray(targets, np.float32 if places is None else np.int64))

    def batch(self, indices: Sequence[int] | npt.NDArray[np.int64], device: Any) -> tuple[Tensor, Tensor, Tensor]:
        """(tokens (B, L), mask (B, L), targets (B)) of these texts."""
        tokens, mask = padded([self.tokens[index] for index in indices], device)
        return tokens, mask, torch.from_numpy(self.targets[np.asarray(indices)]).to(device)


def _target(document: Document, places: dict[str, int] | None) -> float:
    try:
        return float(document.label) if places is None else places[str(document.label)]  # type: ignore[arg-type]
    except (KeyError, ValueError):
        expected = "a number" if places is None else ", ".join(list(places)[:20])
        raise InvalidArgumentError(
            "bad label", where=document.name, expected=expected, got=repr(document.label)
        ) from None


class TextLabelling:
    """Classes or numbers of texts. Metrics on held-out ones: `accuracy` and `loss`, or `r2` and `mean_absolute_error`.

    A batch is as long as its longest text; the rest of a row is masked, which no output depends on.
    """

    unit = "texts"

    def __init__(
        self, model: Any, train: LabelledTexts, held_out: LabelledTexts, *, batch: int = 16, seed: int = 0
    ) -> None:
        self.model = model
        self._train, self._held_out = train, held_out
        self._batches = Batches(len(train), batch, seed)
        self._device = next(model.parameters()).device
        self._classes = model.config.task == "classification"
        self.goals = (
            {"accuracy": "max", "loss": "min"} if self._classes else {"r2": "max", "mean_absolute_error": "min"}
        )
        self.data = f"{len(train):,} texts, {len(held_out):,} held out"

    def sample_inputs(self) -> tuple[dict[str, Tensor], int]:
        """The longest text."""
        return {"tokens": torch.zeros(1, max(map(len, self._train.tokens)), dtype=torch.int64)}, 1

    def loss(self, step: int) -> tuple[Tensor, int]:
        """(loss of the step's texts, how many they are)."""
        tokens, mask, targets = self._train.batch(self._batches.at(step), self._device)
        return self.model(tokens, mask, labels=targets).loss, len(tokens)

    def evaluate(self) -> dict[str, float]:
        """Nothing where no text is held out."""
        if not len(self._held_out):
            return {}
        found = outputs_of(self.model, self._held_out, self._batches.batch)
        targets = torch.from_numpy(self._held_out.targets)
        if self._classes:
            right = (found.argmax(1) == targets).double().mean()
            return {"accuracy": float(right), "loss": float(functional.cross_entropy(found, targets))}
        return regression_scores(targets.numpy(), found[:, 0].numpy())


def regression_scores(targets: Any, found: Any) -> dict[str, float]:
    """`r2`, `mean_absolute_error` and `pearson` of numbers (N); NaN where the targets are all the same."""
    y, z = np.asarray(targets, np.float64), np.asarray(found, np.float64)
    spread = float(((y - y.mean()) ** 2).sum())
    moved = float(((z - z.mean()) ** 2).sum())
    together = float(((y - y.mean()) * (z - z.mean())).sum())
    return {
        "r2": 1 - float(((y - z) ** 2).sum()) / spread if spread else math.nan,
        "mean_absolute_error": float(np.abs(y - z).mean()),
        "pearson": together / math.sqrt(spread * moved) if spread and moved else math.nan,
    }


@torch.no_grad()
def outputs_of(model: Any, texts: LabelledTexts, batch: int) -> Tensor:
    """(texts, labels) float32 on the CPU, in the order of the texts."""
    order = sorted(range(len(texts)), key=lambda index: len(texts.tokens[index]))
    device = next(model.parameters()).device
    parts = []
    for rows in _in_batches(order, batch):
        tokens, mask, _ = texts.batch(rows, device)
        parts.append(model(tokens, mask).logits.float().cpu())
    made = torch.cat(parts)
    return torch.empty_like(made).index_copy(0, torch.tensor(order), made)


def padded(rows: Sequence[npt.NDArray[Any]], device: Any) -> tuple[Tensor, Tensor]:
    """(int64 (B, L), mask (B, L)) of integer rows of several lengths; L is at least 1."""
    width = max(1, *map(len, rows)) if rows else 1
    tokens = np.zeros((len(rows), width), np.int64)
    mask = np.zeros((len(rows), width), np.int64)
    for place, row in enumerate(rows):
        tokens[place, : len(row)] = row
        mask[place, : len(row)] = 1
    return torch.from_numpy(tokens).to(device), torch.from_numpy(mask).to(device)


def _in_batches(rows: Sequence[Any], batch: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(rows), batch):
        yield rows[start : start + batch]
