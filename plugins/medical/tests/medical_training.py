"""Training that tests of several families do: many steps of mixed precision, all of them finite."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.nn import functional

STEPS = 200


def train_in_mixed_precision(model: Any, dtype: torch.dtype, *, steps: int = STEPS) -> list[float]:
    """Losses of AdamW's steps under autocast; fails at the first loss or gradient that is not finite.

    A segmenter (outputs (B, classes, *S)) or a classifier ((B, classes)) learns the labels of two images of noise. The
    loss of float16 is scaled by a constant power of two, as trainers scale it. The last losses are below the first.
    """
    generator = torch.Generator().manual_seed(5)
    image = model.example_inputs()["image"]
    scale = 2.0**10 if dtype == torch.float16 else 1.0
    run = getattr(model, "training_outputs", None) or (lambda image: [model(image)])
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    targets: list[torch.Tensor] = []
    losses = []
    for step in range(steps):
        torch.manual_seed(step)  # of dropped paths
        with torch.autocast("cpu", dtype=dtype):
            outputs = run(image)
        if not targets:
            targets = [
                torch.randint(max(one.shape[1], 2), (one.shape[0], *one.shape[2:]), generator=generator)
                for one in outputs
            ]
        loss = torch.stack([_loss(one.float(), target) for one, target in zip(outputs, targets, strict=True)]).mean()
        optimizer.zero_grad()
        (loss * scale).backward()
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                assert bool(parameter.grad.isfinite().all()), f"step {step}: gradient of {name}"
                parameter.grad /= scale
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
        assert math.isfinite(losses[-1]), f"step {step}: loss {losses[-1]}"
    assert min(losses[-10:]) < losses[0], losses
    return losses


def _loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    if logits.shape[1] == 1:
        return functional.binary_cross_entropy_with_logits(logits[:, 0], target.to(logits))
    return functional.cross_entropy(logits, target)
