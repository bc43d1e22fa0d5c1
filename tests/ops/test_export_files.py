"""Exported programs with our operations as files: saved here, loaded and run by a fresh process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import cases
import pytest
import torch

from mambasdk import ops

RUN = """
import sys, torch
{imports}
for name in sys.argv[1:]:
    inputs, expected = torch.load(name + ".io")
    actual = torch.export.load(name + ".pt2").module()(inputs)
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)
    print("same", name)
"""


class _Operation(torch.nn.Module):
    def __init__(self, op: str, fixed: dict[str, Any]) -> None:
        super().__init__()
        self.op, self.fixed = op, fixed

    def forward(self, tensors: dict[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        result = ops.call(self.op, **tensors, **self.fixed)
        return result if isinstance(result, tuple) else (result,)


def _save(op: str, name: str) -> None:
    case = cases.cases(op)[0]
    arguments = cases.values(case, cases.type_choices(op).get("float32", {}))
    tensors = {k: v for k, v in arguments.items() if isinstance(v, torch.Tensor)}
    module = _Operation(op, {k: v for k, v in arguments.items() if k not in tensors})
    torch.export.save(torch.export.export(module, (tensors,)), name + ".pt2")
    torch.save((tensors, module(tensors)), name + ".io")


def _run(imports: str, names: list[str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", RUN.format(imports=imports), *names]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_every_operation_is_saved_and_loaded(tmp_path: Path) -> None:
    names = [str(tmp_path / op) for op in cases.forward_ops()]
    for op, name in zip(cases.forward_ops(), names, strict=True):
        _save(op, name)
    done = _run("import mambasdk.ops", names)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines() == [f"same {name}" for name in names]


def test_a_process_without_the_operations_says_so(tmp_path: Path) -> None:
    name = str(tmp_path / "linear")
    _save("linear", name)
    done = _run("", [name])
    assert done.returncode != 0
    assert "mambasdk" in done.stderr
    assert "linear" in done.stderr


@pytest.mark.parametrize("limit", [(0.0, float("inf")), (0.1, float("inf"))])
def test_infinite_limits_are_saved(tmp_path: Path, limit: tuple[float, float]) -> None:
    """Files of exported programs have no infinity."""

    class Limited(torch.nn.Module):
        def forward(self, x: torch.Tensor, dt: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            y = ops.ssd(x, dt, a, b, b, dt_softplus=True, dt_limit=limit)
            assert isinstance(y, torch.Tensor)
            return y

    inputs = (torch.randn(1, 5, 2, 4), torch.randn(1, 5, 2), -torch.ones(2), torch.randn(1, 5, 3))
    path = tmp_path / "limited.pt2"
    torch.export.save(torch.export.export(Limited(), inputs), path)
    torch.testing.assert_close(torch.export.load(path).module()(*inputs), Limited()(*inputs), rtol=0, atol=0)
