"""MambaTrack's motion predictor (MTP) against the Kalman filter, microseconds a track; frames a second of trackers.

All methods of a row are measured in turn, in one run; medians are reported. Engines are compared with each other before
anything is measured, and a wrong one ends the run. Limits: the predictor's dense layers at the speed of one large
matrix product of torch, and its weights at the speed of one copy of them.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import mambasdk
from mambasdk import runtime
from mambasdk.package import save_package
from mambasdk_tracking import Tracker, kalman_predict, kalman_update

IMAGE = (1920, 1080)
WINDOW, OBJECTS = 10, 20
BATCHES = (1, 5, 20, 100, 500)
# The paper's size, and that of examples/tracking_synthetic.
MODELS = {"MTP 512x3": {}, "MTP 32x1": {"d_model": 32, "n_layer": 1}}
Run = Callable[[], Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE", help="write the figures")
    parser.add_argument("--plot", metavar="PNG", help="draw them")
    parser.add_argument("--threads", type=int, default=2, help="(default: 2)")
    parser.add_argument("--seconds", type=float, default=1.0, help="for each method of a row (default: 1)")
    parser.add_argument("--quick", action="store_true", help="few batches, short")
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    runtime.set_num_threads(args.threads)
    batches, seconds = ((1, 20), 0.2) if args.quick else (BATCHES, args.seconds)
    machine = f"{_processor()}, {args.threads} threads, torch {torch.__version__}"
    print(machine + "\n")
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        models = {name: mambasdk.create_model("mambatrack", **sizes).eval() for name, sizes in MODELS.items()}
        packages = {}
        for name, model in models.items():
            packages[name] = Path(folder) / name.replace(" ", "-")
            save_package(model, packages[name], golden=False)
        predictors = _predictors(models, packages, batches, seconds)
        trackers = _trackers(packages, 40 if args.quick else 150)
    result = {"machine": machine, "predictors": predictors, "trackers": trackers}
    if args.json:
        Path(args.json).write_text(json.dumps(result, indent=1) + "\n")
    if args.plot:
        _plot(Path(args.plot), result)


def _predictors(models: Any, packages: Any, batches: tuple[int, ...], seconds: float) -> list[dict[str, Any]]:
    sessions = {name: runtime.load_package(package).session() for name, package in packages.items()}
    gemm, copy = _limits()
    rows = []
    print(f"{'microseconds a track':<34}" + "".join(f"{f'batch {n}':>12}" for n in batches))
    for batch in batches:
        deltas = 0.3 * torch.randn(batch, WINDOW, 4)
        methods: dict[str, Run] = {"Kalman, native": _kalman(batch), "Kalman, NumPy, one by one": _numpy_kalman(batch)}
        for name, model in models.items():
            methods |= _engines(name, model, sessions[name], deltas)
        measured = {name: 1e6 * t / batch for name, t in _alternate(methods, seconds).items()}
        limits = {}
        for name, model in models.items():
            flops, weights = _work(model, batch)
            limits[name] = 1e6 * max(flops / gemm, weights / copy) / batch
        rows.append({"batch": batch, "microseconds": measured, "limits": limits})
    for name in rows[0]["microseconds"]:
        cells = [row["microseconds"].get(name) for row in rows]
        print(f"{name:<34}" + "".join(f"{'' if cell is None else f'{cell:.1f}':>12}" for cell in cells))
    for name in models:
        print(f"{'limit of ' + name:<34}" + "".join(f"{row['limits'][name]:12.1f}" for row in rows))
    for name in models:
        ratios = [row["microseconds"][f"{name}, native"] / row["microseconds"]["Kalman, native"] for row in rows]
        print(f"{name + ' / Kalman, native':<34}" + "".join(f"{ratio:11.0f}x" for ratio in ratios))
    return rows


def _engines(name: str, model: Any, session: Any, deltas: torch.Tensor) -> dict[str, Run]:
    """One frame of a predictor by each way to run it."""

    def native() -> Any:
        return session.run({"deltas": deltas.numpy()}, ["delta"])["delta"]

    error = float((torch.from_numpy(np.asarray(native())) - model(deltas)).abs().max())
    if not error < 1e-4:
        raise SystemExit(f"{name}, {len(deltas)} tracks: the native engine is off by {error:.2g}; nothing is measured")
    methods: dict[str, Run] = {f"{name}, native": native, f"{name}, PyTorch": lambda: model(deltas)}
    if len(deltas) <= 20:
        methods[f"{name}, PyTorch, one by one"] = lambda: [model(track[None]) for track in deltas]
    return methods


def _alternate(methods: dict[str, Run], seconds: float) -> dict[str, float]:
    """Median seconds of each method, all of them in turn until each had its time."""
    samples: dict[str, list[float]] = {name: [] for name in methods}
    for run in methods.values():
        run()
    while any(sum(times) < seconds and len(times) < 2000 for times in samples.values()):
        for name, run in methods.items():
            if len(samples[name]) >= 3 and sum(samples[name]) >= seconds:
                continue
            start = time.perf_counter()
            run()
            samples[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in samples.items()}


def _work(model: Any, batch: int) -> tuple[float, float]:
    """(operations of the dense layers, bytes of all weights) of one call."""
    tokens = batch * WINDOW
    flops = 0.0
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2 and not name.endswith("A_log"):
            flops += 2.0 * parameter.numel() * (batch if name.startswith("pred_head") else tokens)
    return flops, 4.0 * sum(parameter.numel() for parameter in model.parameters())


def _limits() -> tuple[float, float]:
    """(operations a second of a large matrix product, bytes a second of reading), the best of some."""
    a, b = torch.randn(1024, 2048), torch.randn(2048, 1024)
    large = torch.randn(32 << 20)
    target = torch.empty_like(large)
    times = _alternate({"gemm": lambda: a @ b, "copy": lambda: target.copy_(large)}, 0.5)
    return 2.0 * 1024 * 2048 * 1024 / times["gemm"], 2.0 * 4 * large.numel() / times["copy"]


def _kalman(batch: int) -> Run:
    """One frame of the filter of all tracks, predict and update, through the native operations."""
    mean, covariance, box = _states(batch)
    return lambda: kalman_update(*kalman_predict(mean, covariance), box)


def _numpy_kalman(batch: int) -> Run:
    """The same in NumPy, a track at a time, as the published trackers do."""
    mean, covariance, box = _states(batch)
    motion, observe = np.eye(8), np.eye(4, 8)
    motion[:4, 4:] = np.eye(4)

    def one(m: Any, p: Any, z: Any) -> Any:
        h = m[3]
        q = np.diag(np.square([h / 20, h / 20, 1e-2, h / 20, h / 160, h / 160, 1e-5, h / 160]))
        m, p = motion @ m, motion @ p @ motion.T + q
        r = np.diag(np.square([m[3] / 20, m[3] / 20, 1e-1, m[3] / 20]))
        s = observe @ p @ observe.T + r
        gain = np.linalg.solve(s, observe @ p).T
        return m + gain @ (z - observe @ m), p - gain @ s @ gain.T

    ours = kalman_update(*kalman_predict(mean, covariance), box)[0]
    theirs = np.stack([one(*state)[0] for state in zip(mean, covariance, box, strict=True)])
    if not np.allclose(ours, theirs, rtol=1e-9):
        raise SystemExit("the native Kalman filter differs from NumPy's; nothing is measured")
    return lambda: [one(*state) for state in zip(mean, covariance, box, strict=True)]


def _states(batch: int) -> tuple[Any, Any, Any]:
    chance = np.random.default_rng(0)
    box = np.concatenate([chance.uniform(200, 900, (batch, 2)), chance.uniform(0.4, 0.6, (batch, 1)),
                          chance.uniform(100, 250, (batch, 1))], 1)  # fmt: skip
    mean = np.concatenate([box, np.zeros((batch, 4))], 1)
    return mean, np.tile(np.diag([100.0, 100, 1e-4, 100, 100, 100, 1e-10, 100]), (batch, 1, 1)), box + 1


def _trackers(packages: Any, frames: int) -> dict[str, float]:
    """Frames a second of `Tracker.update` with 20 objects, nothing but the tracker."""
    chance = np.random.default_rng(0)
    x, y = np.meshgrid(200 + 320 * np.arange(5), 150 + 240 * np.arange(4))
    start = np.stack([x.ravel(), y.ravel()], 1).astype(np.float64)
    size = chance.uniform((60, 150), (90, 200), (OBJECTS, 2))
    video = []
    for t in range(frames + 15):
        middle = start + 40 * np.sin(0.1 * t + np.arange(OBJECTS))[:, None]
        rows = np.concatenate([middle - size / 2, middle + size / 2, np.full((OBJECTS, 1), 0.9)], 1)
        video.append(rows.astype(np.float32))
    trackers = {
        "no motion": Tracker("none"),
        "Kalman": Tracker("kalman"),
        **{name: Tracker(package, image_size=IMAGE) for name, package in packages.items()},
    }
    samples: dict[str, list[float]] = {name: [] for name in trackers}
    for t, detections in enumerate(video):
        for name, tracker in trackers.items():
            before = time.perf_counter()
            found = tracker.update(detections)
            elapsed = time.perf_counter() - before
            if len({track["id"] for track in found}) != OBJECTS or max(track["id"] for track in found) != OBJECTS:
                raise SystemExit(f"tracker with {name}: an identity was lost in frame {t + 1}; nothing is measured")
            if t >= 15:  # until then histories are short
                samples[name].append(elapsed)
    result = {name: 1 / statistics.median(times) for name, times in samples.items()}
    print(f"\ntracker alone, {OBJECTS} objects, frames/s")
    for name, rate in result.items():
        print(f"{name:<34}{rate:12.0f}")
    return result


def _plot(path: Path, result: Any) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4.8), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=[1.7, 1])
    rows = result["predictors"]
    colours = {"MTP 512x3": "#a63603", "MTP 32x1": "#fd8d3c", "Kalman": "#08519c"}
    for name in rows[0]["microseconds"]:
        points = [(row["batch"], row["microseconds"][name]) for row in rows if name in row["microseconds"]]
        style = ":" if "one by one" in name else "--" if "PyTorch" in name else "-"
        left.plot(*zip(*points, strict=True), style, marker="o", markersize=4, label=name,
                  color=colours[name.split(",")[0]])  # fmt: skip
    for name in result["predictors"][0]["limits"]:
        left.plot([row["batch"] for row in rows], [row["limits"][name] for row in rows], color=colours[name], alpha=0.3,
                  linewidth=6, label=f"limit of {name}")  # fmt: skip
    left.set(xscale="log", yscale="log", xlabel="tracks in a frame", ylabel="microseconds a track", title="one frame")
    left.grid(alpha=0.25, which="both")
    left.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    names = list(result["trackers"])
    bars = right.barh(names, list(result["trackers"].values()), color=["#969696", "#08519c", "#a63603", "#fd8d3c"])
    right.bar_label(bars, fmt="%.0f", padding=3)
    right.set(xscale="log", xlabel="frames a second", title=f"tracker alone, {OBJECTS} objects")
    right.set_xlim(1, 10 * max(result["trackers"].values()))
    right.invert_yaxis()
    figure.suptitle(result["machine"], fontsize=9)
    figure.savefig(path)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
