"""Whole networks beside the ones that their papers compare them with: time, growth with the image, memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from timing import Call, medians

import mambasdk

VANILLA, SECOND = "vmamba-tiny-vanilla", "vmamba-tiny-s1l8"
MULTISCALE, MULTISCALE_3 = "msvmamba-tiny", "msvmamba-v3-tiny"
MEMORY_GOALS = {MULTISCALE: 0.7, MULTISCALE_3: 0.4}  # of vanilla's (arXiv 2405.14174)
Memory = Callable[[str, Any], list[dict[str, float]]]


def calls(batch: int) -> dict[str, Call]:
    """Classifiers at 224 x 224."""
    torch.manual_seed(0)
    image = torch.randn(batch, 3, 224, 224)
    models: dict[str, Any] = {
        name: mambasdk.create_model(name).eval() for name in (VANILLA, SECOND, MULTISCALE, MULTISCALE_3)
    }
    return {name: lambda model=model: model(image) for name, model in models.items()}


def training_calls(batch: int) -> dict[str, Call]:
    """A forward pass that keeps what its derivative needs, and the way back."""
    torch.manual_seed(0)
    image = torch.randn(batch, 3, 224, 224)

    def step(model: Any) -> None:
        model.zero_grad(set_to_none=True)
        with torch.enable_grad():
            model(image).sum().backward()

    models = {name: mambasdk.create_model(name) for name in (VANILLA, MULTISCALE, MULTISCALE_3)}
    return {name: lambda model=model: step(model) for name, model in models.items()}


def measure(quick: bool, memory: Memory) -> dict[str, Any]:
    """Vanilla VMamba-T over its successors, s1l8 and PlainMamba-L1 over larger images."""
    batch, repeats = (1, 1) if quick else (8, 3)
    seconds = medians(calls(batch), repeats)
    for name, value in seconds.items():
        print(f"{name:24s} {1000 * value:8.1f} ms")
    ratios = {name: seconds[VANILLA] / seconds[name] for name in (SECOND, MULTISCALE, MULTISCALE_3)}
    goals = {SECOND: 2.6, MULTISCALE: 1.8}  # published (arXiv 2401.10166, 2405.14174), on a GPU
    for name, ratio in ratios.items():
        goal = f" (goal {goals[name]})" if name in goals else ""
        print(f"{VANILLA} over {name}: {ratio:.2f}{goal}")
    used = memory("networks", [1 if quick else 4])[0]
    shares = {name: used[name] / used[VANILLA] for name in MEMORY_GOALS}
    for name, share in shares.items():
        print(f"memory of a step, {name} of {VANILLA}: {share:.2f} (goal at most {MEMORY_GOALS[name]})")
    return {
        "batch": batch,
        "seconds": seconds,
        "vanilla_over": ratios,
        "MiB": used,
        "memory_share": shares,
        "growth": _growth(quick),
    }


def _growth(quick: bool) -> dict[str, Any]:
    """Time at a larger size over time at a smaller one, beside the ratio of their pixels."""
    found: dict[str, Any] = {}
    for name, small, large in ((SECOND, 224, 448), ("plainmamba-l1", 224, 448 if quick else 1024)):
        timed: dict[str, Call] = {}
        for size in (small, large):
            model: Any = mambasdk.create_model(name).eval()
            image = torch.randn(1, 3, size, size)
            timed[str(size)] = lambda model=model, image=image: model(image)
        seconds = medians(timed, 1 if quick else 5)
        ratio, pixels = seconds[str(large)] / seconds[str(small)], (large / small) ** 2
        found[name] = {"seconds": seconds, "ratio": ratio, "pixels": pixels}
        print(f"{name}, {large} over {small}: {ratio:.2f}, pixels {pixels:.2f}")
    return found
