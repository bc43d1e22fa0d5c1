"""`torch.export.save` and `load` of causal models with their state as inputs and outputs, in another process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.export import Dim

from mambasdk.models import build
from mambasdk.nn import ModelState
from mambasdk.plugins import get_host

CAUSAL = [name for name in sorted(get_host().registrations.families) if get_host().family(name).causal]

_RUN = """
import sys, warnings
warnings.simplefilter("error")
import torch
import importlib
import mambasdk.nn
importlib.import_module(sys.argv[4])  # of the output's class
program = torch.export.load(sys.argv[1]).module()
given = torch.load(sys.argv[2])
out = program(given["tokens"], given["state"], mask=given["mask"])
assert type(out.state) is mambasdk.nn.ModelState
torch.save({"logits": out.logits, "state": out.state}, sys.argv[3])
"""


class _Masked(torch.nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: torch.Tensor, state: ModelState, mask: torch.Tensor) -> Any:
        return self.model(tokens, state, mask=mask)


def _dims(layer: Any, start: Any, batch: Any, held: Any) -> Any:
    """Free dims of a layer's state: the batch, and where nothing is held at the start, how much is."""
    if layer is None:
        return None
    dims = [
        None if tensor is None else {0: batch, **{d: held for d, size in enumerate(begun.shape) if size == 0}}
        for tensor, begun in zip(layer, start, strict=True)
    ]
    return type(layer)(*dims)


@pytest.mark.parametrize("family", CAUSAL)
def test_a_saved_program_continues_a_state_in_a_fresh_process(family: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    spec = get_host().family(family)
    model = build(spec, spec.tiny).eval()
    tokens = model.example_inputs()["tokens"]
    batch, length = Dim("batch", max=64), Dim("length", max=4096)
    with torch.no_grad():
        state = model(tokens).state
        mask = torch.ones(tokens.shape, dtype=torch.int64)
        held = Dim("held", max=65536)
        layers = [_dims(*pair, batch, held) for pair in zip(state.layers, model.initial_state(1).layers, strict=True)]
        shapes = {
            "tokens": {0: batch, 1: length},
            "state": [layers, {0: batch}],
            "mask": {0: batch, 1: length},
        }
        program = torch.export.export(
            _Masked(model), (tokens, state), {"mask": mask}, dynamic_shapes=shapes, strict=False
        )
        torch.export.save(program, tmp_path / "model.pt2")
        tokens, mask = tokens[[0, 1, 0], :9], torch.tensor([[1] * 9, [0] * 4 + [1] * 5, [1, 0, 1, 1, 0, 0, 1, 0, 0]])
        state = state.select([0, 1, 1])
        expected = model(tokens, state, mask=mask)
    torch.save({"tokens": tokens, "state": state, "mask": mask}, tmp_path / "in.pt")
    files = [str(tmp_path / name) for name in ("model.pt2", "in.pt", "out.pt")]
    command = [sys.executable, "-c", _RUN, *files, type(expected).__module__]
    subprocess.run(command, check=True, cwd=tmp_path)
    out = torch.load(tmp_path / "out.pt")  # weights_only: the classes of a state are admitted
    torch.testing.assert_close(out["logits"], expected.logits, atol=1e-4, rtol=1e-4)
    everyone = torch.arange(len(tokens))  # a traced cache may have columns that no row has
    for ours, theirs in zip(out["state"].select(everyone), expected.state.select(everyone), strict=True):
        for a, b in zip(ours or (), theirs or (), strict=True):
            torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
