"""What was measured on: its name, in one line for the tables, and what it does at best."""

from __future__ import annotations

import json
import platform
import subprocess
from pathlib import Path

from mambasdk import runtime


def machine() -> str:
    """The processor's name, and the instructions that the kernels use on it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.machine()
    return f"{model}, {runtime.cpu_info()['isa_active']}"


def machine_rates(programs: str | Path, threads: int) -> dict[str, float]:
    """What bare loops do a second on so many threads, "multiply_adds", "multiply_pairs", "read/256", …, of now.

    programs: where the C++ benchmarks are; nothing where they were not built.
    """
    program = Path(programs) / "machine_bench"
    if not program.is_file():
        return {}
    done = subprocess.run([str(program), "--benchmark_format=json"], capture_output=True, text=True, check=True)
    rates: dict[str, float] = {}
    for entry in json.loads(done.stdout)["benchmarks"]:
        if "per_second" not in entry:
            continue  # this processor has no such instructions
        name, count = entry["name"].split("/min_time")[0].rsplit("/", 1)
        if int(count) == threads:
            rates[name] = entry["per_second"]
    return rates
