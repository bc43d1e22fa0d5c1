"""Hybrids of the 130M class beside transformers' own: a prompt, and single tokens after it.

    python benchmarks/hybrids.py [--models bamba jamba] [--threads 2] [--out benchmarks/results/hybrids.json] [--quick]

The seven models of transformers that the family `hybrid` reads, in its plain PyTorch code (its kernels need a GPU),
beside this SDK in PyTorch and its native engine. All have the same weights, and nothing is timed unless their logits
agree. The contestants alternate; medians are printed, with ratios to transformers. The goal is 3 times as fast, and 20
times for the prompts of Mamba-1 models, whose scan is a Python loop there. A goal that is missed is printed, and is no
failure.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from machine import machine
from peers.hybrids import FULL, MODELS, QUICK, Size, Transformers, transformers_model

import mambasdk

THEIRS, TORCH, NATIVE = "transformers", "mambasdk torch", "mambasdk native"
GOAL, GOAL_OF_LOOPS = 3.0, 20.0
# Of the largest logit. In bfloat16 transformers rounds every layer's output, and we the inputs of dense layers alone.
TOLERANCE = {"float32": 1e-3, "bfloat16": 0.1}
Row = dict[str, Any]
Clock = Callable[[], float]


class Torch:
    """The same model in this SDK, in PyTorch."""

    def __init__(self, model: Any, tokens: torch.Tensor) -> None:
        self._model, self._tokens, self._state = model, tokens, None

    def prompt(self) -> None:
        self._state = None
        self._run(self._tokens)

    def step(self) -> None:
        self._run(self._tokens[:, :1])

    def _run(self, tokens: torch.Tensor) -> None:
        out = self._model(tokens, self._state, logits_to_keep=1)
        self._state, self.logits = out.state, out.logits[:, -1]


class Native:
    """A package of it in the native engine."""

    def __init__(self, model: Any, tokens: torch.Tensor, folder: Path, dtype: str) -> None:
        mambasdk.save_package(model, folder, engine="native", golden=False, dtype=dtype)
        self._session = mambasdk.runtime.load_package(folder).session()
        self._tokens = tokens.to(torch.int32).numpy()

    def prompt(self) -> None:
        self._session.reset()
        self._run(self._tokens)

    def step(self) -> None:
        self._run(self._tokens[:, :1])

    def _run(self, tokens: Any) -> None:
        self.logits = torch.from_numpy(self._session.run({"tokens": tokens}, ["last_logits"])["last_logits"])


@torch.no_grad()
def main(argv: Sequence[str] | None = None) -> int:
    """0; 1 where contestants do not agree, or one fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), help="(default: all)")
    for name, default in (("threads", 2), ("prompt", 512), ("steps", 16), ("rounds", 5)):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"(default: {default})")
    parser.add_argument("--dtype", choices=TOLERANCE, default="float32", help="of all weights (default: float32)")
    parser.add_argument("--processor-time", action="store_true", help="for one thread on a busy machine")
    parser.add_argument("--quick", action="store_true", help="small models, short, two rounds: does it run")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the figures as JSON")
    args = parser.parse_args(argv)
    if args.quick:
        args.prompt, args.steps, args.rounds = 16, 2, 2
    torch.set_num_threads(args.threads)
    mambasdk.runtime.set_num_threads(args.threads)
    result: Row = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        **{name: getattr(args, name) for name in ("threads", "dtype", "processor_time", "prompt", "steps", "rounds")},
        "versions": _versions(),
        "rows": [],
    }
    kind = "processor time" if args.processor_time else "wall time"
    print(
        f"{result['machine']}, {args.threads} threads, {args.dtype}, {kind}, {args.prompt} tokens, {result['versions']}"
    )
    for kind in args.models:
        try:
            row = _measure(kind, QUICK if args.quick else FULL, args)
        except Exception as error:
            row = {"model": kind, "failed": f"{type(error).__name__}: {error}"[:500]}
        gc.collect()
        result["rows"].append(row | {"load": os.getloadavg()})  # what else the machine did
        _show(row)
        if args.out:
            args.out.write_text(json.dumps(result, indent=1) + "\n")
    return 1 if any("failed" in row for row in result["rows"]) else 0


def _versions() -> dict[str, str]:
    import transformers

    return {"mambasdk": mambasdk.__version__, "torch": torch.__version__, "transformers": transformers.__version__}


def _measure(kind: str, size: Size, args: argparse.Namespace) -> Row:
    """Milliseconds of each contestant for the prompt, and for a token after it."""
    theirs = transformers_model(kind, size)
    tokens = torch.randint(1, size.vocab_size, (1, args.prompt), generator=torch.Generator().manual_seed(1))
    with tempfile.TemporaryDirectory() as place:
        theirs.save_pretrained(Path(place) / "checkpoint")
        ours: Any = mambasdk.import_checkpoint("hybrid", Path(place) / "checkpoint").eval()
        contestants = {
            THEIRS: Transformers(theirs, tokens),
            NATIVE: Native(ours, tokens, Path(place) / "package", args.dtype),
            TORCH: Torch(ours.to(getattr(torch, args.dtype)), tokens),
        }
        theirs.to(getattr(torch, args.dtype))
        _check(contestants, TOLERANCE[args.dtype])
        clock = time.process_time if args.processor_time else time.perf_counter
        times = _alternate(contestants, args.rounds, args.steps, clock)
    row: Row = {"model": kind, "parameters": sum(parameter.numel() for parameter in ours.parameters())}
    for what in ("prefill", "decode"):
        loop = MODELS[kind][2] and what == "prefill"
        medians = {name: statistics.median(times[name][what]) for name in contestants}
        least = {name: min(times[name][what]) for name in contestants}
        row[what] = {
            "goal": GOAL_OF_LOOPS if loop else GOAL,
            "median_ms": medians,
            "least_ms": least,
            "speedup": {name: medians[THEIRS] / medians[name] for name in (TORCH, NATIVE)},
            "speedup_of_least": {name: least[THEIRS] / least[name] for name in (TORCH, NATIVE)},
        }
    return row


def _check(contestants: dict[str, Any], tolerance: float) -> None:
    """Logits after the prompt, and after one token more, are transformers'."""
    for what in ("prompt", "step"):
        for name, one in contestants.items():
            getattr(one, what)()
            expected = contestants[THEIRS].logits.float()
            error = float((one.logits.float() - expected).abs().max() / expected.abs().max())
            if not error < tolerance:
                raise ValueError(
                    f"{name} is not transformers' model: logits after the {what} differ by {error:.2g} of the largest"
                )


def _alternate(contestants: dict[str, Any], rounds: int, steps: int, clock: Clock) -> dict[str, dict[str, list[float]]]:
    """Milliseconds, contestants in turn in each round."""

    def timed(run: Callable[[], None]) -> float:
        start = clock()
        run()
        return 1e3 * (clock() - start)

    times: dict[str, dict[str, list[float]]] = {name: {"prefill": [], "decode": []} for name in contestants}
    for _ in range(rounds):
        for name, one in contestants.items():
            times[name]["prefill"].append(timed(one.prompt))
            one.step()  # the first may still plan
            times[name]["decode"] += [timed(one.step) for _ in range(steps)]
    return times


def _show(row: Row) -> None:
    if "failed" in row:
        print(f"\n{row['model']}: {row['failed']}", flush=True)
        return
    print(f"\n{row['model']}, {row['parameters'] / 1e6:.0f}M parameters")
    for what in ("prefill", "decode"):
        found = row[what]
        print(f"  {what:8} {THEIRS:16} {found['median_ms'][THEIRS]:9.1f} ms")
        for name, speedup in found["speedup"].items():
            least = found["speedup_of_least"][name]
            missed = f"; goal {found['goal']:g} missed" if name == NATIVE and speedup < found["goal"] else ""
            times = f"{speedup:6.2f} times ({least:.2f} of the least times){missed}"
            print(f"  {what:8} {name:16} {found['median_ms'][name]:9.1f} ms  {times}", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
