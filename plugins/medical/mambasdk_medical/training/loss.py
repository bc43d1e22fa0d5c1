"""Dice and cross entropy as nnU-Net trains with them, for labels, regions, an ignored label and coarser outputs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from mambasdk_medical.data.labels import Labels

_SMOOTH = 1e-5
_LEAST = 1e-8  # of Dice's denominator


def soft_dice(probabilities: Tensor, target: Tensor, mask: Tensor | None = None, *, batch: bool = False) -> Tensor:
    """Mean Dice of the channels of float32 (B, C, *S), targets of the same shape, over `mask` (B, 1, *S).

    batch: sums over the whole batch; else of each sample. (2 Σpy + 1e-5) / max(Σp + Σy + 1e-5, 1e-8).
    """
    axes = tuple(range(2, probabilities.ndim))
    if batch:
        axes = (0, *axes)
    if mask is not None:
        probabilities, target = probabilities * mask, target * mask
    overlap = (probabilities * target).sum(axes)
    size = probabilities.sum(axes) + target.sum(axes)
    return ((2 * overlap + _SMOOTH) / (size + _SMOOTH).clamp(min=_LEAST)).mean()


class DiceCrossEntropy(nn.Module):
    """Cross entropy minus Dice of the foreground; with regions binary cross entropy minus Dice of every region.

    labels: of the data set. batch_dice: Dice of the batch as a whole. Voxels of the ignore label count in neither.
    Computes in float32 whatever the logits are. Source: arXiv 1904.08128; nnU-Net v2's DC_and_CE and DC_and_BCE.
    """

    def __init__(self, labels: Labels, *, batch_dice: bool = False) -> None:
        super().__init__()
        self.labels = labels
        self.batch_dice = batch_dice
        self._regions = list(labels.foreground.values())

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """logits: (B, channels, *S); target: integers (B, *S), the data set's values. A float32 scalar."""
        logits, target = logits.float(), target.long()
        ignore = self.labels.ignore
        known = None if ignore is None else target != ignore
        mask = None if known is None else known[:, None].float()
        if self.labels.has_regions:
            return self._of_regions(logits, target, mask)
        clean = target if known is None else torch.where(known, target, 0)
        spread = functional.one_hot(clean, logits.shape[1]).movedim(-1, 1).float()
        dice = soft_dice(logits.softmax(1)[:, 1:], spread[:, 1:], mask, batch=self.batch_dice)
        if known is None:
            return functional.cross_entropy(logits, target) - dice
        each = functional.cross_entropy(logits, clean, reduction="none")
        return (each * known).sum() / known.sum().clamp(min=1) - dice

    def _of_regions(self, logits: Tensor, target: Tensor, mask: Tensor | None) -> Tensor:
        spread = torch.stack(
            [torch.isin(target, torch.tensor(values, device=target.device)) for values in self._regions], 1
        ).float()
        dice = soft_dice(logits.sigmoid(), spread, mask, batch=self.batch_dice)
        if mask is None:
            return functional.binary_cross_entropy_with_logits(logits, spread) - dice
        each = functional.binary_cross_entropy_with_logits(logits, spread, reduction="none")
        return (each * mask).sum() / (mask.sum() * logits.shape[1]).clamp(min=1) - dice


def level_weights(count: int) -> list[float]:
    """Weights of outputs of falling resolution: 1, 1/2, 1/4, …, the last 0 (unless it is the only one), in sum 1."""
    if count == 1:
        return [1.0]
    weights = [2.0**-level for level in range(count - 1)]
    return [weight / sum(weights) for weight in weights] + [0.0]


def supervised_loss(loss: DiceCrossEntropy, outputs: Sequence[Tensor], target: Tensor) -> Tensor:
    """Weighted sum over outputs (B, C, *size), full resolution first; target (B, *S) is taken at the nearest voxels."""
    total = outputs[0].new_zeros((), dtype=torch.float32)
    for weight, logits in zip(level_weights(len(outputs)), outputs, strict=True):
        if weight:
            total = total + weight * loss(logits, nearest(target, logits.shape[2:]))
    return total


def nearest(target: Tensor, size: Sequence[int]) -> Tensor:
    """Labels (B, *S) at the voxel nearest to the centre of each voxel of a coarser grid (B, *size)."""
    if tuple(target.shape[1:]) == tuple(size):
        return target
    return functional.interpolate(target[:, None].float(), tuple(size), mode="nearest-exact")[:, 0].to(target.dtype)
