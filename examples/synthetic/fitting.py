"""What the studies of this folder share: how a model is trained, and how accuracies are shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

import mambasdk

Batch = tuple[Tensor, Tensor]  # tokens and labels (B, L); -100 where nothing is asked
Accuracies = dict[str, dict[str, dict[int, float]]]  # task -> model -> length or size -> share of right answers


def fit(model: nn.Module, loss: Callable[[], Tensor], *, steps: int, lr: float, decay: float, name: str) -> None:
    """AdamW on what `loss` gives, one call a step; the rate rises for a tenth of the steps, then falls."""
    optimizer = torch.optim.AdamW(mambasdk.nn.parameter_groups(model, decay), lr=lr, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.1)
    bar = tqdm(range(steps), desc=name)
    for _ in bar:
        value = loss()
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        bar.set_postfix_str(f"loss {value.item():.4f}", refresh=False)


def logits_of(model: Any, tokens: Tensor) -> Tensor:
    """(B, L) -> (B, L, vocab_size)."""
    logits: Tensor = model(tokens, return_state=False).logits[..., : model.vocab_size]
    return logits


def loss_of(model: Any, tokens: Tensor, labels: Tensor) -> Tensor:
    """Mean cross entropy where something is asked."""
    return functional.cross_entropy(logits_of(model, tokens).flatten(0, 1), labels.flatten())


@torch.no_grad()
def accuracy(model: Any, tokens: Tensor, labels: Tensor, span: int = 1) -> float:
    """Share of right answers where something is asked; each answer is `span` labels, all of which must be right."""
    asked = labels != -100
    right = (logits_of(model, tokens).argmax(-1) == labels)[asked]
    return float(right.view(-1, span).all(1).float().mean())


def table(result: Accuracies) -> str:
    """Accuracies as rows."""
    lines = []
    for task, models in result.items():
        places = next(iter(models.values()))
        lines.append(f"{task:<26}" + "".join(f"{place:>8}" for place in places))
        lines += [f"  {name:<24}" + "".join(f"{found[n]:>8.3f}" for n in places) for name, found in models.items()]
    return "\n".join(lines)


def draw(axis: Any, task: str, models: Mapping[str, Mapping[int, float]], trained: int, along: str) -> None:
    """Accuracy by length or size into one field of a picture; a dotted line at the largest that was trained."""
    for name, found in models.items():
        axis.plot(list(found), list(found.values()), marker="o", label=name)
    axis.axvline(trained, color="grey", linewidth=0.8, linestyle=":")
    axis.set(title=task, xlabel=f"{along} (dotted: trained)", ylabel="accuracy", ylim=(0, 1.05), xscale="log")
    places = next(iter(models.values()))
    axis.set_xticks(list(places), [str(place) for place in places], minor=False)
    axis.minorticks_off()


def plot(path: Path, result: Accuracies, trained: int, along: str = "length") -> None:
    """Accuracy by length, one field for each task."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4 * len(result), 3.2), dpi=120, layout="constrained")
    axes = figure.subplots(1, len(result), squeeze=False)[0]
    for axis, (task, models) in zip(axes, result.items(), strict=True):
        draw(axis, task, models, trained, along)
    axes[0].legend(fontsize="small")
    figure.savefig(path)
