"""What trainers and wrappers put around a state dict is taken off, in every kind of file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mambasdk.errors import CheckpointError
from mambasdk.models import (
    Checkpoint,
    UpstreamConfig,
    layer_count,
    renamed,
    require,
    require_known,
    require_sizes,
    require_tensors,
)

STATE = {
    "stem.weight": torch.arange(6.0).reshape(2, 3),
    "layers.0.bias": torch.ones(2),
    "layers.11.bias": torch.ones(2),
}
DDP = {f"module.{name}": tensor for name, tensor in STATE.items()}
CONTAINERS: dict[str, dict[str, Any]] = {
    "plain": STATE,
    "state_dict": {"state_dict": STATE, "epoch": 3},
    "model": {"model": STATE, "optimizer": {}},
    "model_ema": {"model_ema": STATE, "args": {}},
    "network_weights": {"network_weights": STATE, "trainer_name": "nnUNetTrainer"},
    "one in another": {"state_dict": {"model": STATE}},
    "data parallel": {"model": DDP},
    "compiled and data parallel": {f"module._orig_mod.{name}": tensor for name, tensor in STATE.items()},
}


def same(found: Checkpoint) -> None:
    assert set(found) == set(STATE)
    for name, tensor in STATE.items():
        assert torch.equal(found[name], tensor)


@pytest.mark.parametrize("container", CONTAINERS)
def test_containers_are_opened(container: str, tmp_path: Path) -> None:
    torch.save(CONTAINERS[container], tmp_path / "weights.pth")
    with Checkpoint.open(tmp_path / "weights.pth") as found:
        same(found)
    same(Checkpoint.open(CONTAINERS[container]))


def test_logged_numbers_of_numpy_are_read_over(tmp_path: Path) -> None:
    """Beside the weights, as nnU-Net keeps its losses; an array of objects stays refused."""
    logged = [np.float64(0.5), np.float32(0.25), np.int64(3), np.bool_(True)]
    torch.save({"network_weights": STATE, "logging": {"losses": logged}}, tmp_path / "weights.pth")
    same(Checkpoint.open(tmp_path / "weights.pth"))
    torch.save({"network_weights": STATE, "more": np.array([Path("x")], dtype=object)}, tmp_path / "bad.pth")
    with pytest.raises(CheckpointError, match="refused"):
        Checkpoint.open(tmp_path / "bad.pth")


def test_wrappers_are_taken_off_safetensors_too(tmp_path: Path) -> None:
    save_file(DDP, tmp_path / "model.safetensors")
    with Checkpoint.open(tmp_path) as found:
        same(found)


def test_a_part_of_a_larger_model(tmp_path: Path) -> None:
    larger = {**{f"backbone.{name}": tensor for name, tensor in STATE.items()}, "decode_head.weight": torch.zeros(1)}
    same(Checkpoint.open(larger).part("backbone."))
    same(Checkpoint.open(STATE).part("backbone."))


def test_what_importers_ask_of_a_configuration() -> None:
    config = UpstreamConfig({"width": 8, "hidden": 8, "kind": "a", "depth": 0, "nothing": None}, "config.json")
    assert renamed(config, {"width": "d_model", "hidden": "d_model", "nothing": "other"}) == {"d_model": 8}
    with pytest.raises(CheckpointError, match=r"config\.json: kind = a and an earlier key say different things"):
        renamed(config, {"width": "d_model", "kind": "d_model"})
    require(config, {"kind": ("a", "b"), "absent": (1,)}, "toy")
    with pytest.raises(CheckpointError, match=r"config\.json: kind = 'a' is no model of family toy: expected 'b'"):
        require(config, {"kind": ("b",)}, "toy")
    with pytest.raises(CheckpointError, match="unknown arguments: depth, kind, nothing; read the manual"):
        require_known(config, ("width", "hidden"), "read the manual")
    require_sizes(config, ("width",))
    with pytest.raises(CheckpointError, match="bad depth: expected an integer of 1 or more, got 0"):
        require_sizes(config, ("depth",))
    with pytest.raises(CheckpointError, match=r"no size \(or extent\)"):
        require_sizes(config, ("size", "extent"))


def test_what_importers_ask_of_weights() -> None:
    weights = Checkpoint.open(STATE)
    require_tensors(weights, ("stem.weight",), "Toy")
    with pytest.raises(CheckpointError, match=r"no Toy: head\.weight missing"):
        require_tensors(weights, ("stem.weight", "head.weight"), "Toy")
    assert layer_count(weights, "layers.") == 2
