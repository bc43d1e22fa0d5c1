"""Clips as the model's input: prepared by the native processor, kept while there is room. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mambasdk.errors import InvalidArgumentError
from mambasdk.progress import track
from mambasdk.training.readable import readable
from mambasdk_audio.processors import FbankProcessor, WaveformProcessor
from mambasdk_audio.training.augmentation import Array
from mambasdk_audio.training.clips import Clip

_ROOM = 2 << 30  # bytes kept in memory; what is over it is read again when it is needed


class Spectrograms:
    """The spectrograms (T, F) of clips by index, and the samples that they are made of."""

    def __init__(self, clips: Sequence[Clip], entry: Mapping[str, Any], room: int = _ROOM) -> None:
        """entry: the manifest's entry of the processor, with its options; room: bytes to keep in memory."""
        options = {name: value for name, value in entry.items() if name != "kind"}
        self.clips = list(clips)
        self._fbank = FbankProcessor(**options)
        rate = {name: options[name] for name in ("rate", "max_samples") if name in options}
        self._waveform = WaveformProcessor(**rate)
        mean, std = options.get("mean", 0.0), options.get("std", 0.5)
        self.silence = float(-mean / (2 * std))  # what padding becomes
        self._room = room
        self._samples: dict[int, Array] = {}
        self._spectrograms: dict[int, Array] = {}

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> Array:
        """(T, F), normalised and of the model's length."""
        return self._kept(self._spectrograms, index, self._fbank)

    def samples(self, index: int) -> Array:
        """(n), mono, at the model's rate."""
        return self._kept(self._samples, index, self._waveform)

    def of_samples(self, samples: Array, path: Path) -> Array:
        """(T, F) of samples; `path` is for the message where they are too short."""
        try:
            made: Array = self._fbank(samples)[0]
        except (ValueError, RuntimeError) as error:
            raise InvalidArgumentError(str(error), where=str(path)) from error
        return made

    def _kept(self, kept: dict[int, Array], index: int, processor: Any) -> Array:
        """What `processor` makes of a clip; kept while there is room."""
        found = kept.get(index)
        if found is None:
            found = _readable(processor, self.clips[index].path)[0]
            if self._room >= found.nbytes:
                self._room -= found.nbytes
                kept[index] = found
        return found


def readable_clips(clips: Sequence[Clip], *, skip_bad: bool) -> list[Clip]:
    """The clips where all can be read, else (skip_bad) those that can.

    Raises InvalidArgumentError that names every file that cannot be read.
    """
    if not clips:
        return []
    fbank = FbankProcessor()
    good = readable([clip.path for clip in clips], lambda i: fbank(clips[i].path), skip_bad=skip_bad, what="clips")
    return [clips[index] for index in good]


def measured(clips: Sequence[Clip]) -> tuple[int, float, float]:
    """(frames of the longest clip, mean, standard deviation of the log-mel values) over all clips."""
    fbank = FbankProcessor()
    frames, count, total, squares = 0, 0, 0.0, 0.0
    for clip in track(clips, "measuring", len(clips)):
        x = _readable(fbank, clip.path)[0].astype(np.float64)  # (T, F)
        frames = max(frames, x.shape[0])
        count += x.size
        total += float(x.sum())
        squares += float(np.square(x).sum())
    mean = total / count
    # Clips of pure silence have no deviation.
    return frames, mean, max((squares / count - mean**2), 1e-6) ** 0.5


def _readable(processor: Any, path: Path) -> Array:
    try:
        made: Array = processor(path)
    except (ValueError, RuntimeError, OSError, NotImplementedError) as error:
        raise InvalidArgumentError(str(error), where=str(path)) from error
    return made
