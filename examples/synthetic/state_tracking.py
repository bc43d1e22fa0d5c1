"""State tracking and recall: Mamba-3 beside Mamba-2, on three tasks that need a state of different kinds.

- parity: after each bit, whether the ones so far are odd.
- sum: after each digit, the sum so far modulo 5.
- recall: pairs of a key and a value, then keys again, each to be answered with its value (MQAR, arXiv 2312.04927).

A decay alone cannot count: it forgets or adds up. Mamba-3 turns its state by angles that the data give, so a turn by pi
is a parity and one by 2 pi / 5 a digit modulo 5 (arXiv 2603.15569). The third model is Mamba-3 with its angles at 0.

    python examples/synthetic/state_tracking.py --plot accuracy.png

In 800 steps Mamba-3 alone learns parity: 1.00 at the trained length of 16 beside 0.51 of the other two, 0.93 at twice
that, chance beyond. The sums are learned by none in so few steps (0.22 at best; chance is 0.20), and recall by neither
Mamba-2 nor Mamba-3 (0.19 and 0.25 at the trained length; chance is 0.03).

Accuracy at lengths beyond the trained one shows whether a rule was learned or its first steps by heart. The table is of
the run itself, whatever comes out.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

import mambasdk

Batch = tuple[Tensor, Tensor]  # tokens and labels (B, L); -100 where nothing is asked
MODULUS = 5
KEYS, VALUES = 32, 32  # of the recall task
SHORTEST = 4  # length in training


def parity(size: int, length: int, generator: torch.Generator) -> Batch:
    """Bits, and the parity so far."""
    bits = torch.randint(2, (size, length), generator=generator)
    return bits, bits.cumsum(1) % 2


def modular_sum(size: int, length: int, generator: torch.Generator) -> Batch:
    """Digits, and their sum so far modulo 5."""
    digits = torch.randint(MODULUS, (size, length), generator=generator)
    return digits, digits.cumsum(1) % MODULUS


def recall(size: int, length: int, generator: torch.Generator) -> Batch:
    """Length / 4 pairs of a key and a value, then each key and its value once more in another order."""
    pairs = min(length // 4, KEYS)
    keys = torch.rand(size, KEYS, generator=generator).argsort(1)[:, :pairs]
    values = KEYS + torch.randint(VALUES, (size, pairs), generator=generator)
    again = torch.rand(size, pairs, generator=generator).argsort(1)
    asked, answers = keys.gather(1, again), values.gather(1, again)
    tokens = torch.cat([torch.stack([keys, values], 2), torch.stack([asked, answers], 2)], 1).flatten(1)
    labels = torch.full_like(tokens, -100)
    labels[:, 2 * pairs :: 2] = answers
    return tokens, labels


# Task -> how it is drawn, its vocabulary, layers, trained length, tested lengths.
TASKS: dict[str, tuple[Callable[..., Batch], int, int, int, tuple[int, ...]]] = {
    "parity": (parity, 2, 1, 16, (16, 32, 64, 128)),
    "sum": (modular_sum, MODULUS, 1, 16, (16, 32, 64, 128)),
    "recall": (recall, KEYS + VALUES, 2, 32, (16, 32, 64, 128)),
}
MODELS = ("mamba2", "mamba3", "mamba3 without rotation")


def build(name: str, vocabulary: int, layers: int, seed: int) -> Any:
    """A language model of D = 64 and N = 32. Steps begin ten times as large as in models of text, for all alike."""
    torch.manual_seed(seed)
    sizes: dict[str, Any] = {"d_model": 64, "d_state": 32, "headdim": 16, "vocab_size": vocabulary, "n_layer": layers}
    start = {"dt_min": 0.1, "dt_max": 1.0}
    return mambasdk.create_model(name.split(maxsplit=1)[0], tie_embeddings=False, **sizes, **start)


def hold_angles(model: Any) -> None:
    """Set the rates of the angles to 0: rows of the input projections."""
    with torch.no_grad():
        for layer in model.backbone.layers:
            layer.mixer.in_proj.weight[-layer.mixer.angles :] = 0


def train(name: str, task: str, *, steps: int, size: int, lr: float, seed: int) -> Any:
    """A model trained at lengths up to the task's."""
    draw, vocabulary, layers, length, _ = TASKS[task]
    generator = torch.Generator().manual_seed(seed)
    model = build(name, vocabulary, layers, seed)
    optimizer = torch.optim.AdamW(mambasdk.nn.parameter_groups(model, 0.01), lr=lr, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.1)
    bar = tqdm(range(steps), desc=f"{task}, {name}")
    for _ in bar:
        if "without" in name:
            hold_angles(model)
        shorter = int(torch.randint(SHORTEST, length + 1, (), generator=generator))
        loss = loss_of(model, *draw(size, shorter // 4 * 4, generator))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        bar.set_postfix_str(f"loss {loss.item():.4f}", refresh=False)
    if "without" in name:
        hold_angles(model)
    return model


def loss_of(model: Any, tokens: Tensor, labels: Tensor) -> Tensor:
    """Mean cross entropy where something is asked."""
    logits = model(tokens, return_state=False).logits[..., : model.vocab_size]
    return functional.cross_entropy(logits.flatten(0, 1), labels.flatten())


@torch.no_grad()
def accuracy(model: Any, task: str, length: int, count: int = 128) -> float:
    """Share of right answers in the second half of new sequences of this length."""
    tokens, labels = TASKS[task][0](count, length, torch.Generator().manual_seed(1 + length))
    found = model(tokens, return_state=False).logits[..., : model.vocab_size].argmax(-1)[:, length // 2 :]
    asked = labels[:, length // 2 :]
    return float((found == asked)[asked != -100].float().mean())


def table(result: dict[str, dict[str, dict[int, float]]]) -> str:
    """Accuracies as rows."""
    lines = []
    for task, models in result.items():
        lengths = TASKS[task][4]
        lines.append(f"{task:<26}" + "".join(f"{length:>8}" for length in lengths))
        lines += [f"  {name:<24}" + "".join(f"{found[n]:>8.3f}" for n in lengths) for name, found in models.items()]
    return "\n".join(lines)


def plot(path: Path, result: dict[str, dict[str, dict[int, float]]]) -> None:
    """Accuracy by length, one field for each task."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(result), figsize=(4 * len(result), 3.2), squeeze=False, layout="constrained")
    for axis, (task, models) in zip(axes[0], result.items(), strict=True):
        for name, found in models.items():
            axis.plot(list(found), list(found.values()), marker="o", label=name)
        axis.axvline(TASKS[task][3], color="grey", linewidth=0.8, linestyle=":")
        axis.set(title=task, xlabel="length (dotted: trained)", ylabel="accuracy", ylim=(0, 1.05), xscale="log")
        axis.set_xticks(list(found), [str(length) for length in found], minor=False)
        axis.minorticks_off()
    axes[0][0].legend(fontsize="small")
    figure.savefig(path, dpi=120)


def main(argv: list[str] | None = None) -> dict[str, dict[str, dict[int, float]]]:
    """Train every model on every task; print the table, and the accuracies as JSON in the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=5e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plot", type=Path, metavar="FILE", help="a picture of the accuracies")
    args = parser.parse_args(argv)
    start = time.perf_counter()
    result: dict[str, dict[str, dict[int, float]]] = {}
    for task in args.tasks:
        result[task] = {}
        for name in args.models:
            model = train(name, task, steps=args.steps, size=args.batch, lr=args.lr, seed=args.seed).eval()
            result[task][name] = {length: accuracy(model, task, length) for length in TASKS[task][4]}
    print(table(result))
    if args.plot:
        plot(args.plot, result)
    print(json.dumps({**result, "seconds": round(time.perf_counter() - start)}))
    return result


if __name__ == "__main__":
    main()
