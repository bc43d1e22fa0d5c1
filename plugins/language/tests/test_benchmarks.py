"""The benchmarks of language models run, and what they write is whole."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]


def _run(script: str, *arguments: str, out: Path) -> Any:
    if not (ROOT / "benchmarks" / script).is_file():
        pytest.skip("the tests run without the repository")
    command = [sys.executable, f"benchmarks/{script}", "--quick", "--out", str(out), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(out.read_text())


@pytest.mark.parametrize("kind", ["falcon_mamba", "jamba", pytest.param("all", marks=pytest.mark.slow)])
def test_hybrids_are_measured_beside_transformers(kind: str, tmp_path: Path) -> None:
    """Logits agree, or the script fails."""
    pytest.importorskip("transformers")
    rows = _run("hybrids.py", *([] if kind == "all" else ["--models", kind]), out=tmp_path / "hybrids.json")["rows"]
    assert len(rows) == (7 if kind == "all" else 1)
    for row in rows:
        for what in ("prefill", "decode"):
            found = row[what]
            assert set(found["median_ms"]) == {"transformers", "mambasdk torch", "mambasdk native"}
            assert all(0 < found["least_ms"][name] <= median for name, median in found["median_ms"].items())
            for name, speedup in found["speedup"].items():
                assert speedup == found["median_ms"]["transformers"] / found["median_ms"][name]


def test_contexts_lengthen_the_caches_alone(tmp_path: Path) -> None:
    plot = tmp_path / "contexts.png"
    result = _run("contexts.py", "--plot", str(plot), out=tmp_path / "contexts.json")
    assert plot.stat().st_size > 0
    counts = result["parameters"]
    assert max(counts.values()) < 1.01 * min(counts.values())
    short, long = result["rows"]
    columns = long["context"] - short["context"]
    grown = {name: long["state_bytes"][name] - short["state_bytes"][name] for name in counts}
    # Keys and values, float32: 4 layers of 4 heads of 64 channels, and one layer of one.
    assert grown == {"transformer": columns * 4 * 4 * 2 * 64 * 4, "hybrid": columns * 2 * 64 * 4}
    for row in result["rows"]:
        for name in counts:
            assert 0 < row["state_bytes"][name] < 2.5 * row["session_bytes"][name]
            assert row["decode"]["tokens_per_s"][name] > 0
