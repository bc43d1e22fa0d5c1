"""Ten spoken keywords: synthetic voices speak them, SSAMBA learns them, and voices that it never heard test it.

Makes the clips with espeak-ng, trains with `mambasdk train`, runs the package on the native engine, and compares it
with logistic regression on each clip's mean spectrum. Writes OUT/keywords.png and OUT/predictions/*.png.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mambasdk.pipeline import load_pipeline
from mambasdk_audio import FbankProcessor

WORDS = ["yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go"]  # of Google's Speech Commands
ACCENTS = ["en-us", "en-gb", "en-gb-scotland"]
# Voices that no one would understand, or that speak too fast to be compared.
NOT_VOICES = ("robosoft", "RicishayMax", "whisper", "announcer", "Demonic", "croak", "UniRobot", "anikaRobot")
NOT_VOICES += ("Tweaky", "fast", "Mr serious")
MODEL = {"embed_dim": 64, "depth": 4, "drop_path_rate": 0, "residual_double": "false", "norm_twice": "false"}
TRAINING = {"batch": 32, "lr": 3e-3, "warmup": 0.1, "freq-mask": 16, "time-mask": 16}


def main() -> int:
    """Make the clips, train, test, draw; returns 1 where the baseline is not beaten."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("keywords"), help="folder for everything (default: keywords)")
    parser.add_argument("--steps", type=int, default=450, help="training steps of 32 clips (default: 450)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default: 2)")
    parser.add_argument("--seed", type=int, default=0, help="of voices, initialisation and data order (default: 0)")
    args = parser.parse_args()
    start = time.perf_counter()
    torch.set_num_threads(args.threads)

    train, held_out, voices = speak(args.out / "clips", args.seed, args.threads)
    seconds = {"speaking": time.perf_counter() - start}
    baseline = logistic_regression(args.out / "clips")
    seconds["baseline"] = time.perf_counter() - start - sum(seconds.values())
    report = train_package(args, args.out / "clips", args.out / "package")
    seconds["training"] = time.perf_counter() - start - sum(seconds.values())
    found = run_package(args.out / "package", held_out)
    seconds["native engine"] = time.perf_counter() - start - sum(seconds.values())
    accuracy = sum(label == clip.parent.name for clip, label in found.items()) / len(found)
    draw(args.out / "keywords.png", found, accuracy, baseline)
    examples = [next(clip for clip in held_out if clip.parent.name == word) for word in ("yes", "right")]
    plots = ["--plot", str(args.out / "predictions")]
    run("predict", str(args.out / "package"), *map(str, examples), *plots)

    print(f"{len(train)} clips of {voices[0]} voices to train on, {len(held_out)} of {voices[1]} others to test")
    print(f"logistic regression on the mean spectrum  {baseline:.1%}")
    print(f"SSAMBA, {report['parameters']:,} parameters            {report['held_out']['accuracy']:.1%} in PyTorch")
    print(f"the same package on the native engine     {accuracy:.1%}")
    print(", ".join(f"{name} {value:.0f} s" for name, value in seconds.items()))
    print(f"pictures: {args.out}/keywords.png, {args.out}/predictions/, {args.out}/curve.png")
    return 0 if accuracy > baseline else 1


def speak(folder: Path, seed: int, threads: int) -> tuple[list[Path], list[Path], tuple[int, int]]:
    """Every word by every voice as folder/{train,held_out}/WORD/*.wav; the clips, and how many voices there are."""
    if shutil.which("espeak-ng") is None:
        sys.exit("espeak-ng is not installed: apt install espeak-ng (Debian, Ubuntu) or brew install espeak-ng (macOS)")
    listing = subprocess.run(["espeak-ng", "--voices=variant"], capture_output=True, text=True, check=True).stdout
    voices = {re.split(r"\s{2,}", line.split("!v/")[1])[0].strip() for line in listing.splitlines() if "!v/" in line}
    voices = {voice for voice in voices if not voice.startswith(NOT_VOICES)}
    # "klatt2" is a relative of "klatt3": families of voices are held out whole.
    families = sorted({re.sub(r"\d+$", "", voice) for voice in voices})
    unseen = set(random.Random(seed).sample(families, len(families) // 4))
    jobs = []
    for voice in sorted(voices):
        part = "held_out" if re.sub(r"\d+$", "", voice) in unseen else "train"
        for accent in ACCENTS:
            for word in WORDS:
                chance = random.Random(f"{voice} {accent} {word}")
                speed, pitch = chance.randrange(120, 200), chance.randrange(30, 70)
                clip = folder / part / word / f"{voice}-{accent}-{word}.wav"
                clip.parent.mkdir(parents=True, exist_ok=True)
                jobs.append((clip, f"{accent}+{voice}", speed, pitch))
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda job: say(*job), jobs))
    clips = [[clip for clip, *_ in jobs if clip.parts[-3] == part] for part in ("train", "held_out")]
    counts = [len({clip.stem.split("-en-")[0] for clip in part}) for part in clips]
    return clips[0], clips[1], (counts[0], counts[1])


def say(clip: Path, voice: str, speed: int, pitch: int) -> None:
    """One clip; speed in words per minute, pitch from 0 to 99."""
    command = ["espeak-ng", "-v", voice, "-s", str(speed), "-p", str(pitch), "-w", str(clip), clip.parent.name]
    subprocess.run(command, check=True)


def logistic_regression(clips: Path) -> float:
    """Accuracy on the held-out voices of a linear classifier of each clip's mean log-mel spectrum."""
    fbank = FbankProcessor()

    def table(part: str) -> tuple[torch.Tensor, torch.Tensor]:
        files = sorted((clips / part).glob("*/*.wav"))
        x = np.stack([fbank(file)[0].mean(0) for file in files])  # (clips, 128)
        return torch.from_numpy(x), torch.tensor([WORDS.index(file.parent.name) for file in files])

    (x, y), (test, expected) = table("train"), table("held_out")
    mean, std = x.mean(0), x.std(0)
    linear = nn.Linear(x.shape[1], len(WORDS))
    optimizer = torch.optim.LBFGS(linear.parameters(), max_iter=300)

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = nn.functional.cross_entropy(linear((x - mean) / std), y) + 1e-3 * linear.weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    return float((linear((test - mean) / std).argmax(1) == expected).float().mean())


def train_package(args: argparse.Namespace, clips: Path, package: Path) -> Any:
    """`mambasdk train ssamba …`; returns its report."""
    options = [f"--{name}={value}" for name, value in TRAINING.items()]
    sizes = [f"--set={name}={value}" for name, value in MODEL.items()]
    data = ["--data", str(clips / "train"), "--held-out-data", str(clips / "held_out"), "--out", str(package)]
    end = ["--steps", str(args.steps), "--evaluate-every", str(max(args.steps // 6, 1)), "--overwrite"]
    curve = ["--curve", str(args.out / "curve.png"), "--seed", str(args.seed), "--threads", str(args.threads)]
    return json.loads(run("train", "ssamba", *data, *sizes, *options, *end, *curve))


def run(command: str, *arguments: str) -> str:
    """What `mambasdk COMMAND … --json` prints; the command is shown, so that it can be typed."""
    print("$ mambasdk", command, *arguments, file=sys.stderr)
    line = [sys.executable, "-m", "mambasdk", command, *arguments, "--json"]
    return subprocess.run(line, stdout=subprocess.PIPE, text=True, check=True).stdout


def run_package(package: Path, clips: list[Path]) -> dict[Path, str]:
    """The best label of every clip, by the package's own pipeline: WAV, filterbank, native engine, head."""
    pipeline = load_pipeline(package)
    return {clip: pipeline.run({"audio": clip.read_bytes()})["json"]["labels"][0]["label"] for clip in clips}


def draw(path: Path, found: dict[Path, str], accuracy: float, baseline: float) -> None:
    """The confusion matrix, and accuracies beside the baseline's."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    counts = np.zeros((len(WORDS), len(WORDS)), int)  # (spoken, predicted)
    for clip, label in found.items():
        counts[WORDS.index(clip.parent.name), WORDS.index(label)] += 1
    figure = Figure(figsize=(9.5, 4.6), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(1.5, 1))
    left.imshow(counts, cmap="Blues")
    for row, column in zip(*np.nonzero(counts), strict=True):
        dark = counts[row, column] > counts.max() / 2
        left.text(column, row, counts[row, column], ha="center", va="center", color="white" if dark else "black")
    left.set_xticks(range(len(WORDS)), WORDS, rotation=45)
    left.set_yticks(range(len(WORDS)), WORDS)
    left.set_xlabel("predicted")
    left.set_ylabel("spoken")
    left.set_title(f"{len(found)} clips of unseen voices", fontsize=11)
    names = ["chance", "logistic\nregression", "SSAMBA"]
    values = [100 / len(WORDS), 100 * baseline, 100 * accuracy]
    bars = right.bar(names, values, color=["#d9d9d9", "#9ecae1", "#08519c"])
    right.bar_label(bars, fmt="%.1f %%")
    right.set_ylim(0, 112)
    right.set_yticks(range(0, 101, 20))
    right.set_ylabel("accuracy on unseen voices (%)")
    right.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)


if __name__ == "__main__":
    sys.exit(main())
