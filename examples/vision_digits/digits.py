"""Train a small image encoder on scikit-learn's handwritten digits, compare it with logistic regression, draw both.

    python examples/vision_digits/digits.py --out digits [--model efficientvmamba]

Needs mambasdk-vision[train], scikit-learn and Pillow. A minute or two on one core.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from mambasdk.command_line import main as mambasdk
from mambasdk.pipeline import load_pipeline

# As published, only smaller: patches of 2 x 2 pixels, or of one where there are several stages. (settings, steps)
MODELS: dict[str, tuple[list[str], int]] = {
    "vim": (["patch_size=2", "embed_dim=64", "depth=4", "d_state=8"], 1600),
    "plainmamba": (["patch_size=2", "embed_dims=64", "num_layers=4", "d_state=8"], 600),
    "efficientvmamba": (["patch_size=1", "dims=16", "depths=[1,1,2]"], 600),
}
# A mirrored 3 is no digit; one pixel to each side (an eighth) is how people write.
TRAINING = ["--no-flip", "--shift", "0.125", "--batch", "64", "--lr", "3e-3"]


def write_folders(out: Path) -> tuple[Any, Any, Any, Any]:
    """8 x 8 PNG files in train/<digit>/ and test/<digit>/, a quarter for the test; returns the same as arrays."""
    digits = load_digits()
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)  # (1797, 8, 8)
    parts = train_test_split(pixels, digits.target, test_size=0.25, stratify=digits.target, random_state=0)
    for name, images, labels in (("train", parts[0], parts[2]), ("test", parts[1], parts[3])):
        for index, (image, label) in enumerate(zip(images, labels, strict=True)):
            folder = out / name / str(label)
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{index:04}.png")
    return tuple(parts)  # type: ignore[return-value]


def baseline(train: Any, train_labels: Any, test: Any, test_labels: Any) -> float:
    """Test accuracy of logistic regression on the 64 pixels."""
    model = LogisticRegression(max_iter=5000).fit(train.reshape(len(train), -1) / 255, train_labels)
    return float(model.score(test.reshape(len(test), -1) / 255, test_labels))


def predict(package: Path, folder: Path) -> list[tuple[Path, str, str, float]]:
    """(file, its digit, the package's answer, its probability) of every image, on the engine that C++ programs use."""
    pipeline = load_pipeline(package)
    found = []
    for file in sorted(folder.glob("*/*.png")):
        best = pipeline.run({"image": file.read_bytes()})["json"]["labels"][0]
        found.append((file, file.parent.name, best["label"], best["score"]))
    return found


def draw(answers: list[tuple[Path, str, str, float]], accuracies: dict[str, float], out: Path) -> None:
    """The accuracies, which digits are taken for which, and every image that is answered wrongly (at most 12)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5.2), dpi=120, layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1.1, 1))
    axes = left.add_subplot()
    counts = np.zeros((10, 10), int)
    for _, truth, answer, _ in answers:
        counts[int(truth), int(answer)] += 1
    axes.imshow(np.sqrt(counts), cmap="Blues")
    for row, column in zip(*np.nonzero(counts), strict=True):
        colour = "white" if counts[row, column] > 20 else "black"
        axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour)
    axes.set_xticks(range(10))
    axes.set_yticks(range(10))
    axes.set_xlabel("answer of the model")
    axes.set_ylabel("digit")
    scores = ", ".join(f"{name} {value:.1%}" for name, value in accuracies.items())
    axes.set_title(f"{len(answers)} test images\n{scores}", fontsize=10)
    wrong = [entry for entry in answers if entry[1] != entry[2]][:12]
    right.suptitle(f"wrong answers ({sum(a[1] != a[2] for a in answers)})", fontsize=10)
    for place, axes in enumerate(right.subplots(3, 4).flat):
        axes.set_axis_off()
        if place < len(wrong):
            file, truth, answer, score = wrong[place]
            axes.imshow(np.asarray(Image.open(file)), cmap="gray")
            axes.set_title(f"{truth}, taken for {answer}\n({score:.0%})", fontsize=9)
    figure.savefig(out)


def main() -> None:
    """Write the folders, train, compare, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out", type=Path, default=Path("digits"), help="folder for all that is made (default: digits)"
    )
    parser.add_argument("--model", choices=MODELS, default="vim", help="family of the encoder (default: vim)")
    parser.add_argument("--steps", type=int, help="training steps (default: 1600 of vim, 600 of the others)")
    parser.add_argument("--seed", type=int, default=0, help="of initialisation and data order (default: 0)")
    parser.add_argument("--threads", type=int, default=1, help="more do not help at this size (default: 1)")
    args = parser.parse_args()
    start = time.perf_counter()
    train, test, train_labels, test_labels = write_folders(args.out)
    package = args.out / "package"
    settings, steps = MODELS[args.model]
    model = ["--size", "8", *(word for setting in settings for word in ("--set", setting))]
    arguments = ["--data", str(args.out / "train"), "--test", str(args.out / "test"), "--out", str(package)]
    run = [
        "--steps",
        str(steps if args.steps is None else args.steps),
        "--evaluate-every",
        "200",
        "--seed",
        str(args.seed),
        "--threads",
        str(args.threads),
        "--overwrite",
    ]
    code = mambasdk(["train", args.model, *arguments, *model, *TRAINING, *run, "--curve", str(args.out / "curve.png")])
    if code:
        raise SystemExit(code)
    answers = predict(package, args.out / "test")
    accuracies = {
        args.model: sum(truth == answer for _, truth, answer, _ in answers) / len(answers),
        "logistic regression": baseline(train, train_labels, test, test_labels),
    }
    draw(answers, accuracies, args.out / "digits.png")
    seconds = time.perf_counter() - start
    (args.out / "result.json").write_text(json.dumps({**accuracies, "seconds": seconds}, indent=1) + "\n")
    for name, accuracy in accuracies.items():
        print(f"{name:20s} {accuracy:.2%} of {len(answers)} test images")
    print(f"{seconds:.0f} s; {args.out / 'digits.png'}, {args.out / 'curve.png'}, {package}")
    if accuracies[args.model] <= accuracies["logistic regression"]:
        raise SystemExit("the baseline is not beaten")


if __name__ == "__main__":
    main()
