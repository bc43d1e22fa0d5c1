"""How many threads work well on this machine now, and how OpenMP's wait. Imports nothing heavy."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path

# A thread of OpenMP that waits spins by default. Where other programs hold the cores it spins in their time slices, and
# every parallel region takes a whole one: docs/training.md has the measurement.
_PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", "KMP_BLOCKTIME": "0"}


def wait_passively() -> None:
    """Let OpenMP's threads sleep while they wait, unless the environment says otherwise. Before torch is imported."""
    if "torch" in sys.modules or any(name in os.environ for name in _PASSIVE):
        return
    os.environ.update(_PASSIVE)


def usable_cores() -> int:
    """Cores that this process may use: its affinity and the quota of its container."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        cores = os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            cores = min(cores, max(1, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):
        pass
    return max(cores, 1)


def load_warnings() -> list[str]:
    """What makes parallel work slow here now: other programs on the cores, or more threads than cores."""
    warnings = []
    cores = usable_cores()
    try:
        load = os.getloadavg()[0]
    except (AttributeError, OSError):
        load = 0.0
    if load > cores + 0.5:
        warnings.append(
            f"the load average is {load:.1f} on {cores} usable cores: other programs run; train with fewer --threads "
            "and leave OMP_WAIT_POLICY at PASSIVE"
        )
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    if asked.isdigit() and int(asked) > cores:
        warnings.append(f"OMP_NUM_THREADS is {asked} on {cores} usable cores: set it to {cores} or less")
    if os.environ.get("OMP_WAIT_POLICY", "").upper() == "ACTIVE":
        warnings.append(
            "OMP_WAIT_POLICY is ACTIVE: waiting threads spin, which collapses where other programs run; unset it"
        )
    return warnings
