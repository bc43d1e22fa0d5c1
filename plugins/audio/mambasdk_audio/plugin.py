"""What this plugin registers: names and import strings only."""

from __future__ import annotations

from pathlib import Path

from mambasdk.plugins import FamilySpec, HeadSpec, ProcessorSpec, hookimpl

_SIZES = {"tiny": 192, "small": 384, "base": 768}
LIBRARY = Path(__file__).parent / "libmambasdk_audio.so"


# AudioSet and LibriSpeech, on which the published models were pretrained (spec ssamba.md, sections 1 and 5).
AUDIOSET = {"kind": "fbank", "target_length": 1024, "mean": -4.2677393, "std": 4.5689974}


@hookimpl
def mambasdk_families() -> list[FamilySpec]:
    """Ssamba."""
    return [
        FamilySpec(
            name="ssamba",
            summary="SSAMBA, self-supervised audio encoder on bidirectional Mamba (arXiv 2405.11831)",
            config="mambasdk_audio.families.ssamba.config:SsambaConfig",
            factory="mambasdk_audio.families.ssamba.model:build",
            importer="mambasdk_audio.families.ssamba.checkpoint:import_ssamba",
            variants={f"ssamba-{size}": {"embed_dim": dim} for size, dim in _SIZES.items()},
            head="audio_classification",
            processors={"audio": AUDIOSET},
            tiny={"embed_dim": 16, "depth": 2, "d_state": 4, "input_fdim": 32, "input_tdim": 48, "label_dim": 3},
            causal=False,
        )
    ]


@hookimpl
def mambasdk_heads() -> list[HeadSpec]:
    """Classification of clips; the library has the part of that name which makes labels of logits."""
    return [
        HeadSpec(
            name="audio_classification",
            summary="labels of audio clips: training, pretraining, pictures",
            implementation="mambasdk_audio.head:AudioClassificationHead",
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
        ),
        ProcessorSpec(
            slot="audio",
            kind="fbank",
            summary="WAV or samples to Kaldi's log-mel filterbank",
            factory="mambasdk_audio.processors:FbankProcessor.from_manifest",
        ),
    ]
