"""Flat encoders beside DeiT-tiny over the size of the image: time, memory, and how both grow."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from peers.deit import DeiT
from timing import Call, medians

import mambasdk

SIZES = (224, 512, 768, 1024, 1248)
GOALS = {"naive": 4.0, "fused": 2.0}  # of Vim (arXiv 2401.09417)
OURS = {"vim": "vim-tiny", "plainmamba": "plainmamba-l1"}
Memory = Callable[[str, Any], list[dict[str, float]]]


def encoders(size: int) -> dict[str, Call]:
    """Backbones without their last layer, on one image."""
    torch.manual_seed(0)
    image = torch.randn(1, 3, size, size)
    models: dict[str, Any] = {
        name: mambasdk.create_model(variant, img_size=size).eval().features for name, variant in OURS.items()
    }
    models |= {name: DeiT(size, fused=name == "fused").eval() for name in GOALS}
    return {name: lambda model=model: model(image) for name, model in models.items()}


def measure(sizes: Sequence[int], known: Sequence[dict[str, Any]], quick: bool, memory: Memory) -> dict[str, Any]:
    """Time and memory at each size, beside the rows that are known of other sizes, and the ratios of all."""
    rows: dict[int, dict[str, Any]] = {row["size"]: row for row in known}
    for size in sizes:
        seconds = medians(encoders(size), 3 if size > 1024 or quick else 5)
        rows[size] = {"size": size, "tokens": (size // 16) ** 2 + 1, "seconds": seconds}
        print(f"{size:5d}  " + "  ".join(f"{name} {1000 * s:8.1f} ms" for name, s in seconds.items()), flush=True)
    for size, found in zip(sizes, memory("tokens", sizes), strict=True):
        rows[size]["MiB"] = found
        print(f"{size:5d}  " + "  ".join(f"{name} {value:8.1f} MiB" for name, value in found.items()))
    ordered = [rows[size] for size in sorted(rows)]
    return _summary(ordered) if len(ordered) > 1 else {"rows": ordered}


def _summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Ratios at the largest size, and the slope of log time over log tokens from the one before."""
    first, last = rows[-2], rows[-1]
    growth = math.log(last["tokens"] / first["tokens"])
    slopes = {name: math.log(last["seconds"][name] / first["seconds"][name]) / growth for name in last["seconds"]}
    print("slope of time over tokens: " + ", ".join(f"{name} {slope:.2f}" for name, slope in slopes.items()))
    ratios: dict[str, dict[str, float]] = {}
    saved: dict[str, dict[str, float]] = {}
    for ours in OURS:
        ratios[ours] = {name: last["seconds"][name] / last["seconds"][ours] for name in GOALS}
        saved[ours] = {name: 1 - last["MiB"][ours] / last["MiB"][name] for name in GOALS}
        for name, goal in GOALS.items():
            wanted = f" (goal {goal})" if ours == "vim" else ""
            print(
                f"{last['size']}: {ours} {ratios[ours][name]:.2f} x as fast as DeiT-tiny {name}{wanted}, "
                f"{saved[ours][name]:.1%} less memory"
            )
    return {"rows": rows, "slopes": slopes, "ratios": ratios, "memory_saved": saved, "goals": GOALS}


def plot(results: dict[str, Any], path: str) -> None:
    """Time and memory over the number of tokens."""
    from matplotlib.figure import Figure

    rows = results["tokens"]["rows"]
    names = {
        "vim": "Vim-tiny",
        "plainmamba": "PlainMamba-L1",
        "naive": "DeiT-tiny, naive attention",
        "fused": "DeiT-tiny, fused attention",
    }
    colours = {"vim": "#08519c", "plainmamba": "#6baed6", "naive": "#d94801", "fused": "#fd8d3c"}
    figure = Figure(figsize=(10, 4.4), dpi=120, layout="constrained")
    for axes, key, label in zip(
        figure.subplots(1, 2), ("seconds", "MiB"), ("seconds per image", "peak memory, MiB"), strict=True
    ):
        for name, title in names.items():
            values = [row[key][name] for row in rows]
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
