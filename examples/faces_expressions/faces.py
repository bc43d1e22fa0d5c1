"""Train a small FER-YOLO-Mamba to find drawn faces and name their expressions, and measure it on new pictures.

    python examples/faces_expressions/faces.py --out faces

Needs mambasdk-vision[train] and Pillow. Some minutes on two cores.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

sys.path.insert(0, str(Path(__file__).parents[1]))
from detection_runs import arguments, run, scores

CLASSES = ("Angry", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise")
SIDE = 96
GOAL = 0.9  # mAP at an IoU of 0.5 on pictures that were not trained on
# Of each expression: brows (inner end, outer end; up is negative), how far the eyes are open, mouth (kind, bend).
LOOKS = {
    "Angry": ((0.12, -0.12), 0.07, ("line", -0.10)),
    "Disgust": ((0.06, 0.02), 0.03, ("wave", 0.13)),
    "Fear": ((-0.14, 0.02), 0.14, ("wave", 0.07)),
    "Happy": ((-0.04, -0.04), 0.06, ("line", 0.26)),
    "Neutral": ((0.0, 0.0), 0.08, ("line", 0.0)),
    "Sad": ((-0.14, 0.14), 0.05, ("line", -0.26)),
    "Surprise": ((-0.16, -0.16), 0.14, ("open", 0.24)),
}

Box = tuple[float, float, float, float]


def draw_picture(chance: np.random.Generator) -> tuple[Image.Image, list[tuple[int, Box]]]:
    """A picture with a face, or two where a second one fits, and the class and box of each, in pixels."""
    height, width = chance.integers(80, 120, 2).tolist()
    noise = chance.normal(0, 6, (height, width, 3))
    picture = Image.fromarray(np.clip(chance.integers(20, 235, 3) + noise, 0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    objects: list[tuple[int, Box]] = []
    for _ in range(int(chance.integers(1, 3))):
        side = float(chance.uniform(52, 78))
        left, top = float(chance.uniform(0, width - side)), float(chance.uniform(0, height - side))
        if any(left < b[2] and b[0] < left + side and top < b[3] and b[1] < top + side for _, b in objects):
            continue
        kind = int(chance.integers(len(CLASSES)))
        draw_face(pen, CLASSES[kind], left, top, side, chance)
        objects.append((kind, (left, top, left + side, top + side)))
    return picture, objects


def draw_face(
    pen: ImageDraw.ImageDraw, expression: str, left: float, top: float, side: float, chance: np.random.Generator
) -> None:
    """A round face that fills a square of that side."""
    brows, eye, (mouth, bend) = LOOKS[expression]
    skin = tuple(
        (np.array([235, 195, 160]) * chance.uniform(0.55, 1.05) + chance.normal(0, 6, 3)).clip(0, 255).astype(int)
    )
    stroke = max(round(side * 0.065), 3)

    def at(x: float, y: float) -> tuple[float, float]:
        return left + (x + chance.normal(0, 0.004)) * side, top + (y + chance.normal(0, 0.004)) * side

    pen.ellipse((left, top, left + side, top + side), fill=skin, outline=(40, 30, 30), width=2)
    for sign in (-1, 1):
        x, y = at(0.5 + 0.19 * sign, 0.43)
        wide, high = 0.085 * side, eye * side
        pen.ellipse((x - wide, y - high, x + wide, y + high), fill="white", outline=(30, 20, 20), width=1)
        pupil = min(high, 0.05 * side)
        pen.ellipse((x - pupil, y - pupil, x + pupil, y + pupil), fill=(30, 20, 20))
        inner, outer = (at(0.5 + place * sign, 0.25 + up) for place, up in zip((0.09, 0.30), brows, strict=True))
        pen.line([inner, outer], fill=(40, 25, 20), width=stroke)
    if mouth == "open":
        x, y = at(0.5, 0.74)
        pen.ellipse(
            (x - 0.13 * side, y - bend * side * 0.7, x + 0.13 * side, y + bend * side * 0.7), fill=(120, 20, 30)
        )
        return
    places = np.linspace(-1, 1, 13)
    heights = bend * (1 - places**2) if mouth == "line" else bend * np.sin(places * 3 * np.pi) * 0.6
    middle = 0.72 - (bend / 2 if mouth == "line" else 0)
    points = [(left + (0.5 + 0.26 * x) * side, top + (middle + y) * side) for x, y in zip(places, heights, strict=True)]
    pen.line(points, fill=(130, 20, 40), width=stroke)


def write_data(out: Path, counts: dict[str, int], seed: int) -> dict[str, Path]:
    """A folder of pictures and a file of COCO annotations for each part."""
    chance = np.random.default_rng(seed)
    files = {}
    for part, count in counts.items():
        folder = out / part
        folder.mkdir(parents=True, exist_ok=True)
        images, annotations = [], []
        for index in range(count):
            picture, objects = draw_picture(chance)
            picture.save(folder / f"{index:04}.png")
            images.append(
                {"id": index, "file_name": f"{index:04}.png", "width": picture.width, "height": picture.height}
            )
            for kind, (x1, y1, x2, y2) in objects:
                box = [x1, y1, x2 - x1, y2 - y1]
                annotations.append({"id": len(annotations) + 1, "image_id": index, "category_id": kind + 1,
                                    "bbox": box, "area": box[2] * box[3], "iscrowd": 0})  # fmt: skip
        categories = [{"id": index + 1, "name": name} for index, name in enumerate(CLASSES)]
        files[part] = out / f"instances_{part}.json"
        files[part].write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return files


def main() -> None:
    """Draw, train, measure, predict."""
    args = arguments(__doc__, "faces", steps=1000, images=500)
    start = time.perf_counter()
    files = write_data(args.out / "data", {"train": args.images, "val": 100}, args.seed)
    package = args.out / "package"
    data = ["--data", str(files["train"]), "--test", str(files["val"])]
    size = ["--imgsz", str(SIDE), "--set", "width=0.125"]
    length = ["--steps", str(args.steps), "--batch", "16", "--lr", "3e-3", "--evaluate-every", "250"]
    # A face upside down or cut in four says little; mirrored it is one.
    changes = ["--mosaic", "0", "--scale", "0.2", "--translate", "0.1"]
    machine = ["--seed", str(args.seed), "--threads", str(args.threads)]
    run("train", "fer_yolo_mamba", *data, "--out", str(package), *size, *length, *changes, *machine,
        "--overwrite", "--restart")  # fmt: skip
    score = scores(package, files["val"], args.out / "scores")
    seconds = time.perf_counter() - start
    pictures = args.out / "predictions"
    run("predict", str(package), *map(str, sorted((args.out / "data" / "val").iterdir())[:8]), "--plot", str(pictures))
    (args.out / "result.json").write_text(json.dumps({**score, "seconds": seconds}, indent=1) + "\n")
    print(f"mAP50 {score['VOC_mAP50']:.3f}, AP {score['AP']:.3f}; {seconds:.0f} s; {pictures}, {package}")
    if score["VOC_mAP50"] <= GOAL:
        raise SystemExit(f"mAP50 is not above {GOAL}")


if __name__ == "__main__":
    main()
