"""The example of long range beats its baselines by what its README says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[3] / "examples" / "graph_long_range" / "graph_long_range.py"
PNG = b"\x89PNG\r\n\x1a\n"
CHANCE = 0.2


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("example")
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--out", str(out)], capture_output=True, text=True, check=False, timeout=900
    )
    assert done.returncode == 0, done.stderr
    assert all((out / name).read_bytes().startswith(PNG) for name in ("ring.png", "karate.png"))
    return dict(json.loads((out / "results.json").read_text()))


@pytest.mark.slow
def test_a_colour_goes_half_way_round_a_ring(results: dict[str, Any]) -> None:
    """Spec graph-mamba.md, D.3: GMN in both directions at least 95 %, four layers of GatedGCN near chance."""
    accuracy = {name: value["accuracy"] for name, value in results["ring"].items()}
    assert accuracy["GMN, both directions"] >= 0.95
    assert accuracy["4 layers of GatedGCN"] < CHANCE + 0.06  # 3 sigma of 400 answers by chance
    assert accuracy["GMN, one direction"] < accuracy["GMN, both directions"] - 0.1
    assert accuracy["Graph-Mamba, order by degree"] < accuracy["GMN, both directions"]


@pytest.mark.slow
def test_gmn_is_ahead_of_a_gcn_on_the_karate_club(results: dict[str, Any]) -> None:
    accuracy = {name: value["accuracy"] for name, value in results["karate"].items()}
    assert accuracy["GMN"] > accuracy["GCN, one-hot members"]
    assert accuracy["GMN"] > 0.95
