"""What was measured on, in one line, for the tables."""

from __future__ import annotations

import platform
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
