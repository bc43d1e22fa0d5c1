"""Medical families beside a plain residual U-Net of nnU-Net's shape: time and memory of one volume, in one run.

    python benchmarks/families/medical.py --json medical.json [--only volumes mixers] [--quick]

volumes: seconds and peak memory of a 128 x 128 x 128 patch for LightM-UNet, U-Mamba Bot and xLSTM-UNet Bot beside the
residual U-Net whose stages the last two have, in PyTorch and natively. mixers: the multi-head scan's block beside
VM-UNet's at equal channels.
Times are medians of calls that alternate. Memory is the high water of the process above what it held before the call
(weights and input), read from the kernel in a process of its own.
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
from machine import machine, machine_rates
from timing import high_water, in_a_process
from volumes import mixers, nets

PARTS = {"volumes": nets, "mixers": mixers}
PROGRAMS = Path(__file__).parents[2] / "build" / "release" / "benchmarks"


def main() -> None:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE", help="write the figures, beside what the file holds")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="(default: all)")
    parser.add_argument("--quick", action="store_true", help="small, few repeats: does it run")
    parser.add_argument("--threads", type=int, default=2, help="(default: 2)")
    parser.add_argument("--programs", default=PROGRAMS, help="C++ benchmarks, for the machine's rates")
    parser.add_argument("--memory", nargs=2, metavar=("PART", "CALL"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    mambasdk.runtime.set_num_threads(args.threads)
    if args.memory:
        part, name = args.memory
        print(json.dumps(_memory_of(PARTS[part].calls(args.quick, [name])[name], PARTS[part].warm_up)))
        return

    def memory(part: str, name: str) -> float:
        """MiB of the call `name` of a part."""
        more = ["--quick"] if args.quick else []
        found: float = in_a_process(__file__, "--memory", part, name, "--threads", str(args.threads), *more)
        return found

    results: dict[str, Any] = {}
    if args.json and Path(args.json).is_file():
        results = json.loads(Path(args.json).read_text())
    results.update(machine=machine(), threads=args.threads, torch=torch.__version__, mambasdk=mambasdk.__version__)
    rates = machine_rates(args.programs, args.threads)
    for part in args.only:
        print(f"-- {part}", flush=True)
        results[part] = PARTS[part].measure(args.quick, memory, rates)
        if args.json:
            Path(args.json).write_text(json.dumps(results, indent=1) + "\n")


def _memory_of(call: Any, warm_up: Any) -> float:
    warm_up()  # libraries, thread stacks, kernels
    return high_water(call)


if __name__ == "__main__":
    main()
