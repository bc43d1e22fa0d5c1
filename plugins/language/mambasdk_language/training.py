"""Training of causal language models: AdamW, warm-up and cosine, clipping, carried state, checkpoints."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from mambasdk.errors import CheckpointError, InvalidArgumentError
from mambasdk.nn import CausalLM, ModelState, parameter_groups
from mambasdk_language.corpus import Corpus, Tokens, Windows

_CHECKPOINT = "mambasdk-language-training-1"


@dataclass(frozen=True)
class TrainingOptions:
    """How to train. Defaults of the optimiser: the Mamba paper's (spec mamba.md section 10).

    steps, minutes: when to end, whichever comes first; the learning rate follows the nearer one. batch rows of
    `context` tokens per step; a row's state is carried through `segment` windows. warmup: share of the run. final_lr:
    share of `lr` at the end of the cosine. autocast: dtype of the matrix products, None for the parameters' own.
    """

    steps: int | None = None
    minutes: float | None = None
    batch: int = 8
    context: int = 512
    segment: int = 8
    lr: float = 3e-3
    final_lr: float = 0.05
    warmup: float = 0.03
    weight_decay: float = 0.1
    clip: float = 1.0
    beta1: float = 0.9
    beta2: float = 0.95
    seed: int = 0
    autocast: torch.dtype | None = None

    def __post_init__(self) -> None:
        if self.steps is None and self.minutes is None:
            raise InvalidArgumentError("no end given", where="training", way_out="give steps, minutes or both")
        for name in ("steps", "minutes", "lr", "clip"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InvalidArgumentError(f"bad {name}", where="training", expected="more than 0", got=value)


@dataclass
class TrainingResult:
    """losses: bits per token of each step. held_out: bits per byte at (step) of each evaluation."""

    steps: int = 0
    tokens: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)
    held_out: list[tuple[int, float]] = field(default_factory=list)

    @property
    def tokens_per_second(self) -> float:
        """Training tokens per second, evaluations and checkpoints left out."""
        return self.tokens / self.seconds if self.seconds > 0 else 0.0


class Trainer:
    """One training run; `run` may be called once, after `resume` where a checkpoint is there."""

    def __init__(self, model: CausalLM, corpus: Corpus, options: TrainingOptions) -> None:
        largest = int(corpus.train.max(initial=0))
        if largest >= model.vocab_size:
            raise InvalidArgumentError(
                f"token {largest} in the data", where="training", expected=f"below vocab_size {model.vocab_size}"
            )
        self.model = model
        self.corpus = corpus
        self.options = options
        self.result = TrainingResult()
        self._windows = Windows(
            corpus.train, batch=options.batch, context=options.context, segment=options.segment, seed=options.seed
        )
        self._optimizer = torch.optim.AdamW(
            parameter_groups(model, options.weight_decay),
            lr=options.lr,
            betas=(options.beta1, options.beta2),
            fused=True,
        )
        self._device = next(model.parameters()).device
        self._state: ModelState | None = None
        # Shares of the run, ascending, at which held-out bits are noted.
        self.evaluate_at: tuple[float, ...] = ()

    def run(
        self,
        *,
        evaluate_every: int = 0,
        checkpoint: str | os.PathLike[str] | None = None,
        checkpoint_every: int = 0,
        progress: bool = True,
    ) -> TrainingResult:
        """Train to the end; held-out bits per byte and checkpoints every so many steps, 0 for never."""
        self.model.train()
        with _Bar(self, progress) as bar:
            while (share := self.share_done()) < 1:
                self.step()
                bar.update()
                due = any(share < point <= self.share_done() for point in self.evaluate_at)
                if due or (evaluate_every and self.result.steps % evaluate_every == 0):
                    self.evaluate()
                if checkpoint and checkpoint_every and self.result.steps % checkpoint_every == 0:
                    self.save(checkpoint)
        self.model.eval()
        return self.result

    def step(self) -> float:
        """One step; its loss in bits per token."""
        start = time.perf_counter()
        loss = self._step(self.share_done()) / math.log(2)
        self.result.seconds += time.perf_counter() - start
        self.result.steps += 1
        self.result.tokens += self.options.batch * self.options.context
        self.result.losses.append(loss)
        return loss

    def share_done(self) -> float:
        """How much of the run lies behind, 0 to 1."""
        by_steps = self.result.steps / self.options.steps if self.options.steps else 0.0
        by_time = self.result.seconds / (60 * self.options.minutes) if self.options.minutes else 0.0
        return max(by_steps, by_time)

    def evaluate(self) -> float:
        """Bits per byte of the held-out documents now; also noted in the result."""
        bits = bits_per_byte(self.model, self.corpus.held_out, self.corpus.held_out_bytes)
        self.result.held_out.append((self.result.steps, bits))
        return bits

    def learning_rate(self, share: float) -> float:
        """Linear warm-up, then a cosine down to `final_lr` of the peak."""
        options = self.options
        if share < options.warmup:
            # A whole step away from zero: the first step trains too.
            return options.lr * max(share / options.warmup, 0.02)
        angle = math.pi * (share - options.warmup) / (1 - options.warmup)
        return options.lr * (options.final_lr + (1 - options.final_lr) * (1 + math.cos(angle)) / 2)

    def _step(self, share: float) -> float:
        """One step at this share of the run; its loss in nats."""
        options = self.options
        rows, fresh = self._windows.at(self.result.steps)
        tokens = torch.from_numpy(rows).to(self._device, torch.int64)  # (B, context + 1)
        for group in self._optimizer.param_groups:
            group["lr"] = self.learning_rate(share)
        state = None if self._state is None else _reset_rows(self._state, fresh)
        with torch.autocast(self._device.type, options.autocast, enabled=options.autocast is not None):
            out = self.model(tokens[:, :-1], state)
        loss = functional.cross_entropy(out.logits.float().flatten(0, 1), tokens[:, 1:].flatten())
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), options.clip)
        self._optimizer.step()
        self._state = out.state.detach()
        value = loss.item()
        if not math.isfinite(value):
            raise InvalidArgumentError(
                f"the loss is {value} at step {self.result.steps}", where="training", way_out="use a smaller --lr"
            )
        return value

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a checkpoint from which training goes on with the same bits; replaces the old one when it is whole."""
        state: ModelState | None = self._state
        content = {
            "format": _CHECKPOINT,
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "state": None if state is None else [list(layer) for layer in state.layers],
            "tokens_seen": None if state is None else state.tokens_seen,
            "options": _plain(self.options),
            "result": asdict(self.result),
        }
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(target.name + ".partial")
        torch.save(content, partial)
        os.replace(partial, target)

    def resume(self, path: str | os.PathLike[str]) -> None:
        """Go on from a checkpoint of the same model and options (the end may differ); raises CheckpointError."""
        try:
            content = torch.load(path, map_location=self._device, weights_only=True)
        except Exception as error:  # torch raises many kinds for damaged files
            reason = (str(error).splitlines() or [""])[0]
            raise CheckpointError(f"cannot be read as a training checkpoint: {reason}", where=str(path)) from error
        if not isinstance(content, dict) or content.get("format") != _CHECKPOINT:
            raise CheckpointError("not a training checkpoint", where=str(path))
        ours, theirs = _plain(self.options), content["options"]
        if changed := [name for name in ours if name not in ("steps", "minutes") and ours[name] != theirs.get(name)]:
            raise CheckpointError(
                f"trained with other options: {', '.join(f'{name} = {theirs.get(name)}' for name in changed)}",
                where=str(path),
            )
        try:
            self.model.load_state_dict(content["model"])
        except RuntimeError as error:
            raise CheckpointError("the checkpoint is of another model", where=str(path)) from error
        self._optimizer.load_state_dict(content["optimizer"])
        if content["state"] is not None:
            template = self.model.initial_state(self.options.batch)
            layers = [type(kind)(*tensors) for kind, tensors in zip(template.layers, content["state"], strict=True)]
            self._state = ModelState(layers, content["tokens_seen"])
        result = dict(content["result"])
        self.result = TrainingResult(**{**result, "held_out": [tuple(entry) for entry in result["held_out"]]})


def bits_per_byte(
    model: CausalLM, documents: list[Tokens], total_bytes: int, *, batch: int = 8, window: int = 1024
) -> float:
    """Bits that the model needs for the documents, per byte of their text.

    documents: token arrays, each started with a zero state; their first tokens, which nothing precedes, cost
    log2(vocab_size) each.
    """
    documents = sorted((document for document in documents if len(document)), key=len)
    if not documents or total_bytes < 1:
        raise InvalidArgumentError("no held-out text", where="bits_per_byte")
    training = model.training
    model.eval()
    bits = len(documents) * math.log2(model.vocab_size)
    with torch.no_grad():
        for first in range(0, len(documents), batch):
            nats = sum(_nats(model, documents[first : first + batch], window))
            bits += nats / math.log(2)
    model.train(training)
    return bits / total_bytes


def _nats(model: CausalLM, documents: list[Tokens], window: int) -> Iterator[float]:
    """Cross entropy sums of documents sorted by length, window by window; finished rows are dropped."""
    device = next(model.parameters()).device
    state: ModelState | None = None
    for start in range(0, max(map(len, documents)) - 1, window):
        going = [index for index, document in enumerate(documents) if len(document) - 1 > start]
        if state is not None and len(going) < len(documents):
            state = state.select(going)
        documents = [documents[index] for index in going]
        width = min(window, max(map(len, documents)) - 1 - start)
        inputs = np.zeros((len(documents), width), np.int64)
        targets = np.full((len(documents), width), -100, np.int64)
        for row, document in enumerate(documents):
            piece = document[start : start + width + 1]
            inputs[row, : len(piece) - 1] = piece[:-1]
            targets[row, : len(piece) - 1] = piece[1:]
        out = model(torch.from_numpy(inputs).to(device), state)
        state = out.state
        logits = out.logits[..., : model.vocab_size].float().flatten(0, 1)
        yield functional.cross_entropy(logits, torch.from_numpy(targets).to(device).flatten(), reduction="sum").item()


def _reset_rows(state: ModelState, fresh: np.ndarray[Any, np.dtype[np.bool_]]) -> ModelState:
    """The state with zeros in the rows that begin anew."""
    if not fresh.any():
        return state
    kept = torch.from_numpy(~fresh).to(state.tokens_seen.device)
    keep: Callable[[torch.Tensor], torch.Tensor] = lambda tensor: tensor * kept.view(-1, *[1] * (tensor.ndim - 1))  # noqa: E731
    return state.map(lambda tensor: keep(tensor).to(tensor.dtype))


def _plain(options: TrainingOptions) -> dict[str, Any]:
    """The options with only what `torch.load(weights_only=True)` reads."""
    return {**asdict(options), "autocast": str(options.autocast)}


class _Bar:
    """The progress bar of a run on stderr: share done, live loss, tokens per second."""

    def __init__(self, trainer: Trainer, shown: bool) -> None:
        from tqdm import tqdm

        self._trainer = trainer
        self._smooth: float | None = None
        # Into a file or a log, one line now and then is enough.
        self._bar: Any = tqdm(
            total=100,
            desc="training",
            disable=not shown,
            bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed} {postfix}",
            mininterval=0.2 if sys.stderr.isatty() else 15.0,
        )

    def update(self) -> None:
        """After a step."""
        result = self._trainer.result
        last = result.losses[-1]
        self._smooth = last if self._smooth is None else 0.95 * self._smooth + 0.05 * last
        self._bar.set_postfix_str(
            f"step {result.steps}, loss {self._smooth:.3f} bits, {result.tokens_per_second:,.0f} tokens/s",
            refresh=False,
        )
        self._bar.update(min(100 * self._trainer.share_done(), 100) - self._bar.n)

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
