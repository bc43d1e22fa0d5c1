"""ModelState files: damage is a clear error; a state of an unknown kind names its way out."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from safetensors.torch import save_file

from mambasdk.errors import CheckpointError, InvalidArgumentError
from mambasdk.nn import MambaState, ModelState, register_layer_state


def state() -> ModelState:
    layers = [MambaState(torch.randn(2, 3, 8, dtype=torch.bfloat16), torch.randn(2, 8, 4)), None]
    return ModelState(layers, torch.tensor([3, 4]))


def test_round_trip_keeps_bits_dtypes_and_stateless_layers(tmp_path: Path) -> None:
    before = state()
    before.save(tmp_path / "s")
    after = ModelState.load(tmp_path / "s")
    assert after[1] is None
    assert isinstance(after[0], MambaState)
    assert after[0].conv.dtype == torch.bfloat16
    assert torch.equal(after[0].conv, before[0].conv)
    assert torch.equal(after[0].ssm, before[0].ssm)
    assert torch.equal(after.tokens_seen, before.tokens_seen)


@pytest.mark.parametrize("cut", [0, 1, 8, 100, -1])
def test_truncated_file_is_a_clear_error(tmp_path: Path, cut: int) -> None:
    state().save(tmp_path / "s")
    data = (tmp_path / "s").read_bytes()
    (tmp_path / "s").write_bytes(data[:cut])
    with pytest.raises(CheckpointError, match="cannot be read as a model state"):
        ModelState.load(tmp_path / "s")


def test_other_files_and_unknown_kinds_are_refused(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "other")
    with pytest.raises(CheckpointError, match="not a saved model state"):
        ModelState.load(tmp_path / "other")
    meta = {"format": "mambasdk-state", "version": "1", "layers": '["alien"]'}
    save_file({"tokens_seen": torch.zeros(1)}, tmp_path / "alien", metadata=meta)
    with pytest.raises(CheckpointError, match="state of kind 'alien', which nothing registers; import the plugin"):
        ModelState.load(tmp_path / "alien")


def test_a_state_class_needs_a_name_of_its_own(tmp_path: Path) -> None:
    class Nameless(NamedTuple):
        h: torch.Tensor

    with pytest.raises(InvalidArgumentError, match="has no name; decorate it"):
        ModelState([Nameless(torch.zeros(1))], torch.zeros(1)).save(tmp_path / "s")
    with pytest.raises(InvalidArgumentError, match="'mamba' is already registered by MambaState"):
        register_layer_state("mamba")(Nameless)
