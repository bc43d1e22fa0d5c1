"""The command line on tiny data: train, resume, generate, import, export, verify; and the quickstart itself."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import mambasdk
from mambasdk.command_line import main
from mambasdk_language import quickstart

SIZES = ["--set", "d_model=16", "--set", "n_layer=1"]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    folder = tmp_path / "text"
    folder.mkdir()
    for index in range(30):
        (folder / f"{index}.py").write_text(f"def f{index}(x):\n    return x + {index}\n\n" * 4)
    return folder


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    code = main([*arguments, "--json"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return json.loads(captured.out)


def train(capsys: pytest.CaptureFixture[str], text: Path, out: Path, family: str, *more: str) -> Any:
    run = ["--steps", "12", "--batch", "2", "--context", "32"]
    return call(capsys, "train", family, "--data", str(text), "--out", str(out), *run, *sizes(family), *more)


def sizes(family: str) -> list[str]:
    return SIZES + (["--set", "headdim=8", "--set", "d_state=8"] if family == "mamba2" else [])


def test_train_verify_generate_export(
    capsys: pytest.CaptureFixture[str], text: Path, tmp_path: Path, family: str
) -> None:
    package = tmp_path / "package"
    report = train(capsys, text, package, family, "--curve", str(tmp_path / "curve.png"))
    assert report["steps"] == 12
    assert report["tokens"] == 12 * 2 * 32
    assert 0 < report["held_out_bits_per_byte"] < 9
    assert Image.open(tmp_path / "curve.png").size == (960, 540)
    call(capsys, "verify", str(package))

    arguments = ["--prompt", "def ", "--max-new-tokens", "20", "--temperature", "1", "--seed", "3"]
    found = [call(capsys, "generate", str(package), *arguments, "--engine", e) for e in ("native", "torch", "auto")]
    texts = [result["generations"][0]["text"] for result in found]
    assert texts[0] == texts[1] == texts[2]

    assert main(["generate", str(package), *arguments]) == 0
    assert capsys.readouterr().out == "def " + texts[0] + "\n"

    call(capsys, "export", str(package), "--out", str(tmp_path / "half"), "--dtype", "bfloat16")
    call(capsys, "verify", str(tmp_path / "half"))


def test_evaluate_measures_perplexity_and_bits(capsys: pytest.CaptureFixture[str], text: Path, tmp_path: Path) -> None:
    train(capsys, text, tmp_path / "p", "mamba")
    (tmp_path / "new").mkdir()
    texts = [b"def g(y):\n    return y\n", "caf\u00e9".encode() * 3]
    for number, data in enumerate(texts):
        (tmp_path / "new" / f"{number}.txt").write_bytes(data)
    arguments = ["evaluate", str(tmp_path / "p"), "--data", str(tmp_path / "new"), "--plot", str(tmp_path / "plots")]
    report = call(capsys, *arguments, "--batch", "1", "--window", "7")
    model: Any = mambasdk.load(tmp_path / "p")
    bits = 0.0
    for data in texts:
        tokens = torch.tensor([list(data)])
        log_p = model(tokens).logits[0, :-1].double().log_softmax(-1)
        bits += 8 - float(log_p.gather(1, tokens[0, 1:, None]).sum()) / math.log(2)
    total = sum(map(len, texts))
    assert report["data"] == {"texts": 2, "skipped": 0, "bytes": total, "tokens": total}
    assert report["metrics"]["bits_per_byte"] == pytest.approx(bits / total, rel=1e-5)
    assert report["metrics"]["perplexity"] == pytest.approx(2 ** (bits / total), rel=1e-4)
    assert {row["text"] for row in report["highest_bits_per_byte"]} == {"0.txt", "1.txt"}
    assert Image.open(report["pictures"]["bits_per_byte"]).format == "PNG"


@pytest.mark.parametrize("engine", ["native", "torch", "auto"])
def test_generate_checks_the_files_unless_told_otherwise(
    capsys: pytest.CaptureFixture[str], make_tiny: Callable[..., Any], tmp_path: Path, engine: str
) -> None:
    package = tmp_path / "package"
    mambasdk.save_package(make_tiny("mamba"), package)
    command = ["generate", str(package), "--prompt", "def ", "--max-new-tokens", "4", "--engine", engine]
    whole = call(capsys, *command, "--verify")["generations"]
    readme = (package / "README.md").read_bytes()
    (package / "README.md").write_bytes(bytes([readme[0] ^ 1]) + readme[1:])
    for check in ([], ["--verify"]):
        assert main([*command, *check]) == 2
        assert "README.md" in capsys.readouterr().err
    again = call(capsys, *command, "--no-verify")["generations"]
    assert [row["text"] for row in again] == [row["text"] for row in whole]


def test_training_goes_on_from_a_package_and_from_a_checkpoint(
    capsys: pytest.CaptureFixture[str], text: Path, tmp_path: Path
) -> None:
    first = train(capsys, text, tmp_path / "a", "mamba", "--checkpoint-every", "4", "--checkpoint", str(tmp_path / "c"))
    resumed = train(capsys, text, tmp_path / "b", "mamba", "--resume", "--checkpoint", str(tmp_path / "c"))
    assert resumed["loss_bits"] == first["loss_bits"]
    assert resumed["held_out_bits_per_byte"] == first["held_out_bits_per_byte"]
    on = call(
        capsys, "train", str(tmp_path / "a"), "--data", str(text), "--out", str(tmp_path / "d"), "--steps", "5",
        "--batch", "2", "--context", "32",
    )  # fmt: skip
    assert on["parameters"] == first["parameters"]


def test_import_makes_a_package_that_runs(capsys: pytest.CaptureFixture[str], tmp_path: Path, family: str) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    common = {"vocab_size": 256, "hidden_size": 32, "num_hidden_layers": 2}
    if family == "mamba":
        model = transformers.MambaForCausalLM(transformers.MambaConfig(**common))
    else:
        wide = {"num_heads": 8, "head_dim": 8, "state_size": 16, "n_groups": 1, "chunk_size": 8}
        model = transformers.Mamba2ForCausalLM(transformers.Mamba2Config(**wide, **common))
    model.save_pretrained(tmp_path / "source")
    report = call(capsys, "import", family, str(tmp_path / "source"), "--out", str(tmp_path / "package"))
    assert report["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    call(capsys, "verify", str(tmp_path / "package"))
    result = call(capsys, "generate", str(tmp_path / "package"), "--prompt", "x", "--max-new-tokens", "4")
    assert len(result["generations"][0]["tokens"]) == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "mamba", "--data", "nowhere", "--out", "o"], "no file or directory 'nowhere'"),
        (["train", "mambo", "--data", "x", "--out", "o"], "did you mean"),
        (["generate", "mamba-130m", "--prompt", "x"], "mamba-130m"),
    ],
)
def test_errors_are_one_clear_line(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_existing_output_is_not_touched_before_training(
    capsys: pytest.CaptureFixture[str], text: Path, tmp_path: Path
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious").write_text("x")
    assert main(["train", "mamba", "--data", str(text), "--out", str(tmp_path / "full"), "--steps", "1"]) == 2
    assert "precious" in [path.name for path in (tmp_path / "full").iterdir()]
    assert "exists and is no package; give another --out" in capsys.readouterr().err


def test_quickstart_reports_what_the_issue_asks_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, text: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr(quickstart, "MODEL", {"d_model": 16, "n_layer": 1, "vocab_size": 256})
    arguments = ["--data", str(text), "--out", str(tmp_path / "out"), "--steps", "30", "--context", "32"]
    assert quickstart.main(arguments) in (0, 1)  # thirty steps need not beat the n-gram model
    shown = capsys.readouterr().out
    for words in ("Mamba", "order-5 n-gram", "parameters", "training", "generation, C++", "generation, PyTorch"):
        assert words in shown
    assert (tmp_path / "out" / "loss.png").stat().st_size > 1000
    assert mambasdk.verify(tmp_path / "out" / "package").passed


@pytest.mark.slow
def test_quickstart_beats_the_ngram_model(tmp_path: Path) -> None:
    assert quickstart.main(["--out", str(tmp_path / "out")]) == 0
