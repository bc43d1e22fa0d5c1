"""A data set of drawn organs in nnU-Net's folders, and `mambasdk medical` from planning to scores on it.

    python examples/medical_organs/organs.py --out organs

Needs mambasdk-medical[train]. Two minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from mambasdk.command_line import main as mambasdk

NAME = "Dataset901_Organs"
LABELS = {"background": 0, "liver": 1, "kidney": 2}
SPACING = (1.5, 1.5, 4.0)  # x, y, z in mm
TRAIN, TEST = 16, 4
GOAL = 0.9  # mean Dice
MODEL = "u_mamba"
RECIPE = ["--optimizer", "adamw", "--lr", "3e-3", "--weight-decay", "1e-5", "--validation-patches", "8"]

Volume = npt.NDArray[np.float64]


def ellipsoid(size: tuple[int, ...], centre: Volume, radii: Volume, turn: float) -> npt.NDArray[np.bool_]:
    """Voxels (x, y, z) inside an ellipsoid that is turned about z; centre and radii in mm."""
    grid = np.stack(
        np.meshgrid(*(np.arange(n) * step for n, step in zip(size, SPACING, strict=True)), indexing="ij"), -1
    )
    offset = grid - centre
    cosine, sine = np.cos(turn), np.sin(turn)
    across, along = offset[..., 0] * cosine + offset[..., 1] * sine, offset[..., 1] * cosine - offset[..., 0] * sine
    inside: npt.NDArray[np.bool_] = (across / radii[0]) ** 2 + (along / radii[1]) ** 2 + (
        offset[..., 2] / radii[2]
    ) ** 2 < 1
    return inside


def case(chance: np.random.Generator) -> tuple[Volume, npt.NDArray[np.uint8]]:
    """A body with a liver and a kidney under a smooth bias field and noise; zeros around it. Axes (x, y, z)."""
    size = (int(chance.integers(56, 72)), int(chance.integers(52, 64)), int(chance.integers(16, 22)))
    extent = np.array(size) * SPACING
    body = ellipsoid(size, extent / 2, extent * (0.47, 0.45, 0.6), 0.0)
    labels = np.zeros(size, np.uint8)
    liver = ellipsoid(
        size,
        extent * chance.uniform((0.3, 0.4, 0.4), (0.38, 0.55, 0.6)),
        chance.uniform((18, 14, 16), (24, 20, 24)),
        chance.uniform(-0.6, 0.6),
    )
    kidney = ellipsoid(
        size,
        extent * chance.uniform((0.66, 0.45, 0.4), (0.74, 0.6, 0.6)),
        chance.uniform((9, 11, 14), (13, 15, 20)),
        chance.uniform(-0.6, 0.6),
    )
    labels[liver & body], labels[kidney & body] = 1, 2
    image = np.where(body, 200.0, 0.0) + 90.0 * (labels == 1) + 170.0 * (labels == 2)
    blobs = ndimage.gaussian_filter(chance.normal(size=size), (2, 2, 1))
    field = ndimage.gaussian_filter(chance.normal(size=size), (18, 18, 6))
    image *= 1 + 0.2 * field / np.abs(field).max()
    image += 25 * blobs / blobs.std() + chance.normal(0, 20, size)
    return np.where(body, image.clip(1), 0.0), labels


def write(root: Path, seed: int) -> None:
    """imagesTr, labelsTr, imagesTs, labelsTs and dataset.json."""
    chance = np.random.default_rng(seed)
    for part, count in (("Tr", TRAIN), ("Ts", TEST)):
        for folder in (f"images{part}", f"labels{part}"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            image, labels = case(chance)
            affine = np.diag([-SPACING[0], -SPACING[1], SPACING[2], 1.0])
            affine[:3, 3] = chance.uniform(-100, 100, 3)
            name = f"organs_{part}{index:02d}"
            nibabel.save(
                nibabel.Nifti1Image(image.astype(np.float32), affine), root / f"images{part}" / f"{name}_0000.nii.gz"
            )
            nibabel.save(nibabel.Nifti1Image(labels, affine), root / f"labels{part}" / f"{name}.nii.gz")
    description = {"channel_names": {"0": "MR"}, "labels": LABELS, "numTraining": TRAIN, "file_ending": ".nii.gz"}
    (root / "dataset.json").write_text(json.dumps(description, indent=1))


def run(*command: str) -> None:
    """A command of mambasdk; ends the program where it fails."""
    print("$ mambasdk", *command)
    if code := mambasdk(list(command)):
        raise SystemExit(code)


def main() -> None:
    """Draw, plan, preprocess, train, predict, evaluate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("organs"))
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--steps", default="150")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only-data", action="store_true", help="write the data set and end")
    parser.add_argument("settings", nargs="*", help="further arguments of the training, after --")
    args = parser.parse_args()
    data = args.out / NAME
    write(data, args.seed)
    if args.only_data:
        return
    start = time.perf_counter()
    package, predictions = args.out / "package", args.out / "predictions"
    run("medical", "plan", str(data), "--memory", "0.3", "--features", "8")
    run("medical", "preprocess", str(data), "-c", "3d_fullres")
    run(
        "medical", "train", args.model, "--data", str(data), "-c", "3d_fullres", "--fold", "0", "--out", str(package),
        "--steps", args.steps, "--curve", str(args.out / "curve.png"), "--overwrite", "--restart",
        *RECIPE, *args.settings,
    )  # fmt: skip
    trained = time.perf_counter()
    run(
        "medical", "predict", str(package), "-i", str(data / "imagesTs"), "-o", str(predictions),
        "--overlays", str(args.out / "overlays"),
    )  # fmt: skip
    run("medical", "evaluate", str(predictions), str(data / "labelsTs"), "--out", str(args.out / "scores.json"))
    scores: dict[str, Any] = json.loads((args.out / "scores.json").read_text())
    dice = scores["mean"]["dice"]
    seconds = trained - start, time.perf_counter() - trained
    print(f"{seconds[0]:.0f} s to the package, {seconds[1]:.0f} s for {TEST} test cases; mean Dice {dice:.3f}")
    if not dice > GOAL:
        raise SystemExit(f"the mean Dice is {dice:.3f}, not above {GOAL}")


if __name__ == "__main__":
    main()
