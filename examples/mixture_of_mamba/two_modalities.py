"""Mixture-of-Mamba beside the dense Mamba on a stream of two modalities: how soon each learns, and what a step costs.

- digits: blocks of six random digits, a sign, and the same six again.
- wave: blocks of a sine in 32 levels. It goes on from block to block, through the digits in between.

Blocks of both take turns, so a model reads the wave while it holds nothing of the digits, and has one state for both.

    python two_modalities.py --out results

All models have two layers of two blocks and 32 channels, and as many active parameters as the dense one; they differ in
which projections each modality has for itself. The table is of the run itself, whatever comes out.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

import mambasdk

DIGITS, SIGN, COPIED = 10, 10, 6
LEVELS, WAVE = 32, 13  # of the wave, and its steps in a block
BLOCKS = 5  # of each modality
RANGES = [DIGITS + 1, DIGITS + 1 + LEVELS]
NAMES = ("digits", "wave")
# Model -> projections that the modalities share.
MODELS: dict[str, tuple[str, ...]] = {
    "dense": ("in", "x", "dt", "out"),
    "x and dt apart": ("in", "out"),
    "in and out apart": ("x", "dt"),
    "all apart": (),
}
DENSE = "dense"


def stream(size: int, generator: torch.Generator) -> Tensor:
    """Tokens (size, L) int64; ids below RANGES[0] are digits and the sign, the others levels of the wave."""
    digits = torch.randint(DIGITS, (size, BLOCKS, COPIED), generator=generator)
    sign = torch.full((size, BLOCKS, 1), SIGN)
    copied = torch.cat([digits, sign, digits], 2)  # (size, BLOCKS, 2 COPIED + 1)
    speed = 0.2 + 0.6 * torch.rand(size, 1, generator=generator)
    phase = 2 * math.pi * torch.rand(size, 1, generator=generator)
    wave = torch.sin(speed * torch.arange(BLOCKS * WAVE) + phase)
    levels = ((wave + 1) / 2 * LEVELS).long().clamp(0, LEVELS - 1) + RANGES[0]
    return torch.cat([copied, levels.unflatten(1, (BLOCKS, WAVE))], 2).flatten(1)


def build(shared: tuple[str, ...], seed: int, **sizes: Any) -> Any:
    """A model, drawn from a seed. Step sizes begin ten times as large as in models of text, for all alike."""
    torch.manual_seed(seed)
    settings = {"d_model": 32, "n_layer": 2, "d_state": 16, "dt_min": 0.01, "dt_max": 1.0, **sizes}
    return mambasdk.create_model(
        "mixture_of_mamba", modalities=NAMES, modality_ranges=RANGES, shared=shared, **settings
    )


def nats(model: Any, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """(cross entropy of each next token (B, L-1), whether it is of the wave)."""
    targets = tokens[:, 1:]
    logits = model(tokens[:, :-1], return_state=False).logits[..., : model.vocab_size]
    losses = functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
    return losses.view_as(targets), targets >= RANGES[0]


@torch.no_grad()
def measure(model: Any, tokens: Tensor) -> dict[str, float]:
    """Mean loss of each modality, and of the second half of each block of digits, which is told by the first."""
    losses, wave = nats(model.eval(), tokens)
    model.train()
    place = torch.arange(1, tokens.shape[1]).expand_as(wave) % (2 * COPIED + 1 + WAVE)
    told = ~wave & (place > COPIED)
    return {
        "digits": float(losses[~wave].mean()),
        "wave": float(losses[wave].mean()),
        "copied": float(losses[told].mean()),
        "all": float(losses.mean()),
    }


def train(model: Any, steps: int, batch: int, lr: float, seed: int, every: int) -> list[dict[str, float]]:
    """The held-out losses every so many steps; all models see the same streams in the same order."""
    generator = torch.Generator().manual_seed(1000 + seed)
    held_out = stream(128, torch.Generator().manual_seed(7))
    optimizer = torch.optim.AdamW(mambasdk.nn.parameter_groups(model, weight_decay=0.01), lr=lr)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 50))
    curve = []
    for step in range(steps + 1):
        if step % every == 0:
            curve.append({"step": float(step), **measure(model, held_out)})
        losses, _ = nats(model, stream(batch, generator))
        optimizer.zero_grad()
        losses.mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return curve


def reached(curve: list[dict[str, float]], name: str, loss: float) -> float:
    """The first measured step at which a loss is as low; infinite where it never is."""
    return next((point["step"] for point in curve if point[name] <= loss), math.inf)


def cost_of_a_step(pairs: int, width: int, length: int) -> dict[str, float]:
    """Milliseconds of processor time of forward and backward, dense and all apart in turn; medians."""
    sizes: dict[str, Any] = {"d_model": width, "n_layer": 1, "dt_min": 1e-3, "dt_max": 0.1}
    models = {name: build(MODELS[name], 0, **sizes) for name in (DENSE, "all apart")}
    repeats = -(-length // (BLOCKS * (2 * COPIED + 1 + WAVE)))
    rows = stream(4, torch.Generator().manual_seed(0)).repeat(1, repeats)[:, :length]
    times: dict[str, list[float]] = {name: [] for name in models}
    for turn in range(pairs + 2):
        for name in models if turn % 2 else reversed(models):
            start = time.process_time()
            nats(models[name], rows)[0].mean().backward()
            seconds = time.process_time() - start
            if turn > 1:
                times[name].append(1000 * seconds)
            models[name].zero_grad()
    ratios = [apart / dense for dense, apart in zip(times[DENSE], times["all apart"], strict=True)]
    return {
        "dense_ms": statistics.median(times[DENSE]),
        "all_apart_ms": statistics.median(times["all apart"]),
        "ratio": statistics.median(ratios),
    }


def draw(curves: dict[str, list[list[dict[str, float]]]], path: Path) -> None:
    """Held-out losses of both modalities over the steps, means of the seeds."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    panels = (("copied", "digits that were told before"), ("wave", "wave"))
    for axes, (name, title) in zip(figure.subplots(1, 2), panels, strict=True):
        for model, runs in curves.items():
            steps = [point["step"] for point in runs[0]]
            means = [statistics.mean(run[i][name] for run in runs) for i in range(len(steps))]
            axes.plot(steps, means, label=model, color="black" if model == DENSE else None, linewidth=1.6)
        axes.set_title(title)
        axes.set_xlabel("training steps")
        axes.set_ylabel("nats of a token, held out")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.25)
    figure.axes[0].legend(frameon=False)
    figure.savefig(path)


def main() -> None:
    """Train all, print the tables, write results.json and two_modalities.png."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--every", type=int, default=20, help="steps between measurements (default: 20)")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--pairs", type=int, default=15, help="timed steps of each model, 0 for none (default: 15)")
    parser.add_argument("--width", type=int, default=512, help="channels of the timed models (default: 512)")
    parser.add_argument("--length", type=int, default=256, help="tokens of a timed row (default: 256)")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # so that processor time is the time of a step
    curves: dict[str, list[list[dict[str, float]]]] = {}
    for name, shared in MODELS.items():
        start = time.perf_counter()
        curves[name] = [
            train(build(shared, seed), args.steps, args.batch, args.lr, seed, args.every) for seed in range(args.seeds)
        ]
        print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
    print("\nlosses in nats; the last three: steps to the dense model's last loss, of all steps\n")
    print("| model | parameters | digits | copied | wave | all | copied | wave | all |")
    print("|---|---|---|---|---|---|---|---|---|")
    rows = {}
    for name, runs in curves.items():
        last = {key: statistics.mean(run[-1][key] for run in runs) for key in ("digits", "copied", "wave", "all")}
        shares = {
            key: statistics.mean(
                reached(run, key, dense[-1][key]) for run, dense in zip(runs, curves[DENSE], strict=True)
            )
            / args.steps
            for key in ("copied", "wave", "all")
        }
        parameters = sum(parameter.numel() for parameter in build(MODELS[name], 0).parameters())
        rows[name] = {"parameters": parameters, **last, "steps_to_dense": shares}
        numbers = " | ".join(f"{value:.3f}" for value in last.values())
        print(f"| {name} | {parameters:,} | {numbers} | " + " | ".join(f"{v:.0%}" for v in shares.values()) + " |")
    costs = cost_of_a_step(args.pairs, args.width, args.length) if args.pairs else None
    if costs is not None:
        print(
            f"\na training step of 4 rows of {args.length} tokens, {args.width} channels, two blocks: dense "
            f"{costs['dense_ms']:.1f} ms, all apart {costs['all_apart_ms']:.1f} ms, ratio {costs['ratio']:.3f}"
        )
    said = {"arguments": {k: str(v) for k, v in vars(args).items()}, "models": rows, "step": costs, "curves": curves}
    (args.out / "results.json").write_text(json.dumps(said, indent=1))
    draw(curves, args.out / "two_modalities.png")


if __name__ == "__main__":
    main()
