"""The loss: the authors' recorded values, and plain loops where none were recorded."""

from __future__ import annotations

import math

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from mambasdk.testing import golden
from mambasdk_medical.data.labels import Labels
from mambasdk_medical.training.loss import DiceCrossEntropy, level_weights, nearest, supervised_loss

FOUR = Labels.parse({"background": 0, "a": 1, "b": 2, "c": 3})
REGIONS = Labels.parse({"background": 0, "whole": [1, 2], "core": [2], "ignore": 3}, [1, 2])


@pytest.mark.golden
@pytest.mark.parametrize("batch_dice", [False, True])
def test_the_recorded_losses(batch_dice: bool) -> None:
    """Cross entropy plus one minus Dice there; ours is without that one."""
    tensors = load_file(golden.folder_or_skip("nnunet-runtime") / "io.safetensors")
    loss = DiceCrossEntropy(FOUR, batch_dice=batch_dice)
    name = f"loss.batch_dice_{batch_dice}"
    logits = [tensors[f"loss.logits{level}"] for level in range(3)]
    targets = [tensors[f"loss.target{level}"][:, 0] for level in range(3)]
    found = torch.stack([loss(*pair) for pair in zip(logits, targets, strict=True)])
    torch.testing.assert_close(found, tensors[f"{name}.per_level"], rtol=1e-6, atol=1e-6)
    total = sum(weight * value for weight, value in zip(level_weights(3), found, strict=True))
    torch.testing.assert_close(total, tensors[f"{name}.deep_supervision"][0], rtol=1e-6, atol=1e-6)


def _loops(logits: Tensor, target: Tensor, batch: bool) -> float:
    """Regions with an ignored label, voxel by voxel in float64."""
    entropy, count, dices = 0.0, 0, []
    sums: dict[tuple[int, int], list[float]] = {}
    for sample in range(len(logits)):
        for channel, values in enumerate(REGIONS.foreground.values()):
            row = sums.setdefault((0 if batch else sample, channel), [0.0, 0.0, 0.0])
            for logit, label in zip(
                logits[sample, channel].flatten().tolist(), target[sample].flatten().tolist(), strict=True
            ):
                if label == REGIONS.ignore:
                    continue
                p, y = 1 / (1 + math.exp(-logit)), float(label in values)
                entropy -= math.log(p) if y else math.log(1 - p)
                count += 1
                row[0] += p * y
                row[1] += p
                row[2] += y
    dices = [(2 * o + 1e-5) / max(p + y + 1e-5, 1e-8) for o, p, y in sums.values()]
    return entropy / count - sum(dices) / len(dices)


@pytest.mark.parametrize("batch_dice", [False, True])
def test_regions_and_the_ignored_label_against_loops(batch_dice: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 2, 3, 4, 5, generator=generator)
    target = torch.randint(0, 4, (2, 3, 4, 5), generator=generator)
    found = DiceCrossEntropy(REGIONS, batch_dice=batch_dice)(logits, target)
    assert abs(float(found) - _loops(logits, target, batch_dice)) < 1e-5


def test_ignored_voxels_move_nothing() -> None:
    labels = Labels.parse({"background": 0, "a": 1, "ignore": 2})
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 2, 6, 6, generator=generator, requires_grad=True)
    target = torch.randint(0, 3, (2, 6, 6), generator=generator)
    loss = DiceCrossEntropy(labels)
    loss(logits, target).backward()
    assert logits.grad is not None
    ignored = (target == 2)[:, None].expand_as(logits)
    assert not logits.grad[ignored].any()
    assert logits.grad[~ignored].all()
    # Nothing annotated at all is a loss too.
    assert torch.isfinite(loss(logits, torch.full_like(target, 2)))
    # Where nothing is ignored, the label changes nothing.
    whole = target % 2
    plain = DiceCrossEntropy(Labels.parse({"background": 0, "a": 1}))
    torch.testing.assert_close(loss(logits, whole), plain(logits, whole))


def test_weights_of_levels() -> None:
    assert level_weights(1) == [1.0]
    assert level_weights(2) == [1.0, 0.0]
    assert level_weights(4) == [4 / 7, 2 / 7, 1 / 7, 0.0]


def test_coarser_targets_are_the_voxels_at_the_centres() -> None:
    target = torch.arange(2 * 6 * 8).view(2, 6, 8)
    found = nearest(target, (3, 4))
    assert torch.equal(found, target[:, 1::2, 1::2])
    assert nearest(target, (6, 8)) is target


def test_a_perfect_answer_has_the_least_loss() -> None:
    target = torch.randint(0, 4, (2, 8, 8), generator=torch.Generator().manual_seed(0))
    sure = 50.0 * torch.nn.functional.one_hot(target, 4).movedim(-1, 1)
    found = supervised_loss(DiceCrossEntropy(FOUR), [sure], target)
    assert abs(float(found) + 1) < 1e-4


def test_half_precision_is_computed_in_float32() -> None:
    """512 voxels of Dice alone overflow nothing, and the loss comes as float32."""
    target = torch.zeros(1, 64, 64, dtype=torch.int64)
    logits = torch.full((1, 4, 64, 64), 30000.0, dtype=torch.float16)
    found = DiceCrossEntropy(FOUR)(logits, target)
    assert found.dtype == torch.float32
    assert torch.isfinite(found)
