"""What this plugin registers: names and import strings only, so that listing models imports no torch."""

from __future__ import annotations

from pathlib import Path

from mambasdk.plugins import FamilySpec, HeadSpec, ProcessorSpec, collect_families, hookimpl

LIBRARY = Path(__file__).parent / "libmambasdk_audio.so"
SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus")  # of sound files


@hookimpl
def mambasdk_families() -> list[FamilySpec]:
    """Those in the folder `families`."""
    return collect_families("mambasdk_audio.families")


@hookimpl
def mambasdk_heads() -> list[HeadSpec]:
    """Classification of clips; the library has the part of that name which makes labels of logits."""
    return [
        HeadSpec(
            name="audio_classification",
            summary="labels of audio clips: training, pretraining, pictures",
            implementation="mambasdk_audio.heads.audio_classification:AudioClassificationHead",
        )
    ]


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
            reader="mambasdk_audio.files:read_audio",
            patterns=tuple(f"*{suffix}" for suffix in SUFFIXES),
        ),
        ProcessorSpec(
            slot="audio",
            kind="fbank",
            summary="WAV or samples to Kaldi's log-mel filterbank",
            factory="mambasdk_audio.processors:FbankProcessor.from_manifest",
            reader="mambasdk_audio.files:read_audio",
            patterns=tuple(f"*{suffix}" for suffix in SUFFIXES),
        ),
    ]
