"""The synthetic tasks of the paper, run whole: selection is what makes them solvable."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[3] / "examples" / "synthetic"


def _result(name: str, *arguments: str) -> Any:
    return runpy.run_path(str(EXAMPLES / name))["main"](list(arguments))


@pytest.mark.slow
def test_selective_copying_needs_selection() -> None:
    accuracy = _result("selective_copying.py")
    assert accuracy["selective"] > 0.95
    assert accuracy["time_invariant"] < 0.5


@pytest.mark.slow
def test_induction_heads_extrapolate() -> None:
    accuracy = _result("induction_heads.py")
    assert set(accuracy) == {64, 128, 256, 512, 1024}
    assert min(accuracy.values()) > 0.95


@pytest.mark.slow
def test_parity_needs_rotation(tmp_path: Path) -> None:
    accuracy = _result("state_tracking.py", "--tasks", "parity", "--plot", str(tmp_path / "accuracy.png"))["parity"]
    assert accuracy["mamba3"][16] > 0.95
    assert accuracy["mamba2"][16] < 0.7
    assert accuracy["mamba3 without rotation"][16] < 0.7
    assert (tmp_path / "accuracy.png").stat().st_size > 0
