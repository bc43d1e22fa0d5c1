"""Noise on latent vectors: the schedule, what a model is given of it, and images out of it. Needs torch.

Sources: denoising diffusion (arXiv 2006.11239), the cosine schedule (arXiv 2102.09672), deterministic sampling
(arXiv 2010.02502), images as latents within a sequence (arXiv 2408.11039).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

_OFFSET = 0.008  # of the cosine schedule, arXiv 2102.09672, equation 17
_LEAST = 1e-4  # of what is left of the signal; at 0 it could not be got back


def signal_share(times: Tensor, steps: int) -> Tensor:
    """The share of the variance that is signal, in float64, at levels of noise `times` in [0, steps]: 1 at 0."""
    angle = (times.double() / steps + _OFFSET) / (1 + _OFFSET) * (math.pi / 2)
    start = math.cos(_OFFSET / (1 + _OFFSET) * math.pi / 2) ** 2
    return (torch.cos(angle).square() / start).clamp(_LEAST, 1.0)


def noisy(latents: Tensor, noise: Tensor, times: Tensor, steps: int) -> Tensor:
    """Latents (…, P) at the levels `times` (…) of noise (…, P)."""
    signal, rest = _weights(times, steps, latents)
    return signal * latents + rest * noise


def denoised(
    noisy_latents: Tensor, noise: Tensor, times: Tensor, to: Tensor, steps: int, limit: float | None = None
) -> Tensor:
    """Latents at `times` (…) taken to the lower level `to` (…), by the noise (…, P) that a model says is in them.

    limit: the signal is held within it, and the noise is what then is left: at high levels a small error of the noise
    is a large one of the signal.
    """
    (signal_now, noise_now), (signal_then, noise_then) = (_weights(t, steps, noisy_latents) for t in (times, to))
    signal = (noisy_latents - noise_now * noise) / signal_now
    if limit is not None:
        signal = signal.clamp(-limit, limit)
        noise = (noisy_latents - signal_now * signal) / noise_now.clamp(min=_LEAST)
    return signal_then * signal + noise_then * noise


def _weights(times: Tensor, steps: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """What signal and noise are multiplied by, (…, 1) in the dtype of `like`."""
    share = signal_share(times, steps).unsqueeze(-1)
    return share.sqrt().to(like.dtype), (1 - share).sqrt().to(like.dtype)


class TimeEmbedding(nn.Module):
    """Levels of noise (…) to vectors (…, D): cosines and sines of many frequencies, then an MLP."""

    def __init__(self, dim: int, steps: int) -> None:
        super().__init__()
        self.frequencies = max(dim // 2, 1)
        self.scale = 1000.0 / steps  # of the published models, which have 1000 levels
        self.linear1 = nn.Linear(2 * self.frequencies, dim)
        self.linear2 = nn.Linear(dim, dim)

    def forward(self, times: Tensor) -> Tensor:
        """Times (…) in any floating-point dtype."""
        numbers = torch.arange(self.frequencies, dtype=torch.float32, device=times.device)
        rates = torch.exp(numbers * (-math.log(10000.0) / self.frequencies)) * self.scale
        angles = times.float().unsqueeze(-1) * rates
        waves = torch.cat([angles.cos(), angles.sin()], -1).to(self.linear1.weight.dtype)
        y: Tensor = self.linear2(nn.functional.silu(self.linear1(waves)))
        return y
