"""Train a motion predictor on made-up dancers, then track crossing ones with it: against a Kalman filter, on the CPU.

What it shows, and what has to hold, is in README.md, with the figures.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import mambasdk
from mambasdk.package import save_package
from mambasdk.training import Trainer, TrainingOptions
from mambasdk_tracking import Tracker, kalman_predict, kalman_update
from mambasdk_tracking.drawing import draw_tracks
from mambasdk_tracking.metrics import evaluate
from mambasdk_tracking.mot import (
    SequenceInfo,
    Table,
    make_table,
    table_of_tracks,
    write_ground_truth,
    write_info,
    write_results,
)
from mambasdk_tracking.training import MotionPrediction, predict, rollout
from mambasdk_tracking.windows import centre_error, make_windows, paired_iou

Floats = NDArray[np.float64]
IMAGE = (1920, 1080)
WINDOW = 10  # deltas that the predictor looks at
STEPS = 8  # frames of the blind rollout
SCENES, SCENE_FRAMES, DANCERS = 8, 200, 8
MISSED, OCCLUSION = 0.10, 6  # share of detections, frames
NAMES = {"model": "MTP", "kalman": "Kalman", "none": "no motion", "unpatched": "MTP, no patching"}


def dancers(chance: np.random.Generator, count: int, frames: int, centres: Floats | None = None) -> Floats:
    """Boxes (count, frames, 4), centre x, centre y, width, height: three sine waves per axis about a centre."""
    height = chance.uniform(100, 250, (count, 1))
    width = height * chance.uniform(0.35, 0.6, (count, 1))
    if centres is None:
        centres = chance.uniform((300, 250), (IMAGE[0] - 300, IMAGE[1] - 250), (count, 2))
    time_ = np.arange(frames)
    waves = []
    for low, high in ((0.1, 0.6), (0.03, 0.2)):  # of the height: x, y
        amplitude = chance.uniform(low, high, (count, 3, 1)) * height[..., None]
        frequency = chance.uniform(0.01, 0.07, (count, 3, 1))
        phase = chance.uniform(0, 2 * np.pi, (count, 3, 1))
        waves.append((amplitude * np.sin(2 * np.pi * frequency * time_ + phase)).sum(1))
    sides = []
    for side in (width, height):
        share = chance.uniform(0.12, 0.25, (count, 1))
        frequency = chance.uniform(0.01, 0.07, (count, 1))
        sides.append(side * (1 + share * np.sin(2 * np.pi * frequency * time_ + chance.uniform(0, 6, (count, 1)))))
    return np.stack([centres[:, :1] + waves[0], centres[:, 1:] + waves[1], *sides], -1)


def walkers(chance: np.random.Generator, count: int, frames: int) -> Floats:
    """Boxes (count, frames, 4) of constant size that move straight on, at up to 6 pixels a frame."""
    height = chance.uniform(100, 250, (count, 1))
    start = chance.uniform((300, 250), (IMAGE[0] - 300, IMAGE[1] - 250), (count, 2))
    speed = chance.uniform(-6, 6, (count, 2)) * (1.0, 0.3)
    path = start[:, None] + speed[:, None] * np.arange(frames)[:, None]  # (count, frames, 2)
    size = np.concatenate([height * chance.uniform(0.35, 0.6, (count, 1)), height], 1)
    return np.concatenate([path, np.broadcast_to(size[:, None], path.shape)], -1)


def noisy(chance: np.random.Generator, boxes: Floats) -> Floats:
    """The boxes with 1 % of noise, as a detector would see them."""
    scale = np.concatenate([boxes[..., 2:], boxes[..., 2:]], -1)
    return boxes + 0.01 * scale * chance.standard_normal(boxes.shape)


# ---- prediction ----


def kalman_forecasts(paths: Floats, steps: int = STEPS) -> Floats:
    """Blind predictions (N, frames, steps, 4): entry t has seen the boxes up to t - 1."""
    count, frames, _ = paths.shape
    made = np.empty((count, frames, steps, 4))
    measured = np.concatenate([paths[..., :2], paths[..., 2:3] / paths[..., 3:], paths[..., 3:]], -1)
    height = measured[:, 0, 3]
    std = np.stack([height / 10, height / 10, 0 * height + 1e-2, height / 10, height / 16, height / 16,
                    0 * height + 1e-5, height / 16], -1)  # fmt: skip
    mean = np.concatenate([measured[:, 0], np.zeros((count, 4))], -1)
    covariance = np.einsum("ni,ij->nij", std**2, np.eye(8))
    made[:, 0] = np.nan
    for t in range(1, frames):
        mean, covariance = kalman_predict(mean, covariance)
        ahead, spread = mean, covariance
        for k in range(steps):
            made[:, t, k] = np.stack([ahead[:, 0], ahead[:, 1], ahead[:, 2] * ahead[:, 3], ahead[:, 3]], -1)
            ahead = ahead.copy()
            ahead[:, 7] = 0  # an unseen box does not go on growing
            ahead, spread = kalman_predict(ahead, spread)
        mean, covariance = kalman_update(mean, covariance, measured[:, t])
    return made


def one_step(model: Any, paths: Floats) -> dict[str, dict[str, float]]:
    """Errors of the next box, for every moment that has a full window behind it."""
    windows = make_windows([(path, IMAGE) for path in paths], window=WINDOW, scale=model.scale)
    count = len(paths)
    before = paths[:, WINDOW - 1 : -2].reshape(-1, 4)
    predictions = {
        "Kalman": kalman_forecasts(paths, 1)[:, WINDOW + 1 :, 0].reshape(-1, 4),
        "last box": windows.last,
        "constant velocity": 2 * windows.last - before,
        "MTP": windows.boxes_from(predict(model, windows)),
    }
    assert len(windows) == count * (paths.shape[1] - WINDOW - 1)
    result = {}
    for name, boxes in predictions.items():
        iou = paired_iou(boxes, windows.next)
        error = centre_error(boxes, windows.next)
        result[name] = {
            "centre_error": float(error.mean()),
            "iou": float(iou.mean()),
            "iou_below_0.3": float((iou < 0.3).mean()),
        }
    return result


def blind(model: Any, paths: Floats) -> dict[str, list[float]]:
    """Mean IoU of 1 to STEPS frames without a detection."""
    starts = range(WINDOW + 1, paths.shape[1] - STEPS + 1, 3)
    true = np.concatenate([paths[:, t : t + STEPS] for t in starts])  # (M, STEPS, 4)
    history = np.concatenate([paths[:, t - WINDOW - 1 : t] for t in starts])  # (M, WINDOW + 1, 4)
    kalman = kalman_forecasts(paths)
    by_kalman = np.concatenate([kalman[:, t] for t in starts])
    by_model = rollout(model, history, IMAGE, STEPS)
    return {
        "MTP": paired_iou(by_model, true).mean(0).tolist(),
        "Kalman": paired_iou(by_kalman, true).mean(0).tolist(),
    }


# ---- tracking ----


def corners(boxes: Floats) -> Floats:
    """(…, 4) as x1, y1, x2, y2."""
    return np.concatenate([boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2], -1)


def make_scene(chance: np.random.Generator) -> tuple[Table, list[NDArray[np.float32]]]:
    """Dancers side by side who cross again and again: their ground truth, and a detector's boxes of each frame.

    Detections are missed at random, and every dancer is out of sight several times for six frames.
    """
    x = np.linspace(560, 1360, DANCERS) + chance.uniform(-30, 30, DANCERS)
    y = 540 + chance.uniform(-60, 60, DANCERS)
    boxes = dancers(chance, DANCERS, SCENE_FRAMES, np.stack([x, y], 1))
    seen = chance.random((DANCERS, SCENE_FRAMES)) >= MISSED
    for row in seen:
        for start in chance.choice(np.arange(15, SCENE_FRAMES - OCCLUSION), 4, replace=False):
            row[start : start + OCCLUSION] = False
    found = corners(noisy(chance, boxes))
    frames = [
        np.concatenate([found[seen[:, t], t], np.full((int(seen[:, t].sum()), 1), 0.9)], 1).astype(np.float32)
        for t in range(SCENE_FRAMES)
    ]
    left_top = np.concatenate([boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., 2:]], -1)
    truth = make_table(
        np.tile(np.arange(1, SCENE_FRAMES + 1), DANCERS), np.repeat(np.arange(1, DANCERS + 1), SCENE_FRAMES), left_top
    )
    return truth, frames


def track_scene(frames: list[NDArray[np.float32]], **options: Any) -> tuple[Table, float]:
    """Tracks of a scene, and the seconds that the tracker took."""
    tracker = Tracker(**options)
    start = time.perf_counter()
    tracks = [track for detections in frames for track in tracker.update(detections)]
    return table_of_tracks(tracks), time.perf_counter() - start


def save_scene(folder: Path, truth: Table, frames: list[NDArray[np.float32]], tracks: Table) -> None:
    """In MOTChallenge's layout, for `mambasdk track PACKAGE FOLDER`."""
    write_info(folder, SequenceInfo(folder.name, SCENE_FRAMES, IMAGE))
    write_ground_truth(folder / "gt" / "gt.txt", truth)
    number = np.repeat(np.arange(1, len(frames) + 1), [len(f) for f in frames])
    boxes = np.concatenate(frames).astype(np.float64)
    boxes[:, 2:4] -= boxes[:, :2]
    write_results(folder / "det" / "det.txt", make_table(number, -np.ones(len(number)), boxes[:, :4], boxes[:, 4]))
    write_results(folder / "tracks.txt", tracks)


# ---- the run ----


def train(args: argparse.Namespace) -> tuple[Any, float]:
    """A small predictor, and the seconds that it took."""
    chance = np.random.default_rng(args.seed)
    paths = noisy(chance, dancers(chance, 1500, 60))
    model: Any = mambasdk.create_model("mambatrack", d_model=32, n_layer=1, head_hidden=64)
    windows = [make_windows([(p, IMAGE) for p in part], window=WINDOW, scale=model.scale)
               for part in (paths[:1450], paths[1450:])]  # fmt: skip
    options = TrainingOptions(steps=args.steps, batch=64, lr=args.lr, weight_decay=0.0, beta2=0.999, seed=args.seed)
    trainer = Trainer(model, MotionPrediction(model, *windows, batch=64, seed=args.seed), options)
    result = trainer.run(progress=not args.quiet)
    return model.eval(), result.seconds


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Train, measure, track, draw; returns what report.json holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("synthetic-tracking"), help="folder for everything written")
    parser.add_argument("--steps", type=int, default=1000, help="training steps of 64 windows (default: 1000)")
    parser.add_argument("--lr", type=float, default=2e-3, help="peak learning rate (default: 0.002)")
    parser.add_argument("--seed", type=int, default=0, help="of data, weights and batches (default: 0)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)

    model, seconds = train(args)
    package = args.out / "package"
    save_package(model, package, head_options={"image_size": list(IMAGE)}, overwrite=True)
    print(f"trained {sum(p.numel() for p in model.parameters()):,} parameters in {seconds:.0f} s, saved to {package}\n")

    chance = np.random.default_rng((args.seed, 1))
    report: dict[str, Any] = {"training_seconds": seconds}
    report["one_step"] = one_step(model, noisy(chance, dancers(chance, 60, 80)))
    print(f"{'next box of dancers':<22}{'centre error / h':>18}{'mean IoU':>10}{'IoU < 0.3':>11}")
    for name, row in report["one_step"].items():
        print(f"{name:<22}{row['centre_error']:18.4f}{row['iou']:10.3f}{100 * row['iou_below_0.3']:10.1f}%")

    report["blind"] = blind(model, noisy(chance, dancers(chance, 60, 80)))
    print(f"\nIoU after k frames without detections, k = 1 to {STEPS}")
    for name, values in report["blind"].items():
        print(f"{name:<10}" + " ".join(f"{value:5.2f}" for value in values))

    report["linear"] = {k: v["iou"] for k, v in one_step(model, noisy(chance, walkers(chance, 60, 80))).items()}
    print("\nmean IoU on straight motion: " + ", ".join(f"{k} {v:.3f}" for k, v in report["linear"].items()))

    scenes = [make_scene(chance) for _ in range(SCENES)]
    methods: dict[str, dict[str, Any]] = {
        "model": {"motion": package, "image_size": IMAGE},
        "unpatched": {"motion": package, "image_size": IMAGE, "patching": False},
        "kalman": {"motion": "kalman"},
        "none": {"motion": "none"},
    }
    report["tracking"], tracked = {}, {}
    print(f"\n{'tracking':<18}{'HOTA':>7}{'AssA':>7}{'IDF1':>7}{'MOTA':>7}{'IDSW':>7}{'frames/s':>10}")
    for method, options in methods.items():
        runs = [track_scene(frames, **options) for _, frames in scenes]
        tracked[method] = [table for table, _ in runs]
        pairs = {f"scene-{i + 1}": (scenes[i][0], table) for i, (table, _) in enumerate(runs)}
        row = evaluate(pairs).total
        row["frames_per_second"] = SCENES * SCENE_FRAMES / sum(s for _, s in runs)
        report["tracking"][method] = row
        shares = "".join(f"{100 * row[name]:7.1f}" for name in ("HOTA", "AssA", "IDF1", "MOTA"))
        print(f"{NAMES[method]:<18}{shares}{row['IDSW']:7.0f}{row['frames_per_second']:10.0f}")

    save_scene(args.out / "scene-1", *scenes[0], tracked["model"][0])
    for method in ("model", "kalman"):
        title = f"{DANCERS} crossing dancers, 10 % of detections missed, 6-frame occlusions: {NAMES[method]}"
        draw_tracks(args.out / f"tracks-{method}.png", tracked[method][0], truth=scenes[0][0], title=title)
    draw_report(args.out / "report.png", report)
    report["pass"] = judge(report)
    (args.out / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    print()
    for claim, holds in report["pass"].items():
        print(f"{'yes' if holds else 'NO ':<4}{claim}")
    print(f"\npictures, package, scene and report.json: {args.out}/")
    return report


def judge(report: dict[str, Any]) -> dict[str, bool]:
    """The pass criteria of the specification."""
    error = {name: row["centre_error"] for name, row in report["one_step"].items()}
    tracking = report["tracking"]
    gain = {name: tracking["model"][name] - tracking["kalman"][name] for name in ("HOTA", "IDF1")}
    return {
        "centre error at most 1/3 of the Kalman filter's": error["MTP"] <= error["Kalman"] / 3,
        "centre error at most 0.6 of constant velocity's": error["MTP"] <= 0.6 * error["constant velocity"],
        "IoU after 4 blind frames at least twice the Kalman filter's": report["blind"]["MTP"][3]
        >= 2 * report["blind"]["Kalman"][3],
        "HOTA at least 5 points above the Kalman filter's": gain["HOTA"] >= 0.05,
        "IDF1 at least 3 points above the Kalman filter's": gain["IDF1"] >= 0.03,
        "tracklet patching raises IDF1": tracking["model"]["IDF1"] > tracking["unpatched"]["IDF1"],
        "on straight motion IoU at least 0.9 of the Kalman filter's": report["linear"]["MTP"]
        >= 0.9 * report["linear"]["Kalman"],
    }


def draw_report(path: Path, report: dict[str, Any]) -> None:
    """Errors, blind rollouts and tracking scores side by side."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    errors, rollouts, scores = figure.subplots(1, 3)
    colours = {"MTP": "#d94801", "Kalman": "#08519c", "constant velocity": "#6baed6", "last box": "#969696"}
    for index, (name, row) in enumerate(report["one_step"].items()):
        bar = errors.barh(index, row["centre_error"], color=colours[name])
        errors.bar_label(bar, fmt="%.3f", padding=3)
    errors.set_yticks(range(len(report["one_step"])), list(report["one_step"]))
    errors.set(title="next box", xlabel="centre error, heights of the box")
    errors.set_xlim(0, 1.2 * max(row["centre_error"] for row in report["one_step"].values()))
    for name, values in report["blind"].items():
        rollouts.plot(range(1, STEPS + 1), values, "o-", color=colours[name], label=name)
    rollouts.set(title="frames without detections", xlabel="frames", ylabel="mean IoU", ylim=(0, 1))
    rollouts.legend()
    rollouts.grid(alpha=0.25)
    names = ("HOTA", "AssA", "IDF1", "MOTA")
    shades = {"model": "#d94801", "unpatched": "#fdae6b", "kalman": "#08519c", "none": "#969696"}
    for index, (method, row) in enumerate(report["tracking"].items()):
        scores.bar(np.arange(4) + 0.2 * (index - 1.5), [100 * row[name] for name in names], 0.19,
                   color=shades[method], label=NAMES[method])  # fmt: skip
    scores.set_xticks(range(4), names)
    scores.set(title=f"{SCENES} scenes of {DANCERS} crossing dancers", ylabel="percent", ylim=(0, 130))
    scores.legend(ncols=2, loc="upper center", fontsize=8)
    figure.savefig(path)


if __name__ == "__main__":
    main()
