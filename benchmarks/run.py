"""`make bench`: every operation beside a peer in PyTorch, and every kernel beside the machine's limits, in one run.

Ours and the other are measured in turn, so that both see the same machine; ratios of medians are printed. A case whose
results differ from the peer's is not measured: the run says so and fails. Writes kernels.json and kernels.png.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from cases import Case, all_cases
from machine import machine
from torch import Tensor

from mambasdk import runtime

HERE = Path(__file__).resolve().parent
TOLERANCE = {"float32": 2e-3, "complex64": 2e-3, "bfloat16": 4e-2, "float16": 1e-2}  # of the largest magnitude
PREFIX = 256
SLOW = 5000.0  # milliseconds; what takes longer is measured once
COMPILED = ", compiled"
ONE_THREAD = "ours, 1 thread"


def main(argv: Sequence[str] | None = None) -> int:
    """0; 1 when a result is wrong or a goal is missed."""
    args = _parse(argv)
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    runtime.set_num_threads(args.threads)
    rows: list[dict[str, Any]] = []
    failures: list[str] = []
    print(f"{machine()}, {args.threads} threads, torch {torch.__version__}\n")
    _print_header()
    for case in all_cases(args.only):
        name = f"{case.operation} {case.shape} {case.dtype}"
        if wrong := _wrong(case):
            failures.append(f"{name}: {wrong}")
            print(f"{name}: WRONG, not measured: {wrong}")
            continue
        for row in _measure(case, args):
            rows.append(row)
            _print_row(row)
            for other, goal in row["goals"].items():
                if row["ratios"][other] < goal:
                    failures.append(f"{name} {row['pass']}: {row['ratios'][other]:.1f}x {other}, goal {goal:g}x")
    limits = [] if args.no_limits else _limits(Path(args.programs), args)
    result = {
        "machine": machine(),
        "threads": args.threads,
        "torch": torch.__version__,
        "mambasdk": runtime.version(),
        "rows": rows,
        "limits": limits,
        "failures": failures,
    }
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "kernels.json").write_text(json.dumps(result, indent=1) + "\n")
    _plot(rows, out / "kernels.png")
    print(f"\n{out / 'kernels.json'}, {out / 'kernels.png'}")
    for failure in failures:
        print(f"FAILED: {failure}", file=sys.stderr)
    return 1 if failures else 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", default="", help="operations whose name contains this")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=2.0, help="measuring time of one row")
    parser.add_argument("--no-compile", action="store_true", help="do not measure peers under torch.compile")
    parser.add_argument("--no-limits", action="store_true", help="do not run the C++ programs")
    parser.add_argument("--programs", default=HERE.parent / "build" / "release" / "benchmarks")
    parser.add_argument("--out", default=HERE / "results")
    return parser.parse_args(argv)


def _first(outputs: Any) -> Tensor:
    return outputs if isinstance(outputs, Tensor) else outputs[0]


def _forward(function: Callable[..., Any], tensors: dict[str, Tensor]) -> Callable[[], Any]:
    def run() -> Any:
        with torch.inference_mode():
            return function(**tensors)

    return run


def _forward_backward(function: Callable[..., Any], tensors: dict[str, Tensor]) -> Callable[[], dict[str, Tensor]]:
    leaves = {name: tensor.detach().requires_grad_() for name, tensor in tensors.items()}
    gradient: list[Tensor] = []

    def run() -> dict[str, Tensor]:
        y = _first(function(**leaves))
        if not gradient:  # not of ones: a norm's gradient would vanish
            generator = torch.Generator().manual_seed(0)
            gradient.append(torch.randn(y.shape, dtype=y.dtype, generator=generator))
        return dict(zip(leaves, torch.autograd.grad(y, list(leaves.values()), gradient[0]), strict=True))

    return run


def _wrong(case: Case) -> str:
    """Why ours and the peer's differ on the case, or on a prefix of a long one; "" when they agree.

    The peer gets 16-bit values as float32: torch adds up some gradients in 16 bits (layer_norm's weight, 5 %).
    """
    tensors = case.tensors if case.length <= case.longest_check else case.prefix(PREFIX)
    half = (torch.bfloat16, torch.float16)
    wide = {name: x.float() if x.dtype in half else x for name, x in tensors.items()}
    pairs = {"y": (_first(case.ours(**tensors)), _first(case.peer(**wide)))}
    if case.backward:
        ours, peer = _forward_backward(case.ours, tensors)(), _forward_backward(case.peer, wide)()
        pairs |= {f"gradient of {name}": (ours[name], peer[name]) for name in tensors}
    for name, (got, expected) in pairs.items():
        exact = torch.complex128 if expected.is_complex() else torch.float64
        scale = float(expected.to(exact).abs().max())
        difference = float((got.to(exact) - expected.to(exact)).abs().max()) / (scale or 1.0)
        if not difference <= TOLERANCE[case.dtype]:
            return f"{name} differs by {difference:.1e} of its largest value, {TOLERANCE[case.dtype]:g} allowed"
    return ""


def _measure(case: Case, args: argparse.Namespace) -> list[dict[str, Any]]:
    rows = []
    for name, wrap in (("forward", _forward), ("forward+backward", _forward_backward)):
        if name != "forward" and not case.backward:
            continue
        ours = wrap(case.ours, case.tensors)
        functions = {"ours": ours} | ({ONE_THREAD: ours} if args.threads > 1 else {})
        if case.measures_peer:
            functions[case.peer_name] = wrap(case.peer, case.tensors)
            if case.compiled and not args.no_compile:
                compiled = torch.compile(case.peer, dynamic=False)
                torch.compiler.reset()
                functions[case.peer_name + COMPILED] = wrap(compiled, case.tensors)
        times = _alternate(functions, args.seconds, args.threads)
        median, alone = times.pop("ours"), times.pop(ONE_THREAD, None)
        rows.append(
            {
                "operation": case.operation, "shape": case.shape, "dtype": case.dtype, "pass": name, "ms": median,
                "peers_ms": times, "ratios": {other: ms / median for other, ms in times.items()},
                "scaling": alone / median if alone else None,
                "goals": {list(times)[-1]: case.goals[name]} if name in case.goals and times else {},
            }
        )  # fmt: skip
    return rows


def _alternate(functions: dict[str, Callable[[], Any]], seconds: float, threads: int) -> dict[str, float]:
    """Median milliseconds of each. A quick one runs many times in a turn; turns alternate."""
    repeats = {}
    samples: dict[str, list[float]] = {name: [] for name in functions}

    def turn(name: str, count: int) -> None:
        torch.set_num_threads(1 if name == ONE_THREAD else threads)
        functions[name]()  # wakes the threads
        for _ in range(count):
            samples[name].append(_milliseconds(functions[name]))

    for name, function in functions.items():
        torch.set_num_threads(1 if name == ONE_THREAD else threads)
        first = _milliseconds(function)
        if first > SLOW and not name.endswith(COMPILED):
            samples[name].append(first)
        else:
            first = _milliseconds(function)  # without what only a first call does, such as compiling
        repeats[name] = max(1, min(200, int(50 / max(first, 1e-4))))
    quick = [name for name in functions if not samples[name]]
    end = time.perf_counter() + seconds * len(quick)
    while quick and (time.perf_counter() < end or min(len(samples[name]) for name in quick) < 3):
        for name in quick:
            turn(name, repeats[name])
    torch.set_num_threads(threads)
    return {name: statistics.median(taken) for name, taken in samples.items()}


def _milliseconds(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return 1e3 * (time.perf_counter() - start)


def _limits(programs: Path, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Rows of the C++ programs that carry a `ratio` to a limit they measured themselves."""
    rows = []
    for program in sorted(programs.glob("*_bench")):
        if args.only not in program.name:
            continue
        command = [str(program), "--benchmark_format=json", "--benchmark_min_time=0.05"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"{program.name} failed: {done.stderr.strip()}")
        for entry in json.loads(done.stdout)["benchmarks"]:
            if "ratio" in entry:
                keys = [key for key in entry if key == "ratio" or key.endswith(("_us", "_ratio"))]
                name = f"{program.name.removesuffix('_bench')} {entry['name'].split('/min_time')[0]}"
                rows.append({"name": name} | {key: entry[key] for key in keys})
    if rows:
        width = max(len(row["name"]) for row in rows)
        print(f"\n{'kernel (C++)':<{width}}  {'median us':>10}  time / limit")
        for row in rows:
            print(f"{row['name']:<{width}}  {row.get('median_us', float('nan')):>10.1f}  {row['ratio']:.2f}")
    return rows


def _print_header() -> None:
    print(f"{'operation':<23}{'shape':<27}{'dtype':<10}{'pass':<18}{'ours ms':>10}  / 1 thread   peer: ms (ratio)")


def _print_row(row: dict[str, Any]) -> None:
    peers = "   ".join(f"{name}: {ms:.3g} ({row['ratios'][name]:.1f}x)" for name, ms in row["peers_ms"].items())
    scaling = f"{row['scaling']:.2f}x" if row["scaling"] else ""
    goals = "".join(f"   goal {goal:g}x" for goal in row["goals"].values())
    print(
        f"{row['operation']:<23}{row['shape']:<27}{row['dtype']:<10}{row['pass']:<18}{row['ms']:>10.3f}"
        f"  {scaling:>9}   "
        f"{peers or 'too long for the peer'}{goals}",
        flush=True,
    )


def _plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Bars: how many times faster than the best peer, on a logarithmic axis."""
    shown = [(row, min(row["peers_ms"].values()) / row["ms"]) for row in rows if row["peers_ms"]]
    if not shown:
        return
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 1 + 0.26 * len(shown)), layout="constrained")
    labels = [f"{row['operation']} {row['shape']} {row['dtype']} {row['pass']}" for row, _ in shown]
    colors = ["tab:blue" if row["pass"] == "forward" else "tab:orange" for row, _ in shown]
    axes.barh(labels, [ratio for _, ratio in shown], color=colors)
    axes.axvline(1.0, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.margins(y=0.005)
    axes.invert_yaxis()
    axes.tick_params(labelsize=7)
    axes.set_xlabel("times faster than the best PyTorch peer, one run")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    raise SystemExit(main())
