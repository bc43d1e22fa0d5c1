"""Vision families beside what they compete with: ratios in one run, on this machine's CPU.

    python benchmarks/families/vision.py --json vision.json --plot vision.png [--only tokens speed] [--quick]

speed: images a second of every family's small variant, in PyTorch and natively, beside ResNet-50 and DeiT-tiny and
beside what the machine's multiply-adds allow. tokens: Vim-tiny, PlainMamba-L1 and DeiT-tiny (naive and fused attention)
at growing image sizes: time, memory, slopes. scans: ES2D beside SS2D, PlainMamba's snakes beside copies, VSSD's mixer
beside causal and bidirectional ones. routes: the routed scan of SS2D beside copies for every route. networks: VMamba
vanilla beside its successors, with memory of a training step, and time over image size. detectors: frames a second of
Mamba-YOLO at 640², beside a network of YOLOv8n's shape in onnxruntime, and the stages of a frame.
Times are medians of calls that alternate. Memory is the high water of the process above what it held before the call
(weights and input), read from the kernel in a process of its own. --json adds to what the file holds already.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch

import mambasdk

sys.path.insert(0, str(Path(__file__).parents[1]))
from images import detectors, networks, routes, scans, speed, tokens
from machine import machine, machine_rates
from timing import high_water, in_a_process

PARTS = ("speed", "tokens", "scans", "routes", "networks", "detectors")
PROGRAMS = Path(__file__).parents[2] / "build" / "release" / "benchmarks"


def memory(part: str, which: Any) -> list[dict[str, float]]:
    """high_water of every call of a part, for each of `which`."""
    arguments = ["--memory", part, *map(str, which), "--threads", str(torch.get_num_threads())]
    found: list[dict[str, float]] = in_a_process(__file__, *arguments)
    return found


def _measure_memory(part: str, which: list[int]) -> list[dict[str, float]]:
    results = []
    for value in which:
        if part == "tokens":
            calls, warm = tokens.encoders(value), tokens.encoders(32)
        elif part == "networks":
            calls, warm = networks.training_calls(value), networks.training_calls(1)
        else:
            calls = warm = routes.route_calls(*routes.MAPS[value])
        for call in warm.values():  # libraries, thread stacks, kernels
            call()
        results.append({name: high_water(call) for name, call in calls.items()})
        del calls, warm
    return results


def main() -> None:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE", help="write the figures, beside what the file holds")
    parser.add_argument("--plot", metavar="PNG", help="draw time and memory of the part tokens")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="(default: all)")
    parser.add_argument("--sizes", nargs="+", type=int, default=tokens.SIZES, help="of the part tokens (default: all)")
    parser.add_argument("--quick", action="store_true", help="two sizes, few repeats: does it run")
    parser.add_argument("--threads", type=int, default=2, help="(default: 2)")
    parser.add_argument("--programs", default=PROGRAMS, help="C++ benchmarks, for the machine's rates")
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
    run = {
        "machine": machine(),
        "threads": args.threads,
        "torch": torch.__version__,
        "mambasdk": mambasdk.__version__,
    }
    for part in args.only:
        print(f"-- {part}", flush=True)
        if part in ("speed", "detectors"):
            module = speed if part == "speed" else detectors
            results[part] = module.measure(args.quick, machine_rates(args.programs, args.threads), args.threads)
        elif part == "tokens":
            sizes = args.sizes[:2] if args.quick else args.sizes
            results[part] = tokens.measure(sizes, results.get(part, {}).get("rows", []), args.quick, memory)
        elif part == "scans":
            results[part] = scans.measure(args.quick)
        else:
            results[part] = (routes if part == "routes" else networks).measure(args.quick, memory)
        results[part] = {**run, **results[part]}  # parts may be of several machines
    if args.json:
        Path(args.json).write_text(json.dumps(results, indent=1) + "\n")
    if args.plot and "tokens" in results:
        tokens.plot(results, args.plot)


if __name__ == "__main__":
    main()
