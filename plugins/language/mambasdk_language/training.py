"""Next-token prediction as a training task: windows with carried state, held-out bits per byte."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch.nn import functional

from mambasdk.errors import CheckpointError, InvalidArgumentError
from mambasdk.nn import CausalLM, ModelState
from mambasdk_language.corpus import Corpus, Tokens, Windows


class LanguageModeling:
    """The task of a causal language model, for mambasdk.training.Trainer.

    Each step has `batch` rows of `context` tokens; a row's state is carried through `segment` windows of its text. The
    loss is the cross entropy per token; the metric `bits_per_byte` is of the held-out documents.
    """

    unit = "tokens"
    loss_unit = ("bits", math.log(2))
    goals: ClassVar = {"bits_per_byte": "min"}

    def __init__(
        self, model: CausalLM, corpus: Corpus, *, batch: int = 8, context: int = 512, segment: int = 8, seed: int = 0
    ) -> None:
        largest = int(corpus.train.max(initial=0))
        if largest >= model.vocab_size:
            raise InvalidArgumentError(
                f"token {largest} in the data", where="training", expected=f"below vocab_size {model.vocab_size}"
            )
        self.model = model
        self.corpus = corpus
        self._sizes = {"batch": batch, "context": context, "segment": segment}
        self._windows = Windows(corpus.train, batch=batch, context=context, segment=segment, seed=seed)
        self._device = next(model.parameters()).device
        self._state: ModelState | None = None
        self.data = f"{corpus.train_bytes:,} bytes of text, {corpus.held_out_bytes:,} held out"

    def sample_inputs(self) -> tuple[dict[str, torch.Tensor], int]:
        """One row of a step."""
        return {"tokens": torch.zeros(1, self._sizes["context"], dtype=torch.int64)}, 1

    def loss(self, step: int) -> tuple[torch.Tensor, int]:
        """Mean cross entropy of the step's tokens in nats, and their number."""
        rows, fresh = self._windows.at(step)
        tokens = torch.from_numpy(rows).to(self._device, torch.int64)  # (B, context + 1)
        state = self._state
        if state is not None and fresh.any():
            state = state.restart(torch.from_numpy(fresh))
        out = self.model(tokens[:, :-1], state)
        self._state = out.state.detach()
        loss = functional.cross_entropy(out.logits.float().flatten(0, 1), tokens[:, 1:].flatten())
        return loss, tokens[:, 1:].numel()

    def evaluate(self) -> dict[str, float]:
        """Bits per byte of the held-out documents; nothing where there are none."""
        if not self.corpus.held_out_bytes:
            return {}
        return {"bits_per_byte": bits_per_byte(self.model, self.corpus.held_out, self.corpus.held_out_bytes)}

    def state_dict(self) -> dict[str, Any]:
        """What is carried from step to step, and the sizes that it was made with."""
        state: ModelState | None = self._state
        return {
            "sizes": self._sizes,
            "layers": None if state is None else [_listed(layer) for layer in state.layers],
            "tokens_seen": None if state is None else state.tokens_seen,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave; raises CheckpointError where sizes differ."""
        sizes = state.get("sizes")
        if sizes != self._sizes:
            raise CheckpointError("trained with other sizes", where="training", expected=self._sizes, got=sizes)
        if state["layers"] is None:
            self._state = None
            return
        template = self.model.initial_state(self._sizes["batch"])
        pairs = zip(template.layers, state["layers"], strict=True)
        layers = [None if kind is None else type(kind)(*tensors) for kind, tensors in pairs]
        self._state = ModelState(layers, state["tokens_seen"])


def bits_per_byte(
    model: CausalLM, documents: list[Tokens], total_bytes: int, *, batch: int = 8, window: int = 1024
) -> float:
    """Bits that the model needs for the documents, per byte of their text.

    documents: token arrays, each started with a zero state; their first tokens, which nothing precedes, cost
    log2(vocab_size) each.
    """
    if total_bytes < 1:
        raise InvalidArgumentError("no held-out text", where="bits_per_byte")
    return sum(document_bits(model, documents, batch=batch, window=window)) / total_bytes


def document_bits(model: CausalLM, documents: Sequence[Tokens], *, batch: int = 8, window: int = 1024) -> list[float]:
    """Bits of each document; see `bits_per_byte`."""
    order = sorted((i for i, document in enumerate(documents) if len(document)), key=lambda i: len(documents[i]))
    if not order:
        raise InvalidArgumentError("no held-out text", where="bits_per_byte")
    training = model.training
    model.eval()
    bits = [0.0] * len(documents)
    with torch.no_grad():
        for first in range(0, len(order), batch):
            rows = order[first : first + batch]
            for row, nats in zip(rows, _nats(model, [documents[row] for row in rows], window), strict=True):
                bits[row] = math.log2(model.vocab_size) + nats / math.log(2)
    model.train(training)
    return bits


def _nats(model: CausalLM, documents: list[Tokens], window: int) -> list[float]:
    """Cross entropy sums of documents sorted by length, window by window; finished rows are dropped."""
    device = next(model.parameters()).device
    state: ModelState | None = None
    sums = [0.0] * len(documents)
    rows = list(range(len(documents)))  # that go on
    for start in range(0, max(map(len, documents)) - 1, window):
        going = [place for place, row in enumerate(rows) if len(documents[row]) - 1 > start]
        if state is not None and len(going) < len(rows):
            state = state.select(going)
        rows = [rows[place] for place in going]
        width = min(window, max(len(documents[row]) for row in rows) - 1 - start)
        inputs = np.zeros((len(rows), width), np.int64)
        targets = np.full((len(rows), width), -100, np.int64)
        for place, row in enumerate(rows):
            piece = documents[row][start : start + width + 1]
            inputs[place, : len(piece) - 1] = piece[:-1]
            targets[place, : len(piece) - 1] = piece[1:]
        out = model(torch.from_numpy(inputs).to(device), state)
        state = out.state
        logits = out.logits[..., : model.vocab_size].float().transpose(1, 2)  # (B, V, L)
        losses = functional.cross_entropy(logits, torch.from_numpy(targets).to(device), reduction="none")
        for row, value in zip(rows, losses.double().sum(1).tolist(), strict=True):
            sums[row] += value
    return sums


def _listed(layer: Any) -> list[torch.Tensor | None] | None:
    """The tensors of a layer's state."""
    return None if layer is None else list(layer)
