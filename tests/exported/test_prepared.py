"""Packages whose weights were prepared at export give the same bits, and have nothing left to prepare."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mambasdk.errors import LoweringError
from mambasdk.package import save_package
from mambasdk.runtime import load_package

from .networks import Named


class Small(nn.Module):
    """Convolutions with batch norm, a dense layer, and weights that are computed from others."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 40, 3, 2, 1, bias=False), nn.BatchNorm2d(40)
        self.head = nn.Linear(40, 7)
        self.rate = nn.Parameter(torch.randn(7))

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.norm(self.conv(x))).mean((2, 3))
        return self.head(h) * torch.exp(self.rate)[None, :]


@pytest.mark.parametrize("dtype", [None, "bfloat16"])
@pytest.mark.parametrize("weights", ["read", "map"])
def test_the_bits_are_those_of_weights_prepared_at_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str | None, weights: str
) -> None:
    torch.manual_seed(1)
    net = Named(Small(), {"x": torch.randn(2, 3, 16, 16)}, {"x": ["B", 3, 16, 16]}).eval()
    monkeypatch.setenv("MAMBASDK_WEIGHTS", weights)
    found, programs = [], []
    for prepared in (False, True):
        folder = tmp_path / str(prepared)
        save_package(net, folder, engine="native", dtype=dtype, prepared=prepared, golden=False)
        programs.append(json.loads((folder / "program.json").read_text()))
        session = load_package(folder).session()
        found.append(session.run({"x": net.example_inputs()["x"].numpy()}, ["y"])["y"])
    assert programs[0]["prepare"]
    assert not programs[1]["prepare"]
    assert programs[0]["nodes"] == programs[1]["nodes"]
    assert np.array_equal(found[0], found[1])


def test_a_package_without_a_native_program_has_nothing_to_prepare(tmp_path: Path) -> None:
    net = Named(Small(), {"x": torch.randn(2, 3, 16, 16)}, {"x": ["B", 3, 16, 16]}).eval()
    with pytest.raises(LoweringError, match="nothing to prepare"):
        save_package(net, tmp_path / "package", engine="torch", prepared=True, golden=False)
