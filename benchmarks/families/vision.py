"""Vision families beside what they compete with: ratios in one run, on this machine's CPU.

    python benchmarks/families/vision.py --json vision.json --plot vision.png [--only vim routes vmamba] [--quick]

vim: Vim-tiny and DeiT-tiny (naive and fused attention) at growing image sizes, batch 1: time, memory, slopes.
routes: the routed scan beside copies for every route. vmamba: the published variants, and time over image size.
Times are medians of calls that alternate. Memory is the high water of the process above what it held before the call
(weights and input), read from the kernel in a process of its own. --json adds to what the file holds already.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import mambasdk
from mambasdk import ops
from mambasdk_vision.families.vmamba import SS2D
from mambasdk_vision.nn.routes import cross_routes

sys.path.insert(0, str(Path(__file__).parents[1]))
from peers import cross_scan_2d
from peers.deit import DeiT

SIZES = (224, 512, 768, 1024, 1248)
GOALS = {"naive": 4.0, "fused": 2.0}
PARTS = ("vim", "routes", "vmamba")
Call = Callable[[], Any]


def medians(calls: dict[str, Call], repeats: int) -> dict[str, float]:
    """Seconds of each call: the median of `repeats`, taken in turns after one that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(repeats + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def high_water(call: Call) -> float:
    """MiB that the process held at most during the call, above what it held before."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = _resident("VmRSS")
    call()
    return (_resident("VmHWM") - before) / 1024


def _resident(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise RuntimeError(f"no {name} in /proc/self/status")


def encoders(size: int) -> dict[str, Call]:
    """Backbones without their last layer, on one image."""
    torch.manual_seed(0)
    image = torch.randn(1, 3, size, size)
    vim: Any = mambasdk.create_model("vim-tiny", img_size=size).eval()
    models: dict[str, Any] = {"vim": vim.features, **{name: DeiT(size, fused=name == "fused").eval() for name in GOALS}}
    return {name: lambda model=model: model(image) for name, model in models.items()}


def measure_vim(sizes: Sequence[int], quick: bool) -> list[dict[str, Any]]:
    """Time and memory at each size."""
    rows: list[dict[str, Any]] = []
    for size in sizes:
        seconds = medians(encoders(size), 3 if size > 1024 or quick else 5)
        rows.append({"size": size, "tokens": (size // 16) ** 2 + 1, "seconds": seconds})
        print(
            f"{size:5d}  " + "  ".join(f"{name} {1000 * value:8.1f} ms" for name, value in seconds.items()), flush=True
        )
    for row, memory in zip(rows, _in_a_process("vim", sizes), strict=True):
        row["MiB"] = memory
        print(f"{row['size']:5d}  " + "  ".join(f"{name} {value:8.1f} MiB" for name, value in memory.items()))
    return rows


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Ratios at the largest size, and the slope of log time over log tokens from the one before."""
    first, last = rows[-2], rows[-1]
    growth = math.log(last["tokens"] / first["tokens"])
    slopes = {name: math.log(last["seconds"][name] / first["seconds"][name]) / growth for name in last["seconds"]}
    ratios = {name: last["seconds"][name] / last["seconds"]["vim"] for name in GOALS}
    memory = {name: 1 - last["MiB"]["vim"] / last["MiB"][name] for name in GOALS}
    print("slope of time over tokens: " + ", ".join(f"{name} {slope:.2f}" for name, slope in slopes.items()))
    for name, goal in GOALS.items():
        print(
            f"{last['size']}: {ratios[name]:.2f} x faster than DeiT-tiny {name} (goal {goal}), "
            f"{memory[name]:.1%} less memory"
        )
    return {"rows": rows, "slopes": slopes, "ratios": ratios, "memory_saved": memory, "goals": GOALS}


def route_calls(side: int, width: int, states: int) -> dict[str, Call]:
    """ours and the copies, on the scan alone and with the projections; checked to give the same map."""
    torch.manual_seed(0)
    mixer = SS2D(width, states, 2.0 if states > 1 else 1.0)
    inner, rank, length = mixer.d_inner, mixer.dt_rank, side * side
    u = torch.randn(1, side, side, inner)
    order = cross_routes(side, side)
    A = -torch.exp(mixer.A_logs.detach()).view(4, inner, states)
    shared = {"D": mixer.Ds.detach().view(4, inner), "delta_bias": mixer.dt_projs_bias.detach()}
    low = torch.randn(1, 4, length, rank + 2 * states)
    delta = low[..., :rank] @ mixer.dt_projs_weight.detach().transpose(1, 2)
    B, C = low[..., rank : rank + states], low[..., rank + states :]
    flat = u.flatten(1, 2)
    xs, ordered = cross_scan_2d.copies(u), delta.transpose(1, 2).contiguous()
    calls: dict[str, Call] = {
        "scan, routed": lambda: ops.selective_scan(flat, delta, A, B, C, delta_softplus=True, order=order, **shared),
        "scan, gathered": lambda: cross_scan_2d.gathered(u=flat, delta=delta, A=A, B=B, C=C, order=order, **shared),
        "scan, cross-scan and cross-merge": lambda: cross_scan_2d.merge(
            cross_scan_2d.scan(cross_scan_2d.copies(u), ordered, A, B.transpose(1, 2), C.transpose(1, 2), **shared),
            side,
            side,
        ),
        "scan, copies already there": lambda: cross_scan_2d.scan(
            xs, ordered, A, B.transpose(1, 2), C.transpose(1, 2), **shared
        ),
        "mixer, routed": lambda: mixer._routed(u),
        "mixer, cross-scan and cross-merge": lambda: cross_scan_2d.ss2d_core(mixer, u),
    }
    _same(calls["scan, routed"](), calls["scan, gathered"]())
    _same(calls["mixer, routed"](), calls["mixer, cross-scan and cross-merge"]())
    return calls


def _same(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=1e-4 * float(theirs.abs().max()), rtol=0)


# (side of the map, C, N): first and second stage of VMamba-tiny at 224, first stage at 512; vanilla and s1l8.
MAPS = ((56, 96, 16), (28, 192, 16), (128, 96, 16), (56, 96, 1), (128, 96, 1))


def measure_routes(quick: bool) -> dict[str, Any]:
    """Rows by map."""
    maps = MAPS[:1] if quick else MAPS
    memories = _in_a_process("routes", range(len(maps)))
    rows = []
    for (side, width, states), memory in zip(maps, memories, strict=True):
        seconds = medians(route_calls(side, width, states), 5 if quick else 15)
        ratios = {
            name: (seconds[name] / seconds[ours], memory[name] / max(memory[ours], 0.1))
            for name, ours in (
                ("scan, gathered", "scan, routed"),
                ("scan, cross-scan and cross-merge", "scan, routed"),
                ("mixer, cross-scan and cross-merge", "mixer, routed"),
            )
        }
        rows.append({"map": [side, side, width, states], "seconds": seconds, "MiB": memory, "ratios": ratios})
        print(f"{side} x {side}, C {width}, N {states}")
        for name, value in seconds.items():
            ratio = "  {:.2f} x time, {:.2f} x memory of the routed one".format(*ratios[name]) if name in ratios else ""
            print(f"  {name:34s} {1000 * value:8.2f} ms {memory[name]:8.1f} MiB{ratio}")
    return {"rows": rows}


def measure_vmamba(quick: bool) -> dict[str, Any]:
    """Vanilla-T over T s1l8 at 224 and batch 8 (published: 2.64 on an A100), and s1l8 at 448 over 224."""
    batch, repeats = (1, 1) if quick else (8, 3)
    calls: dict[str, Call] = {}
    for name in ("vmamba-tiny-vanilla", "vmamba-tiny-s1l8"):
        model: Any = mambasdk.create_model(name).eval()
        image = torch.randn(batch, 3, 224, 224)
        calls[name] = lambda model=model, image=image: model(image)
        if name.endswith("s1l8"):
            larger = torch.randn(max(batch // 4, 1), 3, 448, 448)
            same = torch.randn(max(batch // 4, 1), 3, 224, 224)
            calls["s1l8 at 448"] = lambda model=model, image=larger: model(image)
            calls["s1l8 at 224"] = lambda model=model, image=same: model(image)
    seconds = medians(calls, repeats)
    ratio = seconds["vmamba-tiny-vanilla"] / seconds["vmamba-tiny-s1l8"]
    growth = seconds["s1l8 at 448"] / seconds["s1l8 at 224"]
    for name, value in seconds.items():
        print(f"{name:22s} {1000 * value:8.1f} ms")
    print(f"vanilla-T over T s1l8: {ratio:.2f} (goal 2.6); 448 over 224: {growth:.2f} (goal at most 4.4)")
    return {"batch": batch, "seconds": seconds, "vanilla_over_s1l8": ratio, "448_over_224": growth}


def _in_a_process(part: str, which: Any) -> list[dict[str, float]]:
    """high_water of every call, measured where large blocks go back to the kernel at once."""
    command = [sys.executable, __file__, "--memory", part, *map(str, which), "--threads", str(torch.get_num_threads())]
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    found: list[dict[str, float]] = json.loads(done.stdout.splitlines()[-1])
    return found


def _measure_memory(part: str, which: list[int]) -> list[dict[str, float]]:
    results = []
    for value in which:
        if part == "vim":
            warm = encoders(32)
            calls = encoders(value)
        else:
            calls = route_calls(*MAPS[value])
            warm = calls
        for call in warm.values():  # libraries, thread stacks, kernels
            call()
        results.append({name: high_water(call) for name, call in calls.items()})
        del calls, warm
    return results


def plot(results: dict[str, Any], path: str) -> None:
    """Time and memory over the number of tokens."""
    from matplotlib.figure import Figure

    rows = results["vim"]["rows"]
    names = {"vim": "Vim-tiny", "naive": "DeiT-tiny, naive attention", "fused": "DeiT-tiny, fused attention"}
    colours = {"vim": "#08519c", "naive": "#d94801", "fused": "#fd8d3c"}
    figure = Figure(figsize=(10, 4.4), dpi=120, layout="constrained")
    for axes, key, factor, label in zip(
        figure.subplots(1, 2), ("seconds", "MiB"), (1.0, 1.0), ("seconds per image", "peak memory, MiB"), strict=True
    ):
        for name, title in names.items():
            values = [row[key][name] * factor for row in rows]
            axes.loglog([row["tokens"] for row in rows], values, "o-", color=colours[name], label=title)
            axes.annotate(f"{values[-1]:.3g}", (rows[-1]["tokens"], values[-1]), (6, -3), textcoords="offset points")
        axes.set_xticks(
            [row["tokens"] for row in rows], [f"{row['size']}²\n{row['tokens']}" for row in rows], fontsize=8
        )
        axes.minorticks_off()
        axes.set_xlim(right=rows[-1]["tokens"] * 1.5)
        axes.set_xlabel("image, pixels; tokens")
        axes.set_ylabel(label)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].legend(frameon=False)
    figure.suptitle(f"One image, batch 1, float32, {results['threads']} CPU threads, {results['machine']}")
    figure.savefig(path)


def main() -> None:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE", help="write the figures, beside what the file holds")
    parser.add_argument("--plot", metavar="PNG", help="draw time and memory of the part vim")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="(default: all)")
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES, help="of the part vim (default: all)")
    parser.add_argument("--quick", action="store_true", help="two sizes, few repeats: does it run")
    parser.add_argument("--threads", type=int, default=2, help="(default: 2)")
    parser.add_argument("--memory", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.set_grad_enabled(False)
    if args.memory:
        print(json.dumps(_measure_memory(args.memory[0], [int(value) for value in args.memory[1:]])))
        return
    results: dict[str, Any] = {}
    if args.json and Path(args.json).is_file():
        results = json.loads(Path(args.json).read_text())
    machine = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "")
    results.update(
        machine=machine.partition(":")[2].strip() or platform.machine(),
        threads=args.threads,
        torch=torch.__version__,
        mambasdk=mambasdk.__version__,
    )
    for part in args.only:
        print(f"-- {part}")
        if part == "vim":
            known = {row["size"]: row for row in results.get("vim", {}).get("rows", [])}
            known.update(
                {row["size"]: row for row in measure_vim(args.sizes[:2] if args.quick else args.sizes, args.quick)}
            )
            rows = [known[size] for size in sorted(known)]
            results[part] = summary(rows) if len(rows) > 1 else {"rows": rows}
        else:
            results[part] = (measure_routes if part == "routes" else measure_vmamba)(args.quick)
    if args.json:
        Path(args.json).write_text(json.dumps(results, indent=1) + "\n")
    if args.plot and "vim" in results:
        plot(results, args.plot)


if __name__ == "__main__":
    main()
