"""The commands and the Python of docs/language.md and the state example of docs/cli.md run as they stand."""

from __future__ import annotations

import io
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

import mambasdk
from mambasdk.command_line import main
from mambasdk_language.quickstart import native_command

DOCS = Path(__file__).parents[3] / "docs"
SMALL = "--steps 2 --batch 2 --context 16 --set d_model=16 --set n_layer=1"  # the test has no time for more


def blocks(page: str, language: str) -> list[str]:
    if not DOCS.is_dir():
        pytest.skip("the tests run without the repository")
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_tiny: Any) -> Path:
    """What the page takes for granted: texts, rows, a checkpoint."""
    (tmp_path / "texts").mkdir()
    for index in range(40):
        (tmp_path / "texts" / f"{index}.txt").write_text(f"def main({index}):\n    return {index}\n" * 5)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"body": f"row {i} " * 9}) + "\n" for i in range(9)))
    (tmp_path / "reviews.csv").write_text("text,mood,stars\n" + "so fine,up,4\nso bad,down,1\n" * 20)
    (tmp_path / "long.txt").write_text("the past " * 50)
    model = make_tiny("mamba", pad_vocab_size_multiple=1)
    (tmp_path / "checkpoint").mkdir()
    tensors = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    save_file(tensors, tmp_path / "checkpoint" / "model.safetensors")
    config = {"d_model": 32, "n_layer": 2, "vocab_size": 256, "pad_vocab_size_multiple": 1, "ssm_cfg": {"d_state": 8}}
    (tmp_path / "checkpoint" / "config.json").write_text(json.dumps(config))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_language_page_is_true(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    texts: dict[str, str] = {}
    lines = [line for block in blocks("language.md", "sh") for line in block.splitlines()]
    assert {shlex.split(line)[1] for line in lines if line.startswith("mambasdk ")} >= {
        "train",
        "import",
        "generate",
        "evaluate",
    }
    for line in lines:
        program, *arguments = shlex.split(line)
        if arguments[0] == "train":
            small = shlex.split(SMALL)
            if {"mamba2", "hybrid", "hydra"} & {arguments[1]}:
                small += shlex.split("--set headdim=8 --set d_state=8")
            if arguments[1] == "hybrid":
                small += shlex.split("--set pattern=M-*- --set d_mlp=32")
            # A package has its sizes.
            arguments += small[: small.index("--set")] if Path(arguments[1]).is_dir() else small
        if "--chat" in arguments:
            monkeypatch.setattr("sys.stdin", io.StringIO("hello\nagain\n"))
        if program == "mambasdk":
            assert main(arguments) == 0, (line, capsys.readouterr().err)
            texts[line] = capsys.readouterr().out
        else:
            done = subprocess.run([native_command(), *arguments], capture_output=True, check=True, timeout=120)
            texts[line] = done.stdout.decode(errors="replace")
    python, native = (texts[line] for line in lines if "def main(" in line)
    assert python == "def main(" + native
    code = "\n".join(blocks("language.md", "python"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr


def test_the_state_example_of_the_command_line_page_is_true(place: Path, make_tiny: Any) -> None:
    mambasdk.save_package(make_tiny("mamba"), place / "PACKAGE")
    (block,) = [block for block in blocks("cli.md", "sh") if "--save-state" in block]
    lines = [line.split("   #")[0].strip() for line in block.splitlines()]
    for line in lines:
        command = line.replace("mambasdk-run", shlex.quote(native_command()), 1)
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, (line, done.stderr)
    prefix = (place / "long.txt").read_text().strip()
    whole = [native_command(), "PACKAGE", "--prompt", prefix + " And so"]
    expected = subprocess.run(whole, capture_output=True, check=True).stdout
    again = subprocess.run(["bash", "-c", command], capture_output=True, check=True).stdout
    assert again == expected
