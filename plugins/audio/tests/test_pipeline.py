"""WAV file in, labels out: a toy native package from Python, from the command line and from C++."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.io.wavfile
import toy_pipelines

from mambasdk.command_line import main
from mambasdk.pipeline import load_pipeline
from mambasdk_audio import FbankProcessor
from mambasdk_audio.plugin import LIBRARY

OPTIONS = {"target_length": 20, "num_mel_bins": 16, "mean": -4.0, "std": 4.0}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    program, weights = toy_pipelines.linear_classifier("fbank", [1, 20, 16], 4)
    return toy_pipelines.write_package(
        tmp_path / "package",
        program,
        weights,
        processors={"audio": {"kind": "fbank", **OPTIONS}},
        head="audio_classification",
        head_options={"labels": ["yes", "no", "up", "down"], "top_k": 4},
        plugin="mambasdk-audio",
    )


@pytest.mark.parametrize("kind", ["flac", "ogg", "mp3"])
def test_predict_reads_other_formats(
    kind: str, package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    soundfile = pytest.importorskip("soundfile")
    folder = tmp_path / "clips"
    folder.mkdir()
    path = folder / f"a.{kind}"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32), 16000)
    decoded, rate = soundfile.read(path, dtype="float32")
    scipy.io.wavfile.write(folder / "b.wav", rate, decoded)
    assert main(["predict", str(package), str(folder), "--json"]) == 0
    compressed, wav = json.loads(capsys.readouterr().out)["results"]
    assert compressed["file"] == str(path)
    # A decoder of MP3 rounds by where it starts, so not always to the last bit.
    assert [label["index"] for label in compressed["labels"]] == [label["index"] for label in wav["labels"]]
    assert [label["score"] for label in compressed["labels"]] == pytest.approx(
        [label["score"] for label in wav["labels"]], abs=1e-6
    )


def test_labels_in_python_command_line_and_cpp(
    package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chance = np.random.default_rng(0)
    files = [tmp_path / "a.wav", tmp_path / "b.wav"]
    for path, rate in zip(files, (16000, 44100), strict=True):
        scipy.io.wavfile.write(path, rate, chance.integers(-9000, 9000, (rate // 3, 2), np.int16))
    _, weights = toy_pipelines.linear_classifier("fbank", [1, 20, 16], 4)
    pipeline = load_pipeline(package)
    results = [pipeline.run({"audio": path.read_bytes()})["json"] for path in files]
    for path, result in zip(files, results, strict=True):
        x = FbankProcessor(**OPTIONS)(path).astype(np.float64).reshape(-1)
        logits = weights["head.weight"].astype(np.float64) @ x + weights["head.bias"]
        assert [entry["index"] for entry in result["labels"]] == np.argsort(-logits).tolist()
    assert toy_pipelines.run_cpp(package, "audio", files, LIBRARY) == results
    assert main(["predict", str(package), *map(str, files), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)["results"]
    assert printed == [{"file": str(path), **result} for path, result in zip(files, results, strict=True)]

    samples = chance.normal(0, 0.1, 12000).astype(np.float32)
    by_rate = pipeline.run({"audio": samples, "audio.rate": np.array([32000], np.int32)})["json"]
    x = FbankProcessor(**OPTIONS)(samples, 32000).astype(np.float64).reshape(-1)
    logits = weights["head.weight"].astype(np.float64) @ x + weights["head.bias"]
    assert by_rate["labels"][0]["index"] == int(np.argmax(logits))
