"""What this plugin registers: names and import strings only."""

from __future__ import annotations

from pathlib import Path

from mambasdk.plugins import ProcessorSpec, hookimpl

LIBRARY = Path(__file__).parent / "libmambasdk_audio.so"


@hookimpl
def mambasdk_native_libraries() -> list[Path]:
    """Processors `waveform` and `fbank`; head `audio_classification`."""
    return [LIBRARY]


@hookimpl
def mambasdk_processors() -> list[ProcessorSpec]:
    """The processors for Python."""
    return [
        ProcessorSpec(
            slot="audio",
            kind="waveform",
            summary="WAV or samples to mono samples at the model's rate",
            factory="mambasdk_audio.processors:WaveformProcessor.from_manifest",
        ),
        ProcessorSpec(
            slot="audio",
            kind="fbank",
            summary="WAV or samples to Kaldi's log-mel filterbank",
            factory="mambasdk_audio.processors:FbankProcessor.from_manifest",
        ),
    ]
