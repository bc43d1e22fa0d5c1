"""benchmarks/native.py runs, and what it writes is whole."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_quick_run_measures_every_engine(tmp_path: Path) -> None:
    out = tmp_path / "native.json"
    command = [sys.executable, "benchmarks/native.py", "--quick", "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {row["model"]: row for row in json.loads(out.read_text())["rows"]}
    assert len(rows) == 2
    for row in rows.values():
        engines = row["engines"]
        missing = {"onnxruntime", "torch.compile"} - set(engines)
        assert {"mambasdk", "eager"} <= set(engines)
        assert all(engine == "torch.compile" or row["without"][engine] for engine in missing)
        for found in engines.values():
            assert 0 < found["least_ms"] <= found["median_ms"]
            assert 0 < found["load_ms"] < found["first_output_ms"]
            assert 0 < found["peak_above_imports_MiB"] < found["peak_MiB"]
        assert row["speedup"] > 0
