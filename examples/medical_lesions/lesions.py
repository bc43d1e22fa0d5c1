"""Draw pictures of skin lesions, train small segmenters on them, and a classifier of what was drawn.

    python examples/medical_lesions/lesions.py --out lesions

Needs mambasdk-medical[train]. Some minutes for each model on two cores; --models chooses.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from scipy import ndimage

from mambasdk.command_line import main as mambasdk

NAME = "Dataset902_Lesions"
SIDE = 64
TRAIN, TEST = 80, 20
GOAL = 0.9  # Dice of the lesion, and accuracy of the classifier
KINDS = ("naevus", "melanoma", "keratosis")  # round and even; ragged and of two tones; pale with a dark rim
SEGMENTERS = ("vm_unet", "mhs_vm", "ultralight_vm_unet", "xlstm_unet")
CLASSIFIER = "medmamba"
RECIPE = ["--optimizer", "adamw", "--lr", "2e-3", "--weight-decay", "1e-2", "--warmup", "0.05", "--batch", "8"]
STEPS = {"vm_unet": 80, "mhs_vm": 80, "ultralight_vm_unet": 60, "xlstm_unet": 80, CLASSIFIER: 150}
MORE: dict[str, list[str]] = {"xlstm_unet": ["--set", "features_per_stage=[8,16,32,64,64]"]}

Pixels = npt.NDArray[np.uint8]


def outline(chance: np.random.Generator, ragged: float) -> npt.NDArray[np.bool_]:
    """Pixels (SIDE, SIDE) inside a closed curve around a point of the middle, its radius a sum of a few waves."""
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    middle = chance.uniform(0.38 * SIDE, 0.62 * SIDE, 2)
    angle = np.arctan2(y - middle[0], x - middle[1])
    radius = chance.uniform(0.16, 0.3) * SIDE
    for wave in range(2, 7):
        radius = radius * (
            1 + ragged / wave * np.cos(wave * angle + chance.uniform(0, 2 * np.pi)) * chance.uniform(0.3, 1)
        )
    inside: npt.NDArray[np.bool_] = np.hypot(y - middle[0], x - middle[1]) < radius
    return inside


def picture(chance: np.random.Generator, kind: str) -> tuple[Pixels, Pixels]:
    """A picture (SIDE, SIDE, 3) of a lesion under hairs and noise, and its mask."""
    inside = outline(chance, 0.5 if kind == "melanoma" else 0.12)
    skin = np.array([222, 172, 148.0]) + chance.uniform(-22, 22, 3)
    texture = ndimage.gaussian_filter(chance.normal(size=(SIDE, SIDE)), 3)
    canvas = skin + 8 * (texture / texture.std())[..., None]
    soft = ndimage.gaussian_filter(inside.astype(float), 1.0)[..., None]
    dark = np.array([105, 62, 45.0]) + chance.uniform(-18, 18, 3)
    if kind == "melanoma":
        patches = ndimage.gaussian_filter(chance.normal(size=(SIDE, SIDE)), 4)[..., None] > 0
        dark = np.where(patches, dark, dark * (0.55, 0.6, 0.8))
    if kind == "keratosis":
        depth = ndimage.distance_transform_edt(inside)[..., None]
        dark = np.where(depth > 3, dark * (1.45, 1.6, 1.5), dark)
    canvas = canvas * (1 - soft) + dark * soft
    shown = Image.fromarray((canvas + chance.normal(0, 5, canvas.shape)).clip(0, 255).astype(np.uint8))
    hairs = ImageDraw.Draw(shown)
    for _ in range(chance.integers(0, 4)):
        ends = chance.uniform(0, SIDE, 4).tolist()
        hairs.line(ends, fill=(55, 40, 35), width=1)
    return np.asarray(shown), inside.astype(np.uint8)


def write(data: Path, classes: Path, seed: int) -> None:
    """nnU-Net's folders for segmenters; a folder for each kind, of training and of test, for the classifier."""
    chance = np.random.default_rng(seed)
    for part, count in (("Tr", TRAIN), ("Ts", TEST)):
        for folder in (data / f"images{part}", data / f"labels{part}", *(classes / part / kind for kind in KINDS)):
            folder.mkdir(parents=True, exist_ok=True)
        for index in range(count):
            name = f"lesion_{part}{index:03d}"
            pixels, mask = picture(chance, KINDS[index % len(KINDS)])
            Image.fromarray(pixels).save(data / f"images{part}" / f"{name}_0000.png")
            Image.fromarray(mask).save(data / f"labels{part}" / f"{name}.png")
        for kind in KINDS:
            for index in range(2 * count):
                Image.fromarray(picture(chance, kind)[0]).save(classes / part / kind / f"{index:03d}.png")
    description = {
        "channel_names": {"0": "R", "1": "G", "2": "B"},
        "labels": {"background": 0, "lesion": 1},
        "numTraining": TRAIN,
        "file_ending": ".png",
    }
    (data / "dataset.json").write_text(json.dumps(description, indent=1))


def run(*command: str) -> None:
    """A command of mambasdk; ends the program where it fails."""
    print("$ mambasdk", *command)
    if code := mambasdk(list(command)):
        raise SystemExit(code)


def segment(model: str, data: Path, out: Path, steps: str) -> float:
    """Train a segmenter, predict the test pictures; the mean Dice of their lesions."""
    package, found, scores = out / "package", out / "predictions", out / "scores.json"
    run(
        "medical", "train", model, "--data", str(data), "--out", str(package), "--steps", steps,
        "--curve", str(out / "curve.png"), "--overwrite", "--restart", *RECIPE, *MORE.get(model, []),
    )  # fmt: skip
    run(
        "medical", "predict", str(package), "-i", str(data / "imagesTs"), "-o", str(found),
        "--overlays", str(out / "overlays"),
    )  # fmt: skip
    run("medical", "evaluate", str(found), str(data / "labelsTs"), "--out", str(scores))
    dice: float = json.loads(scores.read_text())["mean"]["dice"]
    return dice


def classify(classes: Path, out: Path, steps: str) -> float:
    """Train the classifier on drawn kinds; its accuracy on the others."""
    package = out / "package"
    run(
        "train", CLASSIFIER, "--data", str(classes / "Tr"), "--test", str(classes / "Ts"), "--out", str(package),
        "--size", str(SIDE), "--steps", steps, "--batch", "16", "--lr", "2e-3", "--curve", str(out / "curve.png"),
        "--overwrite", "--restart",
    )  # fmt: skip
    from mambasdk.pipeline import load_pipeline

    pipeline: Any = load_pipeline(package)
    right = [
        pipeline.run({"image": path.read_bytes()})["json"]["labels"][0]["label"] == path.parent.name
        for path in sorted((classes / "Ts").rglob("*.png"))
    ]
    return float(np.mean(right))


def main() -> None:
    """Draw, train, measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("lesions"))
    parser.add_argument("--models", nargs="+", default=[*SEGMENTERS, CLASSIFIER])
    parser.add_argument("--steps", help="of every model, instead of each one's own")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    data, classes = args.out / NAME, args.out / "classes"
    write(data, classes, args.seed)
    run("medical", "plan", str(data), "--memory", "1")
    run("medical", "preprocess", str(data))
    rows = {}
    for model in args.models:
        out = args.out / model
        out.mkdir(parents=True, exist_ok=True)
        start = time.perf_counter()
        steps = args.steps or str(STEPS.get(model, 150))
        score = classify(classes, out, steps) if model == CLASSIFIER else segment(model, data, out, steps)
        rows[model] = {"score": score, "seconds": time.perf_counter() - start}
    for model, row in rows.items():
        print(
            f"{model:20} {'accuracy' if model == CLASSIFIER else 'Dice':8} {row['score']:.3f}  {row['seconds']:5.0f} s"
        )
    (args.out / "results.json").write_text(json.dumps(rows, indent=1))
    if low := [model for model, row in rows.items() if not row["score"] > GOAL]:
        raise SystemExit(f"not above {GOAL}: {', '.join(low)}")


if __name__ == "__main__":
    main()
