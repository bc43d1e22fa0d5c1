"""Training of a tiny model under autocast, whose losses, gradients and weights have to stay finite."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def train(model: Any, dtype: torch.dtype, steps: int = 200) -> list[float]:
    """The losses of `steps` steps with Adam towards labels of the image's brightness, cross entropy in float32."""
    torch.manual_seed(0)
    model.train()
    config = model.config
    size = (2, config.in_channels, *config.patch_size)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    narrow = dtype == torch.float16  # steps whose scaled gradients overflow are left out, as always in float16
    scaler = torch.amp.GradScaler("cpu", enabled=narrow)
    losses = []
    for _ in range(steps):
        image = 4 * torch.randn(size)
        with torch.autocast("cpu", dtype):
            logits = model(image)
            loss = functional.cross_entropy(logits.float(), _labels(image, logits))
        optimizer.zero_grad()
        scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 12.0, error_if_nonfinite=not narrow)
        scaler.step(optimizer)
        scaler.update()
        losses.append(float(loss.detach()))
    assert all(math.isfinite(loss) for loss in losses)
    assert all(bool(parameter.isfinite().all()) for parameter in model.parameters())
    return losses


def _labels(image: Tensor, logits: Tensor) -> Tensor:
    """Class 1 where it is brighter than 0, else 0: of each voxel, or of the whole."""
    bright = image[:, 0] if logits.ndim == image.ndim else image[:, 0].flatten(1).mean(1)
    return (bright > 0).long()
