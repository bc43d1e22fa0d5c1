"""write_other.py FOLDER: a second set of golden tensors, of other sizes and seeds, for `MAMBASDK_GOLDEN=FOLDER`.

It comes from our own models and from loops in float64, so it says nothing of other implementations: it shows that the
golden tests take sizes, constants and cases from the files. Every test file that reads golden tensors has a function
`write_golden(folder)` beside its tests, which writes files of the same layout.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TESTS = ("tests/**/test_*.py", "plugins/*/tests/test_*.py")


def main(folder: Path) -> int:
    """Write every system's folder; 0."""
    import torch

    # Test files read the names of their cases from golden files when they are imported: there are none yet.
    os.environ["MAMBASDK_GOLDEN"] = str(folder / "none")
    torch.set_num_threads(1)
    sys.path[:0] = [str(ROOT / "tests" / name) for name in ("ops", "python")]
    paths = [path for pattern in TESTS for path in sorted(ROOT.glob(pattern))]
    writers = [path for path in paths if "def write_golden(" in path.read_text()]
    for path, module in [(path, _imported(path)) for path in writers]:
        module.write_golden(folder)
        print(path.relative_to(ROOT))
    return 0


def _imported(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"golden_{path.parts[-3]}_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent))  # modules that a plugin's tests share
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    raise SystemExit(main(Path(sys.argv[1]).resolve()))
