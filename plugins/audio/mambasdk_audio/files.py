"""Audio files by their content: WAV as it is; FLAC, OGG and MP3 through libsndfile, as WAV. Imports no torch."""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np

from mambasdk.errors import InvalidArgumentError, require_module

_MAX_SAMPLES = 115_200_000  # of all channels; an hour of stereo at 16 kHz, as the native processors allow


def read_audio(path: str | os.PathLike[str]) -> bytes:
    """A file's content as the native processors take it: a WAV file.

    Raises InvalidArgumentError for a file that libsndfile cannot read or that is longer than 115,200,000 samples;
    MissingDependencyError where it is no WAV file and the package soundfile is not installed.
    """
    return as_wav(Path(path).read_bytes(), str(path))


def as_wav(data: bytes, where: str) -> bytes:
    """`data` where it is not recognised as FLAC, OGG or MP3, else a WAV file of float32 samples."""
    kind = _kind(data)
    if kind is None:
        return data
    soundfile: Any = require_module("soundfile", f"reading {kind}", "pip install 'mambasdk-audio[formats]'")
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            if file.frames * file.channels > _MAX_SAMPLES:
                raise InvalidArgumentError(
                    f"{file.frames * file.channels:,} samples", where=where, expected=f"at most {_MAX_SAMPLES:,}"
                )
            samples = file.read(dtype="float32", always_2d=True)  # (n, channels)
            rate = file.samplerate
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise InvalidArgumentError(f"cannot be read as {kind}: {error}", where=where) from error
    return _wav(samples, rate)


def _kind(data: bytes) -> str | None:
    if data[:4] == b"fLaC":
        return "FLAC"
    if data[:4] == b"OggS":
        return "OGG"
    frame = len(data) > 1 and data[0] == 0xFF and data[1] & 0xE0 == 0xE0
    return "MP3" if data[:3] == b"ID3" or frame else None


def _wav(samples: Any, rate: int) -> bytes:
    """IEEE float WAV of float32 (n, channels)."""
    channels = samples.shape[1]
    body = np.ascontiguousarray(samples, "<f4").tobytes()
    form = struct.pack("<HHIIHH", 3, channels, rate, 4 * channels * rate, 4 * channels, 32)
    chunks = b"fmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks
