"""Training: patches, folds, augmentation and precision; a run that goes on gives the bits of one that never stopped."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mambasdk.errors import InvalidArgumentError, MissingDependencyError
from mambasdk.training import TrainingOptions
from mambasdk_medical.config import MedicalConfig
from mambasdk_medical.data import Labels
from mambasdk_medical.model import MedicalSegmenter
from mambasdk_medical.preprocessing.store import PreparedCase, foreground_locations
from mambasdk_medical.training.augmentation import Augmentation
from mambasdk_medical.training.folds import fold, splits
from mambasdk_medical.training.patches import PatchSampler
from mambasdk_medical.training.scaling import GradientScaling
from mambasdk_medical.training.task import MedicalSegmentation, MedicalTrainer

LABELS = Labels.parse({"background": 0, "a": 1, "b": 2})
OPTIONS = TrainingOptions(
    steps=4, batch=3, lr=1e-2, warmup=0.0, optimizer="sgd", momentum=0.9, weight_decay=0.0, clip=12
)


class Net(nn.Module, MedicalSegmenter):
    """Two convolutions and a coarser output."""

    def __init__(self, patch: tuple[int, ...] = (8, 8), classes: int = 3) -> None:
        super().__init__()
        self.config = MedicalConfig(patch, 1, classes)
        kind = nn.Conv2d if len(patch) == 2 else nn.Conv3d
        self.first, self.last = kind(1, 6, 3, padding=1), kind(6, classes, 1)
        self.coarse = kind(6, classes, 2, 2)

    def forward(self, image: Tensor) -> Tensor:
        found: Tensor = self.last(self.first(image).relu())
        return found

    def training_outputs(self, image: Tensor) -> list[Tensor]:
        hidden = self.first(image).relu()
        return [self.last(hidden), self.coarse(hidden), self.coarse(hidden)[..., ::2, ::2]]


def _case(name: str, shape: tuple[int, ...] = (4, 20, 22), seed: int = 0, known: Labels = LABELS) -> PreparedCase:
    labels = np.zeros(shape, np.int16)
    labels[..., 3:9, 4:12], labels[..., 12:15, 2:6] = 1, 2
    noise = np.random.default_rng(seed).normal(size=shape)
    image = (2 * labels + 0.3 * noise).astype(np.float32)[None]
    return PreparedCase(name, image, labels, foreground_locations(labels, known))


def test_forced_patches_show_a_class_and_lie_within_the_image() -> None:
    sampler = PatchSampler([_case("x")], (2, 6, 6), LABELS)
    chance = np.random.default_rng(0)
    seen: set[int] = set()
    for _ in range(40):
        image, labels = sampler.draw(chance, sampler.cases[0], forced=True)
        assert image.shape == (1, 2, 6, 6)
        assert labels.any()
        np.testing.assert_allclose(image[0].round() / 2, labels, atol=1.1)
        seen |= set(np.unique(labels).tolist())
    assert seen == {0, 1, 2}
    assert [sampler.is_forced(row, 6) for row in range(6)] == [False] * 4 + [True] * 2
    assert [sampler.is_forced(row, 2) for row in range(2)] == [False, True]


@pytest.mark.parametrize("forced", [False, True])
def test_an_image_smaller_than_the_patch_lies_in_its_middle(forced: bool) -> None:
    case = _case("x")
    sampler = PatchSampler([case], (9, 30, 16), LABELS)
    image, labels = sampler.draw(np.random.default_rng(0), case, forced=forced)
    assert image.shape == (1, 9, 30, 16)
    np.testing.assert_array_equal(labels[2:6, 5:25].any((0, 1)), labels.any((0, 1)))
    assert not image[0, :2].any()
    assert not image[0, 6:].any()
    ignoring = Labels.parse({"background": 0, "a": 1, "b": 2, "ignore": 3})
    _, labels = PatchSampler([case], (9, 30, 16), ignoring).draw(np.random.default_rng(0), case, forced=forced)
    assert (labels[:2] == 3).all()


def test_slices_of_a_volume_are_patches_of_two_axes() -> None:
    case = _case("x")
    sampler = PatchSampler([case], (10, 12), LABELS)
    image, labels = sampler.draw(np.random.default_rng(0), case, forced=True)
    assert (image.shape, labels.shape) == ((1, 10, 12), (10, 12))
    assert labels.any()


def test_a_case_without_foreground_gives_patches_from_anywhere() -> None:
    case = dataclasses.replace(_case("x"), locations={})
    image, _ = PatchSampler([case], (2, 6, 6), LABELS).draw(np.random.default_rng(0), case, forced=True)
    assert image.shape == (1, 2, 6, 6)


def test_patches_of_partly_annotated_cases_show_something_annotated() -> None:
    known = Labels.parse({"background": 0, "a": 1, "ignore": 2})
    labels = np.full((4, 40, 40), 2, np.int16)
    labels[1, 30:34, 30:34] = 0
    case = PreparedCase("x", np.zeros((1, 4, 40, 40), np.float32), labels, foreground_locations(labels, known))
    for seed in range(10):
        _, found = PatchSampler([case], (2, 6, 6), known).draw(np.random.default_rng(seed), case, forced=False)
        assert (found != 2).any()


def test_five_folds_hold_every_case_out_once(tmp_path: Path) -> None:
    names = [f"c{i:02d}" for i in range(13)]
    made = splits(names)
    assert len(made) == 5
    assert sorted(name for one in made for name in one["val"]) == names
    assert all(sorted(one["train"] + one["val"]) == names for one in made)
    assert fold(tmp_path, names, "2") == (made[2]["train"], made[2]["val"])
    assert (tmp_path / "splits_final.json").is_file()
    assert fold(tmp_path, names, "all") == (names, names)
    assert splits(["only"]) == [{"train": ["only"], "val": ["only"]}]
    assert len(splits(["a", "b"])) == 2
    for which in ("5", "x"):
        with pytest.raises(InvalidArgumentError, match="no such fold"):
            fold(tmp_path, names, which)
    with pytest.raises(InvalidArgumentError, match="not preprocessed: c12"):
        fold(tmp_path, names[:-1], "2" if "c12" in made[2]["val"] + made[2]["train"] else "0")


@pytest.mark.parametrize("patch", [(24, 20), (12, 16, 14), (4, 20, 24)])
def test_augmentation_is_a_function_of_the_seed_and_keeps_labels(patch: tuple[int, ...]) -> None:
    change = Augmentation(patch)
    assert all(cut >= extent for cut, extent in zip(change.cut_size, patch, strict=True))
    chance = np.random.default_rng(0)
    labels = (chance.random(change.cut_size) < 0.3).astype(np.int16)
    image = (10.0 * labels)[None].astype(np.float32)
    np.random.seed(5)
    before = (np.random.random(), torch.rand(1))
    np.random.seed(5)
    first = np.random.random()
    made = [change(image, labels, (7, step)) for step in (0, 1, 0, 2, 3)]
    assert before[0] == first
    torch.testing.assert_close(made[0][0], made[2][0], rtol=0, atol=0)
    assert torch.equal(made[0][1], made[2][1])
    assert any(not torch.equal(made[0][0], other[0]) for other in made[1:])
    for pixels, found in made:
        assert pixels.shape == (1, *patch)
        assert found.shape == patch
        assert set(found.unique().tolist()) <= {0, 1}
        assert torch.isfinite(pixels).all()


def test_augmentation_that_only_mirrors_moves_image_and_labels_together() -> None:
    """Wherever no transform but the mirror struck, the image is still ten times its labels."""
    change = Augmentation((16, 16))
    labels = (np.random.default_rng(0).random(change.cut_size) < 0.3).astype(np.int16)
    image = (10.0 * labels)[None].astype(np.float32)
    untouched = 0
    for step in range(40):
        pixels, found = change(image, labels, (step,))
        if set(pixels.unique().tolist()) <= {0.0, 10.0}:
            untouched += 1
            torch.testing.assert_close(pixels[0], 10.0 * found)
    assert untouched > 3


def test_augmentation_names_its_library_where_it_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "batchgeneratorsv2", None)
    for name in [name for name in __import__("sys").modules if name.startswith("batchgeneratorsv2.")]:
        monkeypatch.setitem(__import__("sys").modules, name, None)
    with pytest.raises(MissingDependencyError, match="--no-augmentation"):
        Augmentation((8, 8))


def _task(model: Any, **settings: Any) -> MedicalSegmentation:
    cases = [_case(f"c{i}", seed=i) for i in range(3)]
    defaults: dict[str, Any] = {"batch": 3, "seed": 1, "validation": 4}
    return MedicalSegmentation(model, cases[:2], cases[2:], LABELS, **{**defaults, **settings})


def _net(patch: tuple[int, ...] = (8, 8)) -> Net:
    torch.manual_seed(0)
    return Net(patch)


@pytest.mark.parametrize("amp", [None, "float16"])
def test_a_resumed_run_gives_the_same_bits(tmp_path: Path, amp: str | None) -> None:
    def trainer(model: Net, steps: int) -> MedicalTrainer:
        task = _task(model, augmentation=Augmentation((8, 8)), amp=amp)
        return MedicalTrainer(model, task, dataclasses.replace(OPTIONS, steps=steps))

    whole, half = _net(), _net()
    trainer(whole, 4).run(evaluate_every=2, progress=False)
    first = trainer(half, 4)
    first.run(evaluate_every=2, progress=False, stop=lambda: first.result.steps >= 1)
    first.save(tmp_path / "checkpoint")
    again = _net()
    second = trainer(again, 4)
    second.resume(tmp_path / "checkpoint")
    second.run(evaluate_every=2, progress=False)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name


def test_the_rate_falls_by_the_poly_schedule() -> None:
    trainer = MedicalTrainer(net := _net(), _task(net), OPTIONS)
    assert [trainer.learning_rate(share) for share in (0.0, 0.5, 1.0)] == pytest.approx([1e-2, 1e-2 * 0.5**0.9, 0.0])


@pytest.mark.parametrize("amp", [None, "float16"])
def test_it_learns(amp: str | None) -> None:
    net = _net()
    task = _task(net, amp=amp)
    trainer = MedicalTrainer(net, task, dataclasses.replace(OPTIONS, steps=60, lr=0.1))
    before = task.evaluate()["dice"]
    trainer.run(progress=False)
    after = trainer.evaluate()
    assert after["dice"] > max(before, 0.8)
    assert set(after) == {"dice", "ema_dice", "loss", "dice a", "dice b"}


def test_the_average_of_pseudo_dice_moves_by_a_tenth() -> None:
    task = _task(_net())
    first = task.evaluate()
    assert first["ema_dice"] == first["dice"]
    with torch.no_grad():
        task.model.last.bias[0] += 100
    second = task.evaluate()
    assert second["dice"] == 0
    assert second["ema_dice"] == pytest.approx(0.9 * first["dice"])


def test_scaled_gradients_are_the_plain_ones_and_an_overflow_is_left_out() -> None:
    def gradients(scaling: GradientScaling | None, net: nn.Module, factor: float = 1.0) -> list[Tensor]:
        net.zero_grad()
        logits = net(torch.linspace(-1, 1, 12).view(3, 4))
        logits = logits if scaling is None else scaling.scaled(logits)
        (factor * logits.square().mean()).backward()
        return [parameter.grad.clone() for parameter in net.parameters() if parameter.grad is not None]

    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))
    plain = gradients(None, net)
    scaling = GradientScaling(net)
    for mine, theirs in zip(gradients(scaling, net), plain, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=0)
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    scaling.watch(optimizer)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    gradients(scaling, net, float("inf"))
    optimizer.step()
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert (scaling.scale, scaling.good_steps) == (2.0**15, 0)
    gradients(scaling, net)
    optimizer.step()
    assert any(not torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert scaling.good_steps == 1
    scaling.scale = 2.0**-10
    gradients(scaling, net, float("inf"))
    with pytest.raises(InvalidArgumentError, match="bfloat16"):
        optimizer.step()
