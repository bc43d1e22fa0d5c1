"""Train a small segmenter on drawn shapes, measure it on pictures that it has not seen, draw its answers.

    python examples/segmentation_shapes/shapes.py --out shapes

Needs mambasdk-vision[train] and Pillow. A few minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from mambasdk.command_line import main as mambasdk
from mambasdk.pipeline import load_pipeline

LABELS = ["ground", "circle", "square", "triangle"]
COLOURS = [(110, 110, 110), (31, 119, 180), (255, 127, 14), (44, 160, 44)]  # of the answers
# Of the pictures: what a kind's colour is around, up to SPREAD away in red, green and blue.
PAINT = {"circle": (200, 90, 90), "square": (90, 200, 90), "triangle": (90, 90, 200)}
SPREAD = 50
GOAL = 0.9  # mIoU
SIDE = 96
TRAINING = ["--size", str(SIDE), "--scale", "0.8", "1.25", "--batch", "8", "--lr", "3e-3"]
MODEL = ["--backbone", "vmamba-mini", "--set", 'backbone_config={"drop_path_rate":0.0}']


def ground(chance: np.random.Generator) -> npt.NDArray[np.float64]:
    """A texture (SIDE, SIDE, 3), 0 to 255: greyish stripes of a random direction and width under noise."""
    y, x = np.mgrid[:SIDE, :SIDE]
    angle, period = chance.uniform(0, math.pi), chance.uniform(8, 32)
    wave = np.sin((x * math.cos(angle) + y * math.sin(angle)) * 2 * math.pi / period)
    colour, swing = chance.uniform(60, 190) + chance.uniform(-20, 20, 3), chance.uniform(-40, 40)
    return colour + wave[..., None] * swing + chance.normal(0, 12, (SIDE, SIDE, 1))


def outline(kind: str, x: float, y: float, radius: float) -> list[tuple[float, float]]:
    """Corners of an upright shape; a circle has many, and the others are somewhat larger, to cover about as much."""
    count, turn, size = {"circle": (48, 0.0, 1), "square": (4, math.pi / 4, 1.1), "triangle": (3, -math.pi / 2, 1.3)}[
        kind
    ]
    angles = turn + np.arange(count) * 2 * math.pi / count
    return [(x + size * radius * math.cos(a), y + size * radius * math.sin(a)) for a in angles]


def scene(chance: np.random.Generator) -> tuple[Image.Image, Image.Image]:
    """A picture of one to three shapes of their colours and any size, which may overlap; and its mask."""
    canvas = ground(chance)
    mask = Image.new("P", (SIDE, SIDE))
    mask.putpalette([sample for colour in COLOURS for sample in colour])
    drawing = ImageDraw.Draw(mask)
    for _ in range(chance.integers(1, 4)):
        kind = int(chance.integers(1, len(LABELS)))
        corners = outline(
            LABELS[kind], *chance.uniform(SIDE / 6, SIDE * 5 / 6, 2), chance.uniform(SIDE / 6, SIDE / 3.5)
        )
        drawing.polygon(corners, fill=kind)
        shape = Image.new("1", (SIDE, SIDE))
        ImageDraw.Draw(shape).polygon(corners, fill=1)
        inside = np.asarray(shape)
        colour = np.array(PAINT[LABELS[kind]]) + chance.uniform(-SPREAD, SPREAD, 3)
        canvas[inside] = colour + chance.normal(0, 12, (int(inside.sum()), 1))
    return Image.fromarray(canvas.clip(0, 255).astype(np.uint8)), mask


def write_scenes(root: Path, counts: dict[str, int], seed: int) -> None:
    """images/<part>/*.png and masks/<part>/*.png, and the names of the classes."""
    chance = np.random.default_rng(seed)
    for part, count in counts.items():
        for folder in ("images", "masks"):
            (root / folder / part).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            image, mask = scene(chance)
            image.save(root / "images" / part / f"{index:04}.png")
            mask.save(root / "masks" / part / f"{index:04}.png")
    (root / "labels.txt").write_text("\n".join(LABELS) + "\n")


def iou(root: Path, package: Path) -> tuple[list[float], list[Any]]:
    """IoU of every class over the held-out pictures, on the engine that C++ programs use; and all class maps."""
    pipeline = load_pipeline(package)
    both, either = np.zeros(len(LABELS)), np.zeros(len(LABELS))
    maps = []
    for file in sorted((root / "images" / "val").glob("*.png")):
        found = np.asarray(pipeline.run({"image": file.read_bytes()})["class_map"])
        truth = np.asarray(Image.open(root / "masks" / "val" / file.name))
        for index in range(len(LABELS)):
            both[index] += ((found == index) & (truth == index)).sum()
            either[index] += ((found == index) | (truth == index)).sum()
        maps.append((file, truth, found))
    return (both / either).tolist(), maps


def draw(maps: list[Any], scores: list[float], out: Path) -> None:
    """The first eight held-out pictures, their masks, and the answers."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    colours = np.array(COLOURS, np.uint8)
    figure = Figure(figsize=(11, 4.6), dpi=120, layout="constrained")
    for column, rows in enumerate(zip(*figure.subplots(3, 8), strict=True)):
        file, truth, found = maps[column % len(maps)]
        pictures = (np.asarray(Image.open(file)), colours[truth], colours[found])
        for axes, picture, name in zip(rows, pictures, ("picture", "mask", "answer"), strict=True):
            axes.imshow(picture, interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
            if column == 0:
                axes.set_ylabel(name)
    patches = [
        Patch(color=[sample / 255 for sample in colour], label=f"{label}, IoU {score:.3f}")
        for label, colour, score in zip(LABELS, COLOURS, scores, strict=True)
    ]
    figure.legend(handles=patches, loc="outside lower center", ncols=len(patches), frameon=False)
    figure.savefig(out)


def main() -> None:
    """Draw the scenes, train, measure, draw the answers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("shapes"), help="folder for all that is made")
    parser.add_argument("--images", type=int, default=800, help="pictures to train on (default: 800)")
    parser.add_argument("--held-out", type=int, default=100, help="pictures to measure on (default: 100)")
    parser.add_argument("--steps", type=int, default=600, help="training steps of 8 pictures (default: 600)")
    parser.add_argument("--seed", type=int, default=0, help="of pictures, initialisation and data order (default: 0)")
    parser.add_argument("--threads", type=int, default=2, help="(default: 2)")
    parser.add_argument("--goal", type=float, default=GOAL, help=f"least mIoU (default: {GOAL})")
    args = parser.parse_args()
    start = time.perf_counter()
    data, package = args.out / "data", args.out / "package"
    write_scenes(data, {"train": args.images, "val": args.held_out}, args.seed)
    run = ["--steps", str(args.steps), "--evaluate-every", str(max(args.steps // 5, 1)), "--seed", str(args.seed)]
    files = ["--curve", str(args.out / "curve.png"), "--threads", str(args.threads), "--overwrite", "--restart"]
    code = mambasdk(["train", "upernet", "--data", str(data), "--out", str(package), *MODEL, *TRAINING, *run, *files])
    if code:
        raise SystemExit(code)
    scores, maps = iou(data, package)
    draw(maps, scores, args.out / "shapes.png")
    mean, seconds = float(np.mean(scores)), time.perf_counter() - start
    result = {"mIoU": mean, "IoU": dict(zip(LABELS, scores, strict=True)), "seconds": seconds}
    (args.out / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    for label, score in zip(LABELS, scores, strict=True):
        print(f"{label:10s} IoU {score:.3f}")
    print(f"mIoU {mean:.3f} of {args.held_out} pictures; {seconds:.0f} s; {args.out / 'shapes.png'}, {package}")
    if mean <= args.goal:
        raise SystemExit(f"mIoU {mean:.3f} is not above {args.goal}")


if __name__ == "__main__":
    main()
