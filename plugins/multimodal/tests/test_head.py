"""The head: what the commands train, measure, say and write; the native head says what PyTorch computes."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mambasdk
from mambasdk.command_line.program import main
from mambasdk.package import Manifest, load_processors
from mambasdk_multimodal.documents import encode, read_rows
from mambasdk_multimodal.generation import continue_document
from mambasdk_multimodal.processors import from_manifest
from mambasdk_multimodal.training import MultimodalModeling, measure

SIZES = ["--set", "d_model=32", "--set", "n_layer=1", "--set", "d_state=4"]


def documents(latent: bool = False) -> list[dict[str, Any]]:
    """A colour in words, an image of it, words again."""
    chance = np.random.default_rng(0)
    made = []
    for index in range(40):
        shade = index % 3
        image: dict[str, Any] = {"modality": "image", "tokens": [shade * 50 + k for k in range(8)]}
        if latent:
            numbers = shade + 0.1 * chance.standard_normal((5, 3))
            image = {"modality": "image", "latents": numbers.round(3).tolist()}
        words = {"modality": "text", "text": f"{('red', 'green', 'blue')[shade]}: "}
        made.append({"segments": [words, image, {"modality": "text", "text": "."}]})
    return made


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for name, latent in (("tokens", False), ("latents", True)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in documents(latent)))
    return folder


def run(capsys: pytest.CaptureFixture[str] | None, *arguments: str | Path) -> Any:
    """The JSON of a command that succeeds."""
    code = main([*map(str, arguments), "--json"])
    said = capsys.readouterr().out if capsys is not None else ""
    assert code == 0
    return json.loads(said.splitlines()[-1]) if said else None  # a fixture may have said something before


@pytest.fixture(scope="module")
def package(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("package") / "package"
    options = ["--steps", "40", "--lr", "0.01", "--batch", "8", "--threads", "1", *SIZES]
    run(None, "train", "mixture_of_mamba", "--data", data / "tokens.jsonl", "--out", out, *options)
    return out


@pytest.fixture(scope="module")
def latent_package(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("package") / "package"
    options = ["--steps", "40", "--lr", "0.01", "--batch", "8", "--threads", "1", *SIZES]
    sizes = ["--set", "modality_ranges=[256,257]", "--set", "latent_dim=3"]
    run(None, "train", "mixture_of_mamba", "--data", data / "latents.jsonl", "--out", out, *options, *sizes)
    return out


def test_training_makes_a_package_that_the_library_runs(package: Path) -> None:
    manifest = Manifest.read(package)
    assert manifest.head == "multimodal_lm"
    assert manifest.engine["name"] == "native"
    assert manifest.processors["document"]["ranges"] == [256, 512]
    assert mambasdk.verify(package).passed


@pytest.mark.parametrize("kind", ["tokens", "latents"])
def test_what_is_said_of_a_document_is_what_pytorch_measures(
    kind: str, request: pytest.FixtureRequest, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`predict` by the native head, whole and in pieces, and `evaluate`."""
    package: Path = request.getfixturevalue("package" if kind == "tokens" else "latent_package")
    file = tmp_path / "one.json"
    file.write_text((data / f"{kind}.jsonl").read_text().splitlines()[4])
    sequences = encode(read_rows([file]), load_processors(package)["document"])
    costs = measure(mambasdk.load(package), sequences)
    for context in (512, 3):
        [result] = run(capsys, "predict", package, file, "--option", f"context={context}")["results"]
        assert result["tokens"] == sum(costs.tokens)
        assert result["bits_per_token"] == pytest.approx(sum(costs.nats) / sum(costs.tokens) / math.log(2), rel=1e-4)
        for row, nats, count in zip(result["modalities"], costs.nats, costs.tokens, strict=True):
            assert row["tokens"] == count
            assert row["bits_per_token"] == pytest.approx(nats / count / math.log(2), rel=1e-4)
    evaluation = run(capsys, "evaluate", package, "--data", file)
    assert evaluation["metrics"]["bits"] == pytest.approx(result["bits_per_token"], rel=1e-4)
    assert ("noise_error" in evaluation["metrics"]) == (kind == "latents")
    assert [row["tokens"] for row in evaluation["modalities"]] == costs.tokens


def test_a_text_is_scored_too(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [result] = run(capsys, "predict", package, "--text", "green: ")["results"]
    assert [row["tokens"] for row in result["modalities"]] == [6, 0]
    assert result["modalities"][1]["bits_per_token"] is None


def test_what_was_learnt_is_cheaper_than_chance(data: Path, package: Path, latent_package: Path) -> None:
    for folder, kind in ((package, "tokens"), (latent_package, "latents")):
        sequences = encode(read_rows([data / f"{kind}.jsonl"]), load_processors(folder)["document"])
        found = measure(mambasdk.load(folder), sequences).metrics(mambasdk.load(folder))
        assert found["text_bits"] < 4
        assert found["image_bits"] < 6
        if kind == "latents":
            assert found["noise_error"] < 0.9  # 1: the noise is not told from nothing


def test_both_engines_and_the_program_in_c_write_the_same(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompt = {"segments": [{"modality": "text", "text": "blue: "}]}
    native, pytorch = (continue_document(package, prompt, engine=e, max_new_tokens=12) for e in ("native", "torch"))
    assert native == pytorch
    assert sum(len(segment["tokens"]) for segment in native) == 12
    ids = [token + 256 * (segment["modality"] == "image") for segment in native for token in segment["tokens"]]
    command = [
        str(Path(sys.executable).parent / "mambasdk-run"),
        str(package),
        "--prompt",
        "blue: ",
        "--max-new-tokens",
        "12",
        "--tokens",
    ]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert [int(line) for line in told.split()] == ids
    said = run(capsys, "generate", package, "--prompt", "blue: ", "--max-new-tokens", "12")
    assert said["segments"] == native


def test_training_goes_on_from_a_package_and_from_a_dense_model(
    package: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--data", str(data / "tokens.jsonl"), "--steps", "2", "--threads", "1"]
    before = mambasdk.load(package)
    again = run(capsys, "train", package, "--out", tmp_path / "again", *options)
    assert again["steps"] == 2
    assert Manifest.read(tmp_path / "again").processors == Manifest.read(package).processors
    assert sum(p.numel() for p in before.parameters()) == again["parameters"]
    dense = mambasdk.create_model("mamba", d_model=16, n_layer=2, vocab_size=256)
    mambasdk.save_package(dense, tmp_path / "dense", engine="torch")
    out = tmp_path / "upcycled"
    run(capsys, "train", "mixture_of_mamba", "--upcycle", tmp_path / "dense", "--out", out, *options)
    assert mambasdk.verify(out).passed
    code = main(["train", str(package), "--upcycle", str(tmp_path / "dense"), "--out", str(tmp_path / "x"), *options])
    assert code == 2
    assert "only a new model begins with another one's weights" in capsys.readouterr().err


def test_a_long_document_is_cut_and_every_token_asked_for_once(data: Path) -> None:
    model: Any = mambasdk.create_model("mixture_of_mamba", d_model=16, n_layer=1)
    rows = encode(read_rows([data / "tokens.jsonl"]), from_manifest(model.package_processors()["document"], data))
    for context in (4, 100):
        task = MultimodalModeling(model, rows, [], context=context)
        assert sum(len(piece) - 1 for piece in task._pieces) == sum(len(row) - 1 for row in rows)
        assert max(len(piece) for piece in task._pieces) <= context + 1


def test_a_step_depends_on_its_number_alone(data: Path) -> None:
    """The noise of latents too, so that a resumed run has the same bits."""
    torch.manual_seed(0)
    model: Any = mambasdk.create_model(
        "mixture_of_mamba", d_model=16, n_layer=1, modality_ranges=[256, 257], latent_dim=3
    )
    rows = encode(read_rows([data / "latents.jsonl"]), from_manifest(model.package_processors()["document"], data))
    losses = [[float(MultimodalModeling(model, rows, []).loss(step)[0].detach()) for step in (3, 5, 3)] for _ in "ab"]
    assert losses[0] == losses[1]
    assert losses[0][0] == losses[0][2] != losses[0][1]
