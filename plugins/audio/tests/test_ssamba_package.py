"""SSAMBA packages without PyTorch: pipelines, the command line and a C++ program."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io.wavfile
import torch
import toy_pipelines

import mambasdk
from mambasdk import runtime
from mambasdk.command_line import main
from mambasdk.pipeline import load_pipeline
from mambasdk_audio import FbankProcessor
from mambasdk_audio.families.ssamba import Ssamba
from mambasdk_audio.plugin import LIBRARY

SIZES = {"embed_dim": 32, "depth": 4, "input_fdim": 64, "input_tdim": 96}
LABELS = ["yes", "no", "up"]


def create(**changes: Any) -> Ssamba:
    torch.manual_seed(0)
    model: Any = mambasdk.create_model("ssamba", **{**SIZES, **changes})
    return model.eval()  # type: ignore[no-any-return]


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package of random weights that says yes, no or up of a second of sound."""
    model = create(input_fdim=128, label_dim=3)
    with torch.no_grad():
        model.mlp_head[1].weight.normal_()
    mambasdk.save_package(
        model,
        tmp_path / "package",
        processors={"audio": {"kind": "fbank", "target_length": 96, "mean": -6.0, "std": 4.0}},
        head_options={"labels": LABELS, "top_k": 3},
    )
    return tmp_path / "package"


def write_wav(path: Path, rate: int = 16000, seconds: float = 1.0, channels: int = 1, level: int = 9000) -> Path:
    count = int(rate * seconds)
    x = np.random.default_rng(rate + channels).integers(-level, level + 1, (count, channels)).astype(np.int16)
    scipy.io.wavfile.write(path, rate, x)
    return path


def test_pytorch_native_engine_command_line_and_cpp_say_the_same(
    package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Mono, stereo and other rates, shorter and longer than the model's 0.96 s."""
    files = [
        write_wav(tmp_path / "mono.wav"),
        write_wav(tmp_path / "stereo.wav", channels=2, seconds=0.3),
        write_wav(tmp_path / "studio.wav", 48000, channels=2, seconds=2),
        write_wav(tmp_path / "phone.wav", 8000),
    ]
    model = mambasdk.load(package)
    fbank = FbankProcessor(target_length=96, mean=-6.0, std=4.0)
    pipeline = load_pipeline(package)
    results = [pipeline.run({"audio": path.read_bytes()})["json"] for path in files]
    for path, result in zip(files, results, strict=True):
        with torch.no_grad():
            shares = model(torch.from_numpy(fbank(path))).softmax(-1)[0]
        found = {entry["label"]: entry["score"] for entry in result["labels"]}
        assert [found[label] for label in LABELS] == pytest.approx(shares.tolist(), abs=1e-5)
    assert toy_pipelines.run_cpp(package, "audio", files, LIBRARY) == results
    assert main(["predict", str(package), *map(str, files), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)["results"]
    assert [entry["labels"] for entry in printed] == [result["labels"] for result in results]


def test_silence_is_classified(package: Path, tmp_path: Path) -> None:
    """A file of zeros is the floor of the filterbank everywhere, 15.94 below 0, and its scores are finite."""
    path = write_wav(tmp_path / "silent.wav", level=0)
    x = FbankProcessor()(path)
    assert np.allclose(x, np.log(np.float32(1.1920929e-7)), atol=1e-4)
    labels = load_pipeline(package).run({"audio": path.read_bytes()})["json"]["labels"]
    assert sum(entry["score"] for entry in labels) == pytest.approx(1, abs=1e-5)


def test_clips_shorter_than_a_patch_are_padded_and_than_a_frame_refused(
    package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = write_wav(tmp_path / "short.wav", seconds=0.05)  # 3 frames; a patch has 16
    padded = FbankProcessor(target_length=96)(short)
    assert not padded[0, 3:].any()
    assert len(load_pipeline(package).run({"audio": short.read_bytes()})["json"]["labels"]) == 3
    empty = write_wav(tmp_path / "empty.wav", seconds=0.02)
    assert main(["predict", str(package), str(empty)]) == 2
    assert "has 320 samples at 16000 Hz, expected at least one frame of 400" in capsys.readouterr().err


def test_picture_shows_the_spectrogram_and_the_labels(
    package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    clip = write_wav(tmp_path / "noise.wav", seconds=1.5)
    assert main(["predict", str(package), str(clip), "--plot", str(tmp_path / "noise.png"), "--json"]) == 0
    with Image.open(tmp_path / "noise.png") as picture:
        assert picture.size == (1080, 432)
        colors = {color for _, color in picture.convert("RGB").getcolors(1 << 20) or []}
    assert (217, 72, 1) in colors  # the bar of the best label
    assert len(colors) > 100  # the spectrogram
    assert json.loads(capsys.readouterr().out)["results"][0]["plot"] == str(tmp_path / "noise.png")


def test_package_for_pretraining_has_tokens_and_says_that_it_has_no_labels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = create(input_fdim=128)
    entry = {"kind": "fbank", "target_length": 96}
    mambasdk.save_package(model, tmp_path / "package", processors={"audio": entry})
    clip = write_wav(tmp_path / "clip.wav")
    session = runtime.load_package(tmp_path / "package").session()
    found = session.run({"fbank": FbankProcessor(target_length=96)(clip)}, ["tokens", "embedding"])
    assert found["tokens"].shape == (1, 1 + model.config.patches, 32)
    np.testing.assert_allclose(found["embedding"], found["tokens"][:, 1:].mean(1), atol=1e-5)
    assert main(["predict", str(tmp_path / "package"), str(clip)]) == 2
    assert "logits" in capsys.readouterr().err
