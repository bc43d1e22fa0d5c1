"""Train a small Mamba-YOLO to find drawn circles, squares and triangles, measure it on new pictures, draw the result.

    python examples/detection_shapes/shapes.py --out shapes

Needs mambasdk-vision[train] and Pillow. Some minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from mambasdk.command_line import main as mambasdk
from mambasdk.pipeline import load_pipeline

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


def run(*arguments: str) -> None:
    """A command of `mambasdk`; its failure ends the script."""
    print("mambasdk", *arguments, flush=True)
    if code := mambasdk(list(arguments)):
        raise SystemExit(code)


def main() -> None:
    """Draw, train, measure, predict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("shapes"), help="folder for all that is made")
    parser.add_argument("--steps", type=int, default=400, help="training steps (default: 400)")
    parser.add_argument("--images", type=int, default=400, help="pictures to train on (default: 400)")
    parser.add_argument("--seed", type=int, default=0, help="of pictures and training (default: 0)")
    parser.add_argument("--threads", type=int, default=2, help="of the training (default: 2)")
    args = parser.parse_args()
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
    score = measure(package, data, args.out)
    seconds = time.perf_counter() - start
    pictures = args.out / "predictions"
    run("predict", str(package), *map(str, sorted((args.out / "data" / "images" / "val").iterdir())[:8]),
        "--plot", str(pictures), "--save-txt", str(args.out / "labels"))  # fmt: skip
    result = {**score, "seconds": seconds, "images_per_second": speed(package, args.out / "data" / "images" / "val")}
    (args.out / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    print(f"AP50 {score['AP50']:.3f}, AP {score['AP']:.3f}; {seconds:.0f} s; {pictures}, {package}.pictures, {package}")
    if score["AP50"] <= GOAL:
        raise SystemExit(f"AP50 is not above {GOAL}")


def measure(package: Path, data: Path, out: Path) -> dict[str, float]:
    """What `mambasdk evaluate --json` says of the held-out pictures."""
    import contextlib
    import io

    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        run("evaluate", str(package), "--data", str(data), "--plot", str(out / "scores"), "--json")
    metrics: dict[str, float] = json.loads(said.getvalue().splitlines()[-1])["metrics"]
    return {name: metrics[name] for name in ("AP", "AP50", "AP75", "VOC_mAP50")}


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
