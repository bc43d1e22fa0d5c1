"""Train a small Mamba-YOLO to find drawn circles, squares and triangles, measure it on new pictures, draw the result.

    python examples/detection_shapes/shapes.py --out shapes

Needs mambasdk-vision[train] and Pillow. Some minutes on two cores.
"""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from mambasdk.pipeline import load_pipeline

sys.path.insert(0, str(Path(__file__).parents[1]))
from detection_runs import arguments, run, scores

CLASSES = ("circle", "square", "triangle")
SIDE = 128
GOAL = 0.9  # AP50 on pictures that were not trained on

Box = tuple[float, float, float, float]


def draw_picture(chance: np.random.Generator) -> tuple[Image.Image, list[tuple[int, Box]]]:
    """A picture of coloured shapes that do not cover one another, and the class and box of each, in pixels."""
    height, width = chance.integers(96, 160, 2).tolist()
    background = chance.integers(0, 256, 3)
    noise = chance.normal(0, 8, (height, width, 3))
    picture = Image.fromarray(np.clip(background + noise, 0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    objects: list[tuple[int, Box]] = []
    for _ in range(int(chance.integers(0, 5))):
        side = float(chance.uniform(20, 52))
        left, top = float(chance.uniform(0, width - side)), float(chance.uniform(0, height - side))
        if any(left < b[2] and b[0] < left + side and top < b[3] and b[1] < top + side for _, b in objects):
            continue
        colour = chance.integers(0, 256, 3)
        while np.abs(colour - background).sum() < 200:
            colour = chance.integers(0, 256, 3)
        kind = int(chance.integers(len(CLASSES)))
        objects.append((kind, draw_shape(pen, kind, (left, top, left + side, top + side), tuple(colour.tolist()))))
    return picture, objects


def draw_shape(pen: ImageDraw.ImageDraw, kind: int, place: Box, colour: tuple[int, ...]) -> Box:
    """Draw one shape; the box that it fills."""
    left, top, right, _ = place
    if CLASSES[kind] == "circle":
        pen.ellipse(place, fill=colour)
        return place
    if CLASSES[kind] == "square":
        pen.rectangle(place, fill=colour)
        return place
    height = (right - left) * math.sqrt(3) / 2
    pen.polygon([(left, top + height), (right, top + height), ((left + right) / 2, top)], fill=colour)
    return left, top, right, top + height


def write_data(out: Path, counts: dict[str, int], seed: int) -> Path:
    """data.yaml with images/train, images/val, and their labels as YOLO has them; pictures without a shape too."""
    chance = np.random.default_rng(seed)
    for part, count in counts.items():
        images, labels = out / "images" / part, out / "labels" / part
        images.mkdir(parents=True, exist_ok=True)
        labels.mkdir(parents=True, exist_ok=True)
        for index in range(count):
            picture, objects = draw_picture(chance)
            picture.save(images / f"{index:04}.png")
            width, height = picture.size
            lines = [
                f"{kind} {(x1 + x2) / 2 / width:.6f} {(y1 + y2) / 2 / height:.6f} "
                f"{(x2 - x1) / width:.6f} {(y2 - y1) / height:.6f}\n"
                for kind, (x1, y1, x2, y2) in objects
            ]
            (labels / f"{index:04}.txt").write_text("".join(lines))
    names = "".join(f"  {index}: {name}\n" for index, name in enumerate(CLASSES))
    (out / "data.yaml").write_text(f"path: .\ntrain: images/train\nval: images/val\nnames:\n{names}")
    return out / "data.yaml"


def main() -> None:
    """Draw, train, measure, predict."""
    args = arguments(__doc__, "shapes", steps=400, images=400)
    start = time.perf_counter()
    data = write_data(args.out / "data", {"train": args.images, "val": 100}, args.seed)
    package = args.out / "package"
    size = ["--imgsz", str(SIDE), "--set", "width=0.0625"]
    length = ["--steps", str(args.steps), "--batch", "16", "--lr", "3e-3", "--close-mosaic", "4"]
    machine = ["--seed", str(args.seed), "--threads", str(args.threads)]
    # Half of the pictures are mosaics: shapes are as large as they will be, and there are few steps.
    changes = ["--mosaic", "0.5", "--scale", "0.3"]
    run("train", "mamba_yolo", "--data", str(data), "--out", str(package), *size, *length, *changes, *machine,
        "--evaluate-every", "100", "--overwrite", "--restart")  # fmt: skip
    score = scores(package, data, args.out / "scores")
    seconds = time.perf_counter() - start
    pictures = args.out / "predictions"
    run("predict", str(package), *map(str, sorted((args.out / "data" / "images" / "val").iterdir())[:8]),
        "--plot", str(pictures), "--save-txt", str(args.out / "labels"))  # fmt: skip
    result = {**score, "seconds": seconds, "images_per_second": speed(package, args.out / "data" / "images" / "val")}
    (args.out / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    print(f"AP50 {score['AP50']:.3f}, AP {score['AP']:.3f}; {seconds:.0f} s; {pictures}, {package}.pictures, {package}")
    if score["AP50"] <= GOAL:
        raise SystemExit(f"AP50 is not above {GOAL}")


def speed(package: Path, folder: Path) -> float:
    """Pictures in a second on the engine that C++ programs use, from the file's bytes to the boxes."""
    pipeline = load_pipeline(package)
    files = [path.read_bytes() for path in sorted(folder.iterdir())[:40]]
    start = time.perf_counter()
    for file in files:
        pipeline.run({"image": file})
    return len(files) / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
