"""Documents of several modalities as a training task, and what models cost on held-out ones. Needs torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mambasdk.errors import InvalidArgumentError
from mambasdk.nn import ModelState
from mambasdk.training import Batches, distributed
from mambasdk_multimodal.documents import Sequences
from mambasdk_multimodal.objectives import Batch, by_modality, losses

# Levels of noise, of the number of steps, at which held-out latents are measured.
LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)


class MultimodalModeling:
    """The task of a model of several modalities, for `mambasdk.training.Trainer`.

    Every step has `batch` pieces of documents of at most `context` tokens that are asked for. The loss is the cross
    entropy of the next tokens, and `latent_weight` times the mean square error of the noise in latents. Metrics:
    `loss`, `bits` of a token, `<modality>_bits`, and `noise_error`.
    """

    unit = "tokens"

    def __init__(
        self,
        model: Any,
        train: Sequence[Sequences],
        held_out: Sequence[Sequences],
        *,
        batch: int = 8,
        context: int = 512,
        seed: int = 0,
    ) -> None:
        if context < 1:
            raise InvalidArgumentError("bad context", where="training", expected="1 or more", got=context)
        self.model = model
        # Pieces overlap by a token, which the one is asked for and the next begins with.
        self._pieces = [
            row.piece(start, start + context + 1) for row in train for start in range(0, max(len(row) - 1, 1), context)
        ]
        self._held_out = [row for row in held_out if len(row) > 1]
        self._batches = Batches(len(self._pieces), batch, seed)
        self._seed = seed
        self._device = next(model.parameters()).device
        tokens = sum(map(len, train))
        self.data = f"{len(train):,} documents, {tokens:,} tokens, {len(held_out):,} documents held out"
        self.goals = {"loss": "min", "bits": "min"}

    def sample_inputs(self) -> tuple[dict[str, torch.Tensor], int]:
        """The longest piece."""
        batch = Batch.of(self.model, [max(self._pieces, key=len)], self._device)
        inputs = {"tokens": batch.tokens}
        if batch.latents is not None:
            inputs |= {"latents": batch.latents, "times": torch.zeros(batch.tokens.shape, device=self._device)}
        return inputs, 1

    def loss(self, step: int) -> tuple[torch.Tensor, int]:
        """The step's loss, and how many tokens were read."""
        batch = Batch.of(self.model, [self._pieces[index] for index in self._batches.at(step)], self._device)
        config = self.model.config
        given: dict[str, Any] = {}
        if batch.latents is not None:
            generator = np.random.default_rng((self._seed, step, distributed.rank()))
            levels = generator.uniform(0, config.diffusion_steps, batch.images).astype(np.float32)
            noise = generator.standard_normal(batch.latents.shape, np.float32)
            given = {"levels": self._tensor(levels), "noise": self._tensor(noise)}
        return losses(self.model, batch, **given).total(config.latent_weight), batch.tokens.numel()

    def evaluate(self) -> dict[str, float]:
        """Nothing where no document is held out."""
        if not self._held_out:
            return {}
        return measure(self.model, self._held_out, batch=self._batches.batch).metrics(self.model)

    def _tensor(self, array: Any) -> torch.Tensor:
        return torch.from_numpy(array).to(self._device)


@dataclass(frozen=True)
class Costs:
    """What documents cost. nats, tokens: by modality. noise_error: mean square, None without latents."""

    nats: list[float]
    tokens: list[int]
    noise_error: float | None

    def metrics(self, model: Any) -> dict[str, float]:
        """By the names of the task; a modality without a token has none."""
        total = sum(self.nats) / max(sum(self.tokens), 1)
        found = {"loss": total + (model.config.latent_weight * self.noise_error if self.noise_error else 0.0)}
        found["bits"] = total / math.log(2)
        for name, nats, count in zip(model.config.modalities, self.nats, self.tokens, strict=True):
            if count:
                found[f"{name}_bits"] = nats / count / math.log(2)
        return found if self.noise_error is None else {**found, "noise_error": self.noise_error}


@torch.no_grad()
def measure(model: Any, documents: Sequence[Sequences], *, batch: int = 8, window: int = 1024) -> Costs:
    """Documents of two tokens or more, each from a zero state, `window` tokens at a time.

    Tokens are read beside clean latents; the noise's error is the mean over LEVELS, with the same noise each time.
    """
    if not documents:
        raise InvalidArgumentError("no document of two tokens or more", where="measure")
    training = model.training
    model.eval()
    device = next(model.parameters()).device
    steps = model.config.diffusion_steps
    count = len(model.config.modalities)
    nats, tokens = np.zeros(count), np.zeros(count, np.int64)
    error, vectors = 0.0, 0
    generator = np.random.default_rng(0)
    ordered = sorted(documents, key=len)
    for first in range(0, len(ordered), batch):
        whole = Batch.of(model, ordered[first : first + batch], device)
        levels = [0.0] if whole.latents is None or not whole.images else [0.0, *(level * steps for level in LEVELS)]
        noise = None
        if whole.latents is not None:
            noise = torch.from_numpy(generator.standard_normal(whole.latents.shape, np.float32)).to(device)
        for level in levels:
            state: ModelState | None = None
            for start in range(0, whole.tokens.shape[1], window):
                piece = _columns(whole, start, start + window)
                given = {} if noise is None else {"noise": noise[:, start : start + window]}
                if noise is not None:
                    given["levels"] = torch.full((whole.images,), level, device=device)
                made = losses(model, piece, state=state, **given)
                state = made.state
                if level == 0:
                    more, asked = by_modality(model, piece, made.nats)
                    nats += more.cpu().numpy()
                    tokens += asked.cpu().numpy()
                elif made.errors is not None and made.vectors is not None:
                    error += float(made.errors.sum())
                    vectors += int(made.vectors)
    model.train(training)
    noise_error = None if not model.config.latent_dim else error / max(vectors, 1)
    return Costs(nats.tolist(), tokens.tolist(), noise_error)


def _columns(batch: Batch, start: int, end: int) -> Batch:
    part = slice(start, end)
    latents = None if batch.latents is None else batch.latents[:, part]
    image = None if batch.image is None else batch.image[:, part]
    return Batch(batch.tokens[:, part], batch.targets[:, part], latents, image)
