"""Audio preparation and labels: thin faces of the native processors and head."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from mambasdk.pipeline import Classification, PluginProcessor, raw_input
from mambasdk_audio.files import as_wav


class _AudioProcessor(PluginProcessor):
    plugin = "audio"

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._output = str(options.get("output", self.kind))

    def __call__(self, audio: str | os.PathLike[str] | bytes | Any, rate: int | None = None) -> Any:
        """audio: a path, the bytes of a WAV, FLAC, OGG or MP3 file, or samples, float32 (n) or (channels, n).

        rate: of the samples, in Hz; None where it is the model's. Returns the array that the class describes. Raises
        ValueError for a file that is damaged, too long, too short or of another format.
        """
        given = raw_input(audio)
        if isinstance(given, (bytes, bytearray)):
            given = as_wav(bytes(given), str(audio) if isinstance(audio, (str, os.PathLike)) else "audio")
        inputs = {"audio": given}
        if rate is not None:
            inputs["audio.rate"] = np.array([rate], np.int64)
        return self.run_named(inputs)[self._output]


class WaveformProcessor(_AudioProcessor):
    """Audio to mono samples, float32 (1, n), at the model's rate.

    Options: rate (16000), target_length (0: as it is; else cut or padded with zeros), max_samples (115200000).
    """

    kind = "waveform"


class FbankProcessor(_AudioProcessor):
    """Audio to Kaldi's log-mel filterbank, float32 (1, frames, bins).

    Options: rate (16000), num_mel_bins (128), frame_length_ms (25), frame_shift_ms (10), low_freq (20), high_freq (0:
    half the rate), preemphasis (0.97), subtract_mean (True), target_length in frames (0: as it is), mean (0) and std
    (0.5): the result is (x - mean) / (2 std), max_samples (115200000).
    """

    kind = "fbank"


class AudioClassification(Classification):
    """Logits to the best labels; options as mambasdk.pipeline.Classification has them."""

    plugin = "audio"
    kind = "audio_classification"
