"""What training does to clips so that they are never twice the same (arXiv 2405.11831). NumPy only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mambasdk.errors import InvalidArgumentError

Array = npt.NDArray[np.float32]
MIXUP_CONCENTRATION = 10.0
_LARGEST_SHIFT = 10  # frames


@dataclass(frozen=True)
class Augmentation:
    """freq_mask, time_mask: SpecAugment; one band of bins and one of frames, each narrower than this, is silenced.

    mixup: the share of clips that are mixed with another one. noise: add uniform noise of a random strength and shift
    the clip in time, round its ends.
    """

    freq_mask: int = 0
    time_mask: int = 0
    mixup: float = 0.0
    noise: bool = False

    def __post_init__(self) -> None:
        if self.freq_mask < 0 or self.time_mask < 0:
            raise InvalidArgumentError("bad mask width", where="Augmentation", expected="0 or more")
        if not 0 <= self.mixup <= 1:
            raise InvalidArgumentError("bad mixup", where="Augmentation", expected="from 0 to 1", got=self.mixup)


def mixed(first: Array, second: Array, share: float) -> Array:
    """Samples (n) of `first` with `1 - share` of `second`, both without their mean.

    second: cut or padded to the length of `first`.
    """
    other = np.zeros_like(first)
    count = min(len(first), len(second))
    other[:count] = second[:count] - second.mean()
    both: Array = (share * (first - first.mean()) + (1 - share) * other).astype(np.float32)
    both -= both.mean()
    return both


def augmented(x: Array, settings: Augmentation, silence: float, rng: np.random.Generator) -> Array:
    """A copy of the spectrogram x (T, F) with masks of the value `silence`, noise and a shift, as the settings say.

    silence: what a frame of padding holds; upstream masks before it normalises, so its masks are padding.
    """
    x = x.copy()
    for axis, width in ((1, settings.freq_mask), (0, settings.time_mask)):
        if width:
            size = x.shape[axis]
            band = min(int(rng.uniform(0, width)), size)
            first = int(rng.uniform(0, size - band))
            index: list[Any] = [slice(None), slice(None)]
            index[axis] = slice(first, first + band)
            x[tuple(index)] = silence
    if settings.noise:
        x += rng.random(x.shape, np.float32) * np.float32(rng.random() / 10)
        x = np.roll(x, int(rng.integers(-_LARGEST_SHIFT, _LARGEST_SHIFT)), 0)
    return x
