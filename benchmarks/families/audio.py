"""SSAMBA-tiny against SSAST-tiny over the length of a clip: time, peak memory, and how both grow.

The paper's comparison (arXiv 2405.11831) on a CPU: batch 1, float32, random weights and input, patches of 16 x 16, mean
of the tokens and a sigmoid; tokens = frames / 2. SSAST materialises its attention upstream ("naive"); "fused" is the
same model with torch's scaled_dot_product_attention. Times are medians, the models in turn; memory is the high-water
mark of the process above what it held before the first run (weights, input and libraries), each in a process of its
own. Rows of an earlier run of the same file are kept, so lengths can be measured one by one: --tokens 11008.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import math
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

import mambasdk

TOKENS = [1408, 2816, 5504, 11008, 22016]
QUICK = [256, 512, 1024]
CLASSES = 527  # of AudioSet
SSAMBA, NAIVE, FUSED = "SSAMBA", "SSAST, naive attention", "SSAST, fused attention"
MODELS = [SSAMBA, NAIVE, FUSED]
COLORS = {SSAMBA: "#d94801", NAIVE: "#08519c", FUSED: "#9ecae1"}
# Of the paper (arXiv 2405.11831).
GOALS = {"slope": 1.1, "naive_slope": 1.7, "time_ratio": 5.0, "memory_ratio": 10.0}
RESERVE = 3 << 30  # bytes that stay free
ONCE = 15000.0  # milliseconds; what takes longer is run once
ENOUGH = 6000.0  # milliseconds of runs of one model; five runs at most


class Attention(nn.Module):
    """Multi-head self-attention, its scores in memory or not."""

    def __init__(self, dim: int, heads: int, fused: bool) -> None:
        super().__init__()
        self.heads, self.fused = heads, fused
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (B, H, L, D/H) each
        if self.fused:
            y = functional.scaled_dot_product_attention(q, k, v)
        else:
            y = ((q @ k.transpose(-2, -1)) * q.shape[-1] ** -0.5).softmax(-1) @ v
        return self.proj(y.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """DeiT's: pre-norm attention and MLP."""

    def __init__(self, dim: int, heads: int, fused: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = Attention(dim, heads, fused)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Ssast(nn.Module):
    """SSAST-tiny: 12 layers of DeiT-tiny on the same patches, two class tokens."""

    def __init__(self, tokens: int, fused: bool, dim: int = 192, heads: int = 3, depth: int = 12) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, dim, 16, 16)
        self.cls = nn.Parameter(torch.zeros(1, 2, dim))
        self.positions = nn.Parameter(torch.randn(1, tokens + 2, dim) * 0.02)
        self.blocks = nn.Sequential(*(Block(dim, heads, fused) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patches(x.transpose(1, 2).unsqueeze(1)).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls.expand(len(x), -1, -1), patches], 1) + self.positions
        return self.head(self.norm(self.blocks(tokens))[:, 2:].mean(1))


def make(name: str, tokens: int) -> Callable[[], Tensor]:
    """A function that runs the model once on a clip of `tokens` patches."""
    torch.manual_seed(0)
    model: Any
    if name == SSAMBA:
        model = mambasdk.create_model("ssamba-tiny", input_tdim=2 * tokens, label_dim=CLASSES)
    else:
        model = Ssast(tokens, fused=name == FUSED)
    model.eval()
    x = torch.randn(1, 2 * tokens, 128)

    def run() -> Tensor:
        with torch.inference_mode():
            return torch.sigmoid(model(x))

    return run


def main(argv: Sequence[str] | None = None) -> int:
    """0; 1 where a pass criterion of the spec is missed."""
    args = parse(argv)
    torch.set_num_threads(args.threads)
    if args.memory_of:
        print(peak_memory(args.memory_of, args.tokens[0]))
        return 0
    keep_memory()
    old: dict[str, Any] = json.loads(args.json.read_text()) if args.json and args.json.is_file() else {}
    rows = {int(row["tokens"]): row for row in old.get("rows", [])}
    print(f"{machine()}, {args.threads} threads, torch {torch.__version__}")
    for tokens in args.tokens:
        rows[tokens] = measure(tokens, args.threads, args.without)
        show(rows[tokens])
    ordered = [rows[tokens] for tokens in sorted(rows)]
    result = {"machine": machine(), "threads": args.threads, "torch": torch.__version__, "rows": ordered}
    result |= summary(ordered)
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")
    if args.plot:
        plot(args.plot, result)
    return conclude(result, ordered)


def measure(tokens: int, threads: int, without: Sequence[str]) -> dict[str, Any]:
    """Median milliseconds and peak megabytes of every model that there is room for."""
    row: dict[str, Any] = {"tokens": tokens, "milliseconds": {}, "megabytes": {}, "runs": {}, "left_out": {}}
    times: dict[str, list[float]] = {}
    for name in MODELS:
        if name in without:
            row["left_out"][name] = "by --without"
            continue
        if name == NAIVE and (needed := 2 * 3 * 4 * (tokens + 2) ** 2) + RESERVE > available():
            row["left_out"][name] = f"needs {needed / 1e9:.1f} GB, {available() / 1e9:.1f} GB are free"
            continue
        row["megabytes"][name] = in_process(name, tokens, threads)
        times[name] = []
    runs = {name: make(name, tokens) for name in times}
    for name, run in runs.items():
        start = time.perf_counter()
        run()  # warms up, unless it takes so long that a second run would tell nothing more
        if (milliseconds := (time.perf_counter() - start) * 1e3) > ONCE:
            times[name].append(milliseconds)
    for _ in range(5):
        for name, run in runs.items():
            if sum(times[name]) < ENOUGH:
                start = time.perf_counter()
                run()
                times[name].append((time.perf_counter() - start) * 1e3)
    for name, found in times.items():
        row["milliseconds"][name] = statistics.median(found)
        row["runs"][name] = len(found)
    for name in (NAIVE, FUSED):
        if name in times and SSAMBA in times:
            row[f"time_ratio, {name}"] = row["milliseconds"][name] / row["milliseconds"][SSAMBA]
            row[f"memory_ratio, {name}"] = row["megabytes"][name] / row["megabytes"][SSAMBA]
    return row


def keep_memory() -> None:
    """Let the C library keep what tensors free.

    Otherwise it gives those of 32 MB and more back to the system at once, and the page faults of the next ones slow
    every model where its tensors pass that size.
    """
    libc = ctypes.CDLL(None)
    libc.mallopt(-4, 0)  # M_MMAP_MAX
    libc.mallopt(-1, (1 << 31) - 1)  # M_TRIM_THRESHOLD


def in_process(name: str, tokens: int, threads: int) -> float:
    """`peak_memory` in a fresh process."""
    command = [sys.executable, __file__, "--memory-of", name, "--tokens", str(tokens), "--threads", str(threads)]
    return float(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


def peak_memory(name: str, tokens: int) -> float:
    """Megabytes of the first run at its worst above what the process held: weights, input, libraries."""
    make(name, 64)()  # threads and libraries take their share first
    run = make(name, tokens)
    ctypes.CDLL(None).malloc_trim(0)
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
    run()
    return (status("VmHWM") - before) / 1e6


def status(field: str) -> int:
    """Bytes, of /proc/self/status."""
    return int(Path("/proc/self/status").read_text().split(f"{field}:")[1].split()[0]) << 10


def available() -> int:
    """Bytes of memory that are free."""
    return int(Path("/proc/meminfo").read_text().split("MemAvailable:")[1].split()[0]) << 10


def slope(rows: Sequence[dict[str, Any]], kind: str, name: str) -> float | None:
    """The exponent: least squares of log(value) over log(tokens)."""
    points = [(math.log(row["tokens"]), math.log(row[kind][name])) for row in rows if name in row[kind]]
    return float(np.polyfit(*zip(*points, strict=True), 1)[0]) if len(points) > 1 else None


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Slopes over all lengths, and of attention from 5504 tokens on, where its square is seen."""
    long = [row for row in rows if row["tokens"] >= 5504]
    kinds = ("milliseconds", "megabytes")
    return {
        "slopes": {name: {kind: slope(rows, kind, name) for kind in kinds} for name in MODELS},
        "slopes_from_5504": {name: {kind: slope(long, kind, name) for kind in kinds} for name in MODELS},
    }


def conclude(result: dict[str, Any], rows: Sequence[dict[str, Any]]) -> int:
    """Print slopes and the spec's criteria that these lengths can tell."""
    for name, found in result["slopes"].items():
        text = ", ".join(f"{kind} {value:.2f}" for kind, value in found.items() if value is not None)
        print(f"slope of {name}: {text}")
    checks: list[tuple[str, float, bool]] = []
    for kind, value in result["slopes"][SSAMBA].items():
        if value is not None:
            checks.append((f"slope of {SSAMBA}, {kind}, at most {GOALS['slope']}", value, value <= GOALS["slope"]))
    value = result["slopes_from_5504"][NAIVE]["milliseconds"]
    if value is not None:
        text = f"slope of {NAIVE} from 5504, at least {GOALS['naive_slope']}"
        checks.append((text, value, value >= GOALS["naive_slope"]))
    last = rows[-1]
    for goal in ("time_ratio", "memory_ratio"):
        if last["tokens"] == TOKENS[-1] and (found := last.get(f"{goal}, {NAIVE}")) is not None:
            text = f"{goal.replace('_', ' ')} to {NAIVE} at {last['tokens']}, at least {GOALS[goal]:g}"
            checks.append((text, found, found >= GOALS[goal]))
    for text, value, passed in checks:
        print(f"{'pass' if passed else 'MISSED'}: {text}: {value:.2f}")
    return 0 if all(passed for _, _, passed in checks) else 1


def show(row: dict[str, Any]) -> None:
    """The row as text."""
    print(f"{row['tokens']} tokens, {row['tokens'] / 50:.0f} s of audio")
    for name in row["milliseconds"]:
        ratio = row.get(f"time_ratio, {name}")
        memory = row.get(f"memory_ratio, {name}")
        tail = f"   {ratio:.2f}x time, {memory:.1f}x memory" if ratio is not None and memory is not None else ""
        print(f"  {name:24} {row['milliseconds'][name]:9.0f} ms  {row['megabytes'][name]:8.0f} MB{tail}")
    for name, reason in row["left_out"].items():
        print(f"  {name:24} left out: {reason}")


def plot(path: Path, result: dict[str, Any]) -> None:
    """Time and memory over the length, both axes logarithmic."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (kind, label, scale) in zip(
        figure.subplots(1, 2),
        (("milliseconds", "time of one clip (s)", 1e-3), ("megabytes", "peak memory above weights and input (MB)", 1)),
        strict=True,
    ):
        for name in MODELS:
            points = [(row["tokens"], row[kind][name] * scale) for row in result["rows"] if name in row[kind]]
            exponent = result["slopes"][name][kind]
            text = name if exponent is None else f"{name} (slope {exponent:.2f})"
            axes.loglog(*zip(*points, strict=True), "o-", color=COLORS[name], label=text)
        ticks = [row["tokens"] for row in result["rows"]]
        axes.set_xticks(ticks, [f"{tokens / 1000:.1f}k" for tokens in ticks])
        axes.minorticks_off()
        axes.set_xlabel("tokens (50 are a second of audio)")
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=9)
    figure.suptitle(f"tiny models, batch 1, float32, {result['threads']} threads, {result['machine']}", fontsize=10)
    figure.savefig(path)


def machine() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="where the figures go; rows that are there already are kept")
    parser.add_argument("--plot", type=Path, help="where the picture goes")
    parser.add_argument("--quick", action="store_true", help=f"only {', '.join(map(str, QUICK))} tokens")
    parser.add_argument("--tokens", type=int, nargs="+", help=f"(default: {' '.join(map(str, TOKENS))})")
    parser.add_argument("--without", choices=MODELS, nargs="+", default=[], help="models to leave out")
    parser.add_argument("--threads", type=int, default=2, help="(default: 2)")
    parser.add_argument("--memory-of", choices=MODELS, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    args.tokens = args.tokens or (QUICK if args.quick else TOKENS)
    if any(tokens < 8 or tokens % 8 for tokens in args.tokens):
        parser.error("--tokens: multiples of 8, the patches of one column")
    return args


if __name__ == "__main__":
    sys.exit(main())
