"""One engine with one model in a process of its own: time to the first output, and memory.

    python -m whole_models.alone ENGINE FOLDER THREADS

Prints JSON. The peak is VmHWM, what getrusage calls ru_maxrss but for what the process that started this one held.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from .engines import imports, open_model


def kilobytes(name: str) -> int:
    """A line of /proc/self/status."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise RuntimeError(f"no {name} in /proc/self/status")


def main() -> None:
    """Load, run once, run twice more for what only later calls hold."""
    engine, folder, threads = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    imports(engine)
    before = kilobytes("VmRSS")
    start = time.perf_counter()
    run = open_model(engine, folder, threads)
    loaded = time.perf_counter() - start
    run()
    first = time.perf_counter() - start
    for _ in range(2):
        run()
    peak = kilobytes("VmHWM")
    found = {"load_ms": 1e3 * loaded, "first_output_ms": 1e3 * first}
    print(json.dumps(found | {"peak_MiB": peak / 1024, "peak_above_imports_MiB": (peak - before) / 1024}))


if __name__ == "__main__":
    main()
