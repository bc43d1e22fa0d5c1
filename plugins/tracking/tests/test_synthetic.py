"""The example on made-up dancers, run whole: every pass criterion of the specification's section 8 holds."""

from __future__ import annotations

import runpy
import time
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[3] / "examples" / "tracking_synthetic" / "synthetic_tracking.py"


@pytest.mark.slow
def test_learned_motion_beats_the_kalman_filter(tmp_path: Path) -> None:
    start = time.process_time()
    report = runpy.run_path(str(EXAMPLE))["main"](["--out", str(tmp_path), "--quiet"])
    assert time.process_time() - start < 2 * 180  # three minutes of two cores
    assert len(report["pass"]) == 7
    assert {claim for claim, holds in report["pass"].items() if not holds} == set()
    for name in ("report.png", "tracks-model.png", "tracks-kalman.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
