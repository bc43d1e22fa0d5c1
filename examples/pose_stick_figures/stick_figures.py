"""Train a pose model on drawn stick figures, test it on others, draw what it finds.

    python examples/pose_stick_figures/stick_figures.py --out figures

Needs mambasdk-vision[train] and Pillow. Minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from mambasdk.command_line import main as mambasdk
from mambasdk_vision.pose.keypoints import COCO

GOAL = 0.95  # PCK@0.1 of figures that were not trained on
SIZE = (120, 200)  # height and width of a picture
MODEL = ["--backbone", "hrvmamba-mini", "--size", "64", "48"]
TRAINING = ["--batch", "32", "--lr", "2e-3", "--rotation", "15", "--scale", "0.15", "--evaluate-every", "100"]


def figure(chance: np.random.Generator, height: float, x: float, y: float) -> dict[str, tuple[float, float]]:
    """Keypoints of a figure that faces us (its left is on our right), `height` pixels high, with its head at (x, y)."""
    unit = height / 8
    lean = chance.uniform(-0.15, 0.15)
    points: dict[str, tuple[float, float]] = {"nose": (x, y)}

    def put(name: str, start: str, angle: float, length: float) -> None:
        """angle: from straight down, radians, positive to our right."""
        a, b = points[start]
        points[name] = (a + unit * length * math.sin(angle), b + unit * length * math.cos(angle))

    for side, sign in (("left", 1), ("right", -1)):
        points[f"{side}_eye"] = (x + sign * 0.3 * unit, y - 0.25 * unit)
        points[f"{side}_ear"] = (x + sign * 0.65 * unit, y - 0.1 * unit)
        points[f"{side}_shoulder"] = (x + sign * 0.9 * unit, y + 1.3 * unit)
        put(f"{side}_elbow", f"{side}_shoulder", sign * chance.uniform(0.1, 2.4), 1.3)
        put(f"{side}_wrist", f"{side}_elbow", sign * chance.uniform(0.0, 2.8), 1.2)
        points[f"{side}_hip"] = (x + sign * 0.6 * unit + lean * 2.4 * unit, y + 3.7 * unit)
        put(f"{side}_knee", f"{side}_hip", sign * chance.uniform(0.0, 0.9), 1.7)
        put(f"{side}_ankle", f"{side}_knee", sign * chance.uniform(-0.5, 0.4), 1.6)
    return points


def draw(canvas: ImageDraw.ImageDraw, points: dict[str, tuple[float, float]], height: float, ink: int) -> None:
    """Lines between the joints, a round head with eyes and ears."""
    unit = height / 8
    width = max(round(0.25 * unit), 1)
    for a, b in COCO.skeleton:
        first, second = COCO.names[a], COCO.names[b]
        if not {first.split("_")[-1], second.split("_")[-1]} & {"nose", "eye", "ear"}:
            canvas.line([points[first], points[second]], fill=(ink, ink, ink), width=width)
    middle = tuple((a + b) / 2 for a, b in zip(points["left_shoulder"], points["right_shoulder"], strict=True))
    canvas.line([points["nose"], middle], fill=(ink, ink, ink), width=width)

    def disc(name: str, radius: float, colour: int) -> None:
        x, y = points[name]
        canvas.ellipse([x - radius, y - radius, x + radius, y + radius], fill=(colour, colour, colour))

    for name, radius, colour in (
        ("left_ear", 0.25, ink),
        ("right_ear", 0.25, ink),
        ("nose", 0.65, ink),
        ("left_eye", 0.15, 255),
        ("right_eye", 0.15, 255),
    ):
        disc(name, radius * unit, colour)


def write_pictures(folder: Path, count: int, seed: int) -> Path:
    """`count` pictures of one or two figures and their COCO keypoint file, which is returned."""
    chance = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in range(count):
        tint = chance.integers(150, 256, 3)
        picture = Image.new("RGB", SIZE[::-1], tuple(int(v) for v in tint))
        canvas = ImageDraw.Draw(picture)
        places = [0.5] if chance.random() < 0.5 else [0.25, 0.75]
        for place in places:
            height = chance.uniform(60, 90)
            x = SIZE[1] * place + chance.uniform(-8, 8)
            points = figure(chance, height, x, chance.uniform(12, 24) + 0.05 * height)
            draw(canvas, points, height, int(chance.integers(0, 80)))
            row = np.array([points[name] for name in COCO.names])
            inside = (row >= 0).all(1) & (row < SIZE[::-1]).all(1)
            low, high = row[inside].min(0) - 3, row[inside].max(0) + 3
            low, high = np.maximum(low, 0), np.minimum(high, SIZE[::-1])
            values = np.concatenate([row, 2 * inside[:, None]], 1)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": index,
                    "category_id": 1,
                    "keypoints": values.round(3).ravel().tolist(),
                    "bbox": [*low.tolist(), *(high - low).tolist()],
                    "area": float(np.prod(high - low)),
                }
            )
        name = f"{index:04}.png"
        picture.save(folder / name)
        images.append({"id": index, "file_name": name, "height": SIZE[0], "width": SIZE[1]})
    category = {"id": 1, "name": "person", "keypoints": list(COCO.names)}
    category["skeleton"] = [[a + 1, b + 1] for a, b in COCO.skeleton]
    file = folder / "person_keypoints.json"
    file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": [category]}))
    return file


def run(*arguments: str) -> None:
    """A command of the SDK; ends the script where it fails."""
    if code := mambasdk(list(arguments)):
        raise SystemExit(code)


def main() -> None:
    """Draw, train, test, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out", type=Path, default=Path("figures"), help="folder for all that is made (default: figures)"
    )
    parser.add_argument("--steps", type=int, default=400, help="training steps (default: 400)")
    parser.add_argument("--pictures", type=int, default=400, help="to train on; a quarter more to test (default: 400)")
    parser.add_argument("--seed", type=int, default=0, help="of figures, initialisation and data order (default: 0)")
    parser.add_argument("--threads", type=int, default=2, help="(default: 2)")
    args = parser.parse_args()
    start = time.perf_counter()
    train, test = args.out / "train", args.out / "test"
    train_file = write_pictures(train, args.pictures, 2 * args.seed)
    test_file = write_pictures(test, max(args.pictures // 4, 2), 2 * args.seed + 1)
    package = args.out / "package"
    run(
        *("train", "heatmap_pose", "--data", str(train), "--annotations", str(train_file), "--out", str(package)),
        *("--test", str(test), "--test-annotations", str(test_file), *MODEL, *TRAINING, "--overwrite", "--restart"),
        *("--steps", str(args.steps), "--seed", str(args.seed), "--threads", str(args.threads)),
        *("--curve", str(args.out / "curve.png")),
    )
    run("predict", str(package), str(test / "0000.png"), "--plot", str(args.out / "whole_picture.png"))
    seconds = time.perf_counter() - start
    print(f"{seconds:.0f} s")


if __name__ == "__main__":
    main()
