"""What is learnt: the next token of every modality, and the noise in latent vectors. Needs torch.

Sources: next tokens of all modalities by one cross entropy (arXiv 2405.09818); beside them the noise of images, each at
one level (arXiv 2408.11039).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mambasdk.nn import ModelState
from mambasdk.nn.causal_lm import IGNORE_INDEX
from mambasdk_multimodal.diffusion import noisy
from mambasdk_multimodal.documents import Sequences
from mambasdk_multimodal.nn import modality_of


@dataclass(frozen=True)
class Batch:
    """Rows of a step, padded on the right, where a causal model's other outputs do not see it.

    tokens: (B, L) int64. targets: (B, L) int64, the token after each; -100 where none is asked for: at the end of a
    row and within an image of latents. latents: (B, L, P), clean, and image: (B, L) int64, a number for each image and
    -1 at tokens; None of a model without latents.
    """

    tokens: Tensor
    targets: Tensor
    latents: Tensor | None
    image: Tensor | None

    @classmethod
    def of(cls, model: Any, rows: Sequence[Sequences], device: Any) -> Batch:
        """The rows for a model; the last token of each is a target alone where it has no latents."""
        width = max(1, *map(len, rows))
        tokens = np.zeros((len(rows), width), np.int64)
        there = np.zeros((len(rows), width), bool)
        for place, row in enumerate(rows):
            tokens[place, : len(row)] = row.tokens
            there[place, : len(row)] = True
        on = torch.from_numpy(tokens).to(device)
        targets = functional.pad(
            torch.where(torch.from_numpy(there).to(device), on, IGNORE_INDEX)[:, 1:], (0, 1), value=IGNORE_INDEX
        )
        if not model.config.latent_dim:
            return cls(on[:, :-1], targets[:, :-1], None, None) if width > 1 else cls(on, targets, None, None)
        latents = np.zeros((len(rows), width, model.config.latent_dim), np.float32)
        for place, row in enumerate(rows):
            if row.latents is not None:
                latents[place, : len(row)] = row.latents
        is_latent = model.is_latent(on) & torch.from_numpy(there).to(device)
        targets = targets.masked_fill(is_latent & functional.pad(is_latent[:, 1:], (0, 1)), IGNORE_INDEX)
        begins = is_latent & ~functional.pad(is_latent[:, :-1], (1, 0))
        image = torch.where(is_latent, begins.flatten().cumsum(0).view_as(on) - 1, -1)
        return cls(on, targets, torch.from_numpy(latents).to(device), image)

    @property
    def images(self) -> int:
        """How many images of latents there are."""
        return 0 if self.image is None or not self.image.numel() else int(self.image.max()) + 1


@dataclass(frozen=True)
class Losses:
    """nats: (B, L) cross entropy, 0 where no token is asked for. errors: (B, L) mean square of the noise's error, 0 at
    tokens; None of a model without latents. The losses are means over what is asked for.
    """

    nats: Tensor
    errors: Tensor | None
    tokens: Tensor
    vectors: Tensor | None
    state: ModelState | None

    @property
    def token_loss(self) -> Tensor:
        """In nats."""
        return self.nats.sum() / self.tokens.clamp(min=1)

    @property
    def noise_loss(self) -> Tensor | None:
        """Mean square."""
        return None if self.errors is None or self.vectors is None else self.errors.sum() / self.vectors.clamp(min=1)

    def total(self, latent_weight: float) -> Tensor:
        """What is trained on."""
        noise = self.noise_loss
        return self.token_loss if noise is None else self.token_loss + latent_weight * noise


def losses(
    model: Any,
    batch: Batch,
    *,
    levels: Tensor | None = None,  # (images), of the noise of each image
    noise: Tensor | None = None,  # (B, L, P)
    state: ModelState | None = None,
) -> Losses:
    """Run the model on a batch; levels and noise: of a model with latents, whose images get them."""
    asked = (batch.targets != IGNORE_INDEX).sum()
    if batch.latents is None or batch.image is None or levels is None or noise is None:
        out = model(batch.tokens, state)
        return Losses(_nats(model, out, batch.targets), None, asked, None, out.state)
    there = batch.image >= 0
    times = torch.where(there, levels[batch.image.clamp(min=0)], 0.0) if len(levels) else there.to(torch.float32)
    given = noisy(batch.latents, noise, times, model.config.diffusion_steps)
    out = model(batch.tokens, state, latents=given, times=times)
    errors = (out.noise.float() - noise).square().mean(-1) * there
    return Losses(_nats(model, out, batch.targets), errors, asked, there.sum(), out.state)


def _nats(model: Any, out: Any, targets: Tensor) -> Tensor:
    """(B, L) cross entropy of the real tokens; the padding of the vocabulary is none of them."""
    logits = out.logits[..., : model.vocab_size].float().flatten(0, 1)
    nats = functional.cross_entropy(logits, targets.flatten(), ignore_index=IGNORE_INDEX, reduction="none")
    return nats.view_as(targets)


def by_modality(model: Any, batch: Batch, nats: Tensor) -> tuple[Tensor, Tensor]:
    """(nats (M), tokens (M)) of the targets of each modality, float64 and int64."""
    count = len(model.backbone.ranges)
    asked = batch.targets != IGNORE_INDEX
    modality = modality_of(batch.targets, model.backbone.ranges)[asked]
    sums = torch.zeros(count, dtype=torch.float64, device=nats.device)
    return (
        sums.index_add(0, modality, nats[asked].double()),
        torch.bincount(modality, minlength=count),
    )
