"""Whole models in the native engine beside onnxruntime, eager PyTorch and torch.compile: one run, this machine's CPU.

    python benchmarks/native.py [--models deit vim] [--rounds 9] [--quick] [--out FILE] [--profile]

All engines of a model take turns, each with the same number of threads; the first call of a turn does not count.
Medians and least times are of the calls that do. Memory and the time to the first output are those of a process of its
own for each engine, from files that the system holds in memory. Shares are of multiply-adds, and of bytes read, a
second, measured by bare loops beside each model; the multiply-adds of the SDK's own operations (scans) are not
counted. Weights in bfloat16 are multiplied as float32, in vectors of pairs or in tiles: the fastest of those loops is
the machine's rate.
A model that fails says why, and the others go on.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from whole_models import engines
from whole_models.engines import COMPILED, EAGER, ENGINES, OURS, Run

HERE = Path(__file__).resolve().parent
TOLERANCE = {"float32": 2e-3, "bfloat16": 6e-2}  # of the largest magnitude of the output
TURN = 0.25  # seconds; at most so long does an engine run before the next has its turn
Row = dict[str, Any]


def main(argv: Sequence[str] | None = None) -> int:
    """0; 1 where a model fails. Goals that are missed are printed and are no failure."""
    args = _parse(argv)
    os.environ.update(engines.environment(args.threads))
    import torch  # after the environment, which it reads
    from machine import machine
    from whole_models.workloads import QUICK, WORKLOADS

    import mambasdk

    torch.set_num_threads(args.threads)
    chosen = [
        w for w in (QUICK if args.quick else WORKLOADS) if not args.models or any(m in w.name for m in args.models)
    ]
    result: Row = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "threads": args.threads,
        "rounds": args.rounds,
        "versions": {"mambasdk": mambasdk.__version__, "torch": torch.__version__, "onnxruntime": _version()},
        "rows": [],
    }
    print(f"{result['machine']}, {args.threads} threads, {result['versions']}\n")
    for workload in chosen:
        start = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="native-bench-") as folder:
            os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(Path(folder) / "compiled")
            try:
                row = _measure(workload, Path(folder), args)
            except Exception as error:
                row = {"model": workload.name, "failed": f"{type(error).__name__}: {error}"[:500]}
        row["load"] = list(os.getloadavg())  # what else the machine did
        row["measuring_s"] = time.perf_counter() - start
        result["rows"].append(row)
        _show(row)
        if args.out:
            Path(args.out).write_text(json.dumps(result, indent=1) + "\n")
    return 1 if any("failed" in row for row in result["rows"]) else 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=[], help="those whose names contain one of these (default: all)")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=ENGINES, help="(default: all)")
    parser.add_argument("--rounds", type=int, default=9, help="turns of each engine (default: 9)")
    parser.add_argument("--threads", type=int, default=2, help="(default: 2)")
    parser.add_argument("--quick", action="store_true", help="two small models, two rounds, no compiler: does it run")
    parser.add_argument("--profile", action="store_true", help="print the native program's operations by time")
    parser.add_argument("--programs", default=HERE.parent / "build" / "release" / "benchmarks", help="of the C++ build")
    parser.add_argument("--out", metavar="FILE", help="write the figures as JSON")
    args = parser.parse_args(argv)
    if args.quick:
        args.rounds = min(args.rounds, 2)
        args.engines = [name for name in args.engines if name != COMPILED]
    return args


def _version() -> str | None:
    try:
        import onnxruntime
    except ImportError:
        return None
    return str(onnxruntime.__version__)


def _measure(workload: Any, folder: Path, args: argparse.Namespace) -> Row:
    """All there is to say of a model. What one peer cannot do is said in its place; ours must run."""
    row: Row = {"model": workload.name, "goal": workload.goal, "engines": {}, "without": dict(workload.without)}
    runs: dict[str, Run] = {}
    for engine in args.engines:
        if engine in row["without"]:
            continue
        try:
            place = folder / engine
            engines.prepare(engine, workload, place)
            runs[engine] = engines.open_model(engine, place, args.threads)
            runs[engine]()  # brings the files into the system's memory, and what a compiler keeps onto the disk
            row["engines"][engine] = _alone(engine, place, args.threads)
        except Exception as error:
            if engine == OURS:
                raise
            runs.pop(engine, None)
            row["without"][engine] = f"{type(error).__name__}: {str(error).strip()[-300:]}"
    _check(runs, workload)
    for engine, times in _alternate(runs, args.rounds).items():
        row["engines"][engine] |= {"median_ms": statistics.median(times), "least_ms": min(times), "calls": len(times)}
    row |= _limits(workload, row["engines"][OURS], folder / OURS, args)
    peers = {name: found["median_ms"] for name, found in row["engines"].items() if name != OURS and name in runs}
    if peers:
        fastest = min(peers, key=peers.__getitem__)
        row["fastest_peer"] = fastest
        row["speedup"] = peers[fastest] / row["engines"][OURS]["median_ms"]
        row["speedup_of_least"] = row["engines"][fastest]["least_ms"] / row["engines"][OURS]["least_ms"]
    if args.profile:
        _profile(folder / OURS, args.threads)
    return row


def _check(runs: dict[str, Run], workload: Any) -> None:
    """Every engine gives what ours gives. Engines that decode are one token further on each call, all alike."""
    import numpy as np

    outputs = {engine: np.array(run(), dtype=np.float64) for engine, run in runs.items()}
    ours = outputs[OURS]
    for engine, found in outputs.items():
        wrong = float(np.abs(found - ours).max() / max(np.abs(found).max(), 1e-30))
        if found.shape != ours.shape or not wrong <= TOLERANCE[workload.dtype]:
            raise ValueError(
                f"{engine} and ours differ by {wrong:.1e} of the largest value ({found.shape}, {ours.shape})"
            )


def _alternate(runs: dict[str, Run], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each engine's calls."""
    times: dict[str, list[float]] = {engine: [] for engine in runs}
    count = {}
    for engine, run in runs.items():
        run()
        start = time.perf_counter()
        run()
        count[engine] = max(1, min(50, int(TURN / (time.perf_counter() - start))))
    for _ in range(rounds):
        for engine, run in runs.items():
            run()  # wakes the threads
            for _ in range(count[engine]):
                start = time.perf_counter()
                run()
                times[engine].append(1e3 * (time.perf_counter() - start))
    return times


def _alone(engine: str, folder: Path, threads: int) -> Row:
    """Of a process of its own, when the files have been used before.

    The last of two: hashes of files that were written a moment ago are not remembered yet.
    """
    command = [sys.executable, "-m", "whole_models.alone", engine, str(folder), str(threads)]
    found: Row = {}
    for _ in range(1 if engine == COMPILED else 2):
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=HERE)
        if done.returncode != 0:
            raise RuntimeError(done.stderr.strip()[-400:])
        found = json.loads(done.stdout.splitlines()[-1])
    return found


def _limits(workload: Any, ours: Row, folder: Path, args: argparse.Namespace) -> Row:
    """Shares of what the machine does at best; nothing where the C++ programs were not built."""
    from machine import machine_rates

    rates = machine_rates(args.programs, args.threads)
    if not rates:
        return {}
    if workload.decode:
        size = (folder / "package" / "model.safetensors").stat().st_size
        rate = rates["read/512" if size > 3 << 27 else "read/256"]
        limit = 1e3 * size / rate
        return {
            "weights_MB": size / 1e6,
            "read_GB_s": rate / 1e9,
            "share_of_bandwidth": limit / ours["median_ms"],
            "share_of_bandwidth_of_least": limit / ours["least_ms"],
        }
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    run = engines.open_model(EAGER, _prepared(workload, folder), args.threads)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        run()
    adds = counter.get_total_flops() / 2
    narrow = workload.dtype == "bfloat16"
    bfloat16 = {name: rates[name] for name in ("multiply_pairs", "multiply_tiles") if name in rates}
    rate = max([rates["multiply_adds"], *(bfloat16.values() if narrow else ())])
    return {
        "multiply_adds": adds,
        "multiply_adds_a_second": rate,
        "float32_a_second": rates["multiply_adds"],
        "bfloat16_a_second": bfloat16,
        "share_of_arithmetic": adds / rate / (1e-3 * ours["median_ms"]),
        "share_of_arithmetic_of_least": adds / rate / (1e-3 * ours["least_ms"]),
    }


def _prepared(workload: Any, folder: Path) -> Path:
    place = folder.parent / EAGER
    if not (place / "module.pt").is_file():
        engines.prepare(EAGER, workload, place)
    return place


def _profile(folder: Path, threads: int) -> None:
    """Operations of the native program by their time in a process of its own, least times of each node."""
    with tempfile.NamedTemporaryFile(suffix=".jsonl") as written:
        command = [sys.executable, "-m", "whole_models.alone", OURS, str(folder), str(threads)]
        subprocess.run(
            command,
            check=True,
            cwd=HERE,
            env=os.environ | {"MAMBASDK_PROFILE": written.name},
            stdout=subprocess.DEVNULL,
        )
        parts = {}
        for line in Path(written.name).read_text().splitlines():
            parts |= json.loads(line)
    for part, nodes in parts.items():
        _print_profile(part, nodes)


def _print_profile(part: str, nodes: list[Row]) -> None:
    total = sum(node["least_us"] for node in nodes) or 1.0
    groups: dict[tuple[str, str], list[float]] = {}
    for node in nodes:
        groups.setdefault((node["op"], node["shapes"]), []).append(node["least_us"])
    print(f"{part}: {total / 1e3:.2f} ms in {len(nodes)} operations")
    for (operation, shapes), times in sorted(groups.items(), key=lambda item: -sum(item[1]))[:40]:
        print(f"{sum(times) / total:6.1%} {sum(times) / 1e3:8.2f} ms {len(times):4d} x {operation:20s} {shapes}")


def _show(row: Row) -> None:
    if "failed" in row:
        print(f"{row['model']}: FAILED: {row['failed']}\n", flush=True)
        return
    print(row["model"])
    for engine, found in row["engines"].items():
        if "median_ms" not in found:
            continue
        print(
            f"  {engine:14s} {found['median_ms']:9.2f} ms (least {found['least_ms']:9.2f})   first output"
            f" {found['first_output_ms']:8.1f} ms (load {found['load_ms']:8.1f})   peak {found['peak_MiB']:7.1f} MiB"
            f" ({found['peak_above_imports_MiB']:7.1f} above imports)"
        )
    for engine, why in row["without"].items():
        print(f"  {engine:14s} not measured: {why}")
    notes = []
    if "speedup" in row:
        missed = "" if row["speedup"] >= row["goal"] else ", MISSED"
        notes.append(f"{row['speedup']:.2f} x {row['fastest_peer']} (goal {row['goal']:g}{missed})")
    for name, what in (("share_of_arithmetic", "multiply-adds"), ("share_of_bandwidth", "reading the weights")):
        if name in row:
            notes.append(f"{row[name]:.0%} of the machine's rate of {what}")
    print(f"  {', '.join(notes)}; load {row['load'][0]:.1f}\n", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
