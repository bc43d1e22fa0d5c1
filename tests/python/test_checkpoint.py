"""Checkpoint files of every kind give the same model; what does not fit is named."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import mambasdk
from mambasdk.errors import CheckpointError, DownloadError, InvalidArgumentError
from mambasdk.models import Checkpoint

CONFIG = {"d_model": 32, "n_layer": 2, "vocab_size": 61}


@pytest.fixture
def state(toy: str) -> dict[str, torch.Tensor]:
    model = mambasdk.create_model("toy-2")
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def _single(folder: Path, state: dict[str, Any], write: Callable[[dict[str, Any], Path], None], name: str) -> None:
    write(state, folder / name)


def _sharded(folder: Path, state: dict[str, Any], write: Callable[[dict[str, Any], Path], None], stem: str) -> None:
    names = sorted(state)
    ending = "safetensors" if stem == "model" else "bin"
    shards = {f"{stem}-{i + 1:05}-of-00003.{ending}": names[i::3] for i in range(3)}
    for file, part in shards.items():
        write({name: state[name] for name in part}, folder / file)
    weight_map = {name: file for file, part in shards.items() for name in part}
    (folder / f"{stem}.{ending}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def _legacy(state: dict[str, Any], path: Path) -> None:
    torch.save(state, path, _use_new_zipfile_serialization=False)


LAYOUTS: dict[str, Callable[[Path, dict[str, Any]], None]] = {
    "model.safetensors": lambda folder, state: _single(folder, state, save_file, "model.safetensors"),
    "pytorch_model.bin": lambda folder, state: _single(folder, state, torch.save, "pytorch_model.bin"),
    "legacy pytorch_model.bin": lambda folder, state: _single(folder, state, _legacy, "pytorch_model.bin"),
    "wrapped model.pt": lambda folder, state: _single(folder, {"state_dict": state}, torch.save, "model.pt"),
    "sharded safetensors": lambda folder, state: _sharded(folder, state, save_file, "model"),
    "sharded bin": lambda folder, state: _sharded(folder, state, torch.save, "pytorch_model"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("tied_head_stored", [True, False])
def test_every_layout_gives_the_same_tensors(
    state: dict[str, torch.Tensor], tmp_path: Path, layout: str, tied_head_stored: bool
) -> None:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    stored = dict(state) if tied_head_stored else {k: v for k, v in state.items() if k != "lm_head.weight"}
    stored["backbone.embeddings.weight"] = stored.pop("backbone.embedding.weight")
    LAYOUTS[layout](folder, {name: tensor.clone() for name, tensor in stored.items()})
    (folder / "config.json").write_text(json.dumps(CONFIG))
    model = mambasdk.import_checkpoint("toy-2", folder)
    assert model.lm_head.weight is model.backbone.embedding.weight
    assert model.mambasdk_identity.variant == "toy-2"
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, state[name]), name


def test_narrow_checkpoint_is_raised_where_float32_matters(state: dict[str, torch.Tensor]) -> None:
    half = {name: tensor.half() for name, tensor in state.items()}
    model = mambasdk.import_checkpoint("toy", CONFIG, half, dtype=torch.bfloat16)
    assert model.backbone.layers[0].mixer.A_log.dtype == torch.float32
    assert model.backbone.layers[0].mixer.in_proj.weight.dtype == torch.bfloat16
    assert model.backbone.layers[0].mixer.A_log._no_weight_decay
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("backbone.norm_f.weight"), "missing 1: backbone.norm_f.weight"),
        (lambda s: s.update(extra=torch.zeros(1)), "unexpected 1: extra"),
        (
            lambda s: s.update({"backbone.norm_f.weight": torch.zeros(31)}),
            r"wrong shape: backbone.norm_f.weight is \(31,\), expected \(32,\)",
        ),
        (lambda s: s.update({"lm_head.weight": s["lm_head.weight"] + 1}), "differ, but the model ties them"),
    ],
)
def test_what_does_not_fit_is_named(state: dict[str, torch.Tensor], change: Callable[[Any], Any], message: str) -> None:
    change(state)
    with pytest.raises(CheckpointError, match=message):
        mambasdk.import_checkpoint("toy", CONFIG, state)


class _Evil:
    def __reduce__(self) -> Any:
        return print, ("executed",)


def test_pickle_that_runs_code_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "pytorch_model.bin"
    with path.open("wb") as file:
        pickle.dump({"a": _Evil()}, file, protocol=2)
    with pytest.raises(CheckpointError, match=r"refused|cannot be read"):
        Checkpoint.open(path)
    torch.save({"a": _Evil()}, path)
    with pytest.raises(CheckpointError, match="refused"):
        Checkpoint.open(path)
    assert "executed" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin", "model.safetensors.index.json", "a.gguf"])
@pytest.mark.parametrize("content", [b"", b"\xff" * 64, b"{}", b'{"weight_map": {"a": "../../etc/passwd"}}'])
def test_garbage_files_are_clear_errors(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=str(tmp_path)):
        Checkpoint.open(tmp_path / name)


def test_missing_places_say_the_way_out(toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError, match="no weights in the directory"):
        Checkpoint.open(tmp_path)
    with pytest.raises(InvalidArgumentError, match="expected a local path, or a hub repository"):
        mambasdk.import_checkpoint("toy", str(tmp_path / "nowhere"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DownloadError, match=r"nobody/nothing: .*; check the name and the network, or give a local"):
        mambasdk.import_checkpoint("toy", "nobody/nothing")


@pytest.mark.parametrize("ending", ["safetensors", "bin"])
def test_hub_repositories_are_downloaded_safetensors_first(
    state: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    asked: list[list[str]] = []

    def snapshot_download(repository: str, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append(allow_patterns)
        assert repository == "acme/toy-hf"
        if f"*.{ending}" in allow_patterns:
            LAYOUTS["model.safetensors" if ending == "safetensors" else "pytorch_model.bin"](tmp_path, state)
        return str(tmp_path)

    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    monkeypatch.chdir(tmp_path)
    state["lm_head.weight"] = state["lm_head.weight"].clone()
    model = mambasdk.import_checkpoint("toy", "acme/toy-hf")
    assert torch.equal(model.backbone.norm_f.weight, state["backbone.norm_f.weight"])
    assert "*.safetensors" in asked[0]
    assert any("*.bin" in patterns for patterns in asked) == (ending == "bin")
