"""The mLSTM beside its parallel form in PyTorch: time and memory of a forward and a backward, and time over length.

    cd benchmarks && python mlstm.py --out results/mlstm.json

Both forms are timed in turn, in one process, with --threads threads; medians are reported. Memory is the peak of a
process during its first pass, less what it has before that (Linux). The slope is that of the logarithm of time over
that of the length, of the best of --repeats turns over all lengths, in processor time of one thread, which others on
the machine change little. Processes keep the memory that they have freed (glibc's limits for returning it are raised):
else pages that are new to the process, some 0.3 us each, count as time of the longer sequences alone.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from machine import machine
from torch import Tensor

from mambasdk import ops, runtime
from mambasdk.nn import mlstm_parallel

LENGTH, HEADS, WIDTH = 4096, 4, 64
LENGTHS = tuple(1024 << n for n in range(5))
GOALS = {"ratio": 8.0, "memory": 0.1, "slope": 1.05}  # at least, at most, at most
KEEP = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 40)}
FORMS: dict[str, Callable[..., Tensor]] = {"ours": ops.mlstm, "parallel": mlstm_parallel}


def inputs(length: int) -> dict[str, Tensor]:
    """Gates as a network begins with them: forget gates of 3 to 6."""
    generator = torch.Generator().manual_seed(0)
    rows = {name: torch.randn(1, length, HEADS, WIDTH, generator=generator) for name in ("q", "k", "v")}
    gates = torch.randn(2, 1, length, HEADS, generator=generator)
    rows |= {"igate": gates[0], "fgate": gates[1] * 0.5 + torch.linspace(3, 6, HEADS)}
    return {name: tensor.requires_grad_() for name, tensor in rows.items()}


def passes(form: str, tensors: dict[str, Tensor]) -> None:
    """One forward and one backward."""
    h = FORMS[form](**tensors)
    torch.autograd.grad(h, list(tensors.values()), torch.ones_like(h))


def times(repeats: int) -> dict[str, float]:
    """Median seconds of each form at LENGTH."""
    tensors = inputs(LENGTH)
    taken: dict[str, list[float]] = {form: [] for form in FORMS}
    for turn in range(repeats + 1):
        for form, counts in taken.items():
            start = time.perf_counter()
            passes(form, tensors)
            if turn > 0:
                counts.append(time.perf_counter() - start)
    return {form: statistics.median(counts) for form, counts in taken.items()}


def over_length(repeats: int) -> dict[int, float]:
    """Least seconds of processor time of ours at each of LENGTHS."""
    torch.set_num_threads(1)
    runtime.set_num_threads(1)
    tensors = {length: inputs(length) for length in LENGTHS}
    taken: dict[int, list[float]] = {length: [] for length in LENGTHS}
    for turn in range(repeats + 1):
        for length, counts in taken.items():
            start = time.process_time()
            passes("ours", tensors[length])
            if turn > 0:
                counts.append(time.process_time() - start)
    return {length: min(counts) for length, counts in taken.items()}


def slope(seconds: dict[int, float]) -> float:
    """The least-squares slope of log time over log length."""
    xs, ys = [math.log(n) for n in seconds], [math.log(s) for s in seconds.values()]
    mean_x, mean_y = statistics.fmean(xs), statistics.fmean(ys)
    pairs = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True))
    return pairs / sum((x - mean_x) ** 2 for x in xs)


def peak(form: str) -> int:
    """Bytes that the first pass adds to this process at its largest."""
    tensors = inputs(LENGTH)
    Path("/proc/self/clear_refs").write_text("5")  # the largest size so far is that of now
    before = _status("VmRSS")
    passes(form, tensors)
    return _status("VmHWM") - before


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def measured_apart(*arguments: str) -> Any:
    """What this program prints in a process of its own."""
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **KEEP})
    return json.loads(done.stdout)


def main(argv: Sequence[str] | None = None) -> int:
    """0; 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    parser.add_argument("--lengths", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    runtime.set_num_threads(args.threads)
    if args.peak is not None:
        print(peak(args.peak))
        return 0
    if args.lengths:
        print(json.dumps(list(over_length(args.repeats).items())))
        return 0
    threads, repeats = ("--threads", str(args.threads)), ("--repeats", str(args.repeats))
    seconds = times(args.repeats)
    memory = {form: measured_apart("--peak", form, *threads) for form in FORMS}
    lengths = dict(measured_apart("--lengths", *repeats))
    result = {
        "machine": machine(),
        "threads": args.threads,
        "torch": torch.__version__,
        "shape": f"B1 L{LENGTH} H{HEADS} E{WIDTH}",
        "ms": {form: 1e3 * s for form, s in seconds.items()},
        "ratio": seconds["parallel"] / seconds["ours"],
        "bytes": memory,
        "memory": memory["ours"] / memory["parallel"],
        "processor_ms": {length: 1e3 * s for length, s in lengths.items()},
        "slope": slope(lengths),
    }
    print(json.dumps(result, indent=1))
    if args.out is not None:
        args.out.write_text(json.dumps(result, indent=1) + "\n")
    missed = [n for n, goal in GOALS.items() if (result[n] < goal if n == "ratio" else result[n] > goal)]
    for name in missed:
        print(f"FAILED: {name} is {result[name]:.3g}, goal {GOALS[name]:g}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
