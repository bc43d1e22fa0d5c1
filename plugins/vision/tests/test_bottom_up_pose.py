"""DEKR: its adaptive convolution, targets that decode to the people they are of, decoding, and training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_pose_training import NAMES, call, data  # noqa: F401 (a fixture)
from torch import Tensor
from torch.nn import functional

import mambasdk
from mambasdk.models import import_checkpoint
from mambasdk.pipeline import load_pipeline
from mambasdk.testing.golden import scatter
from mambasdk_vision import BottomUpPose, PersonCrop
from mambasdk_vision.families.dekr import AdaptiveBlock
from mambasdk_vision.pose.coco import read_coco
from mambasdk_vision.pose.targets import bottom_up_loss, centre_targets


def by_grid_sample(block: AdaptiveBlock, x: Tensor) -> Tensor:
    """The block's definition: every tap of every group sampled by itself."""
    batch, channels, height, width = x.shape
    groups, each = block.groups, channels // block.groups
    affine = block.transform_matrix_conv(x).view(batch, groups, 2, 3, height, width)
    rows, columns = torch.arange(height).view(1, -1, 1), torch.arange(width).view(1, 1, -1)
    out = torch.zeros_like(x)
    for group in range(groups):
        own = slice(group * each, (group + 1) * each)
        for ty in (-1, 0, 1):
            for tx in (-1, 0, 1):
                y, x_ = (affine[:, group, axis] for axis in (0, 1))
                down = rows + ty + y[:, 0] * ty + y[:, 1] * tx + y[:, 2]
                across = columns + tx + x_[:, 0] * ty + x_[:, 1] * tx + x_[:, 2]
                grid = torch.stack([(2 * across + 1) / width - 1, (2 * down + 1) / height - 1], -1)
                sample = functional.grid_sample(x[:, own], grid, align_corners=False)
                out[:, own] += torch.einsum("bchw,oc->bohw", sample, block.adapt_conv.weight[own, :, ty + 1, tx + 1])
    return functional.relu(block.norm(out) + x)


@pytest.mark.parametrize(("channels", "groups", "size"), [(6, 3, (5, 7)), (4, 1, (1, 6)), (10, 5, (8, 3))])
def test_adaptive_convolution_is_its_definition(channels: int, groups: int, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    block: Any = scatter(AdaptiveBlock(channels, groups), 1, 0.4).double().eval()
    x = torch.randn(2, channels, *size, dtype=torch.float64, requires_grad=True)
    found, expected = block(x), by_grid_sample(block, x)
    torch.testing.assert_close(found, expected)
    cotangent = torch.randn_like(found)
    inputs = [x, *block.parameters()]
    for a, b in zip(
        torch.autograd.grad(found, inputs, cotangent), torch.autograd.grad(expected, inputs, cotangent), strict=True
    ):
        torch.testing.assert_close(a, b)


def test_an_untrained_block_is_nearly_a_plain_convolution() -> None:
    block = AdaptiveBlock(6, 3).eval()
    with torch.no_grad():
        block.transform_matrix_conv.weight.zero_()
        x = torch.randn(1, 6, 5, 4)
        plain = functional.conv2d(x, block.adapt_conv.weight, padding=1, groups=3)
        torch.testing.assert_close(block(x), torch.relu(block.norm(plain) + x))


def people(seed: int, count: int, size: tuple[int, int]) -> Tensor:
    """People side by side, (count, 5, 3), x and y in pixels of a map."""
    chance = np.random.default_rng(seed)
    room = size[1] / count
    points = chance.uniform([0.15 * room, 3], [0.85 * room, size[0] - 3], (count, 5, 2))
    points[..., 0] += room * np.arange(count)[:, None]
    return torch.from_numpy(np.concatenate([points, np.full((count, 5, 1), 2.0)], 2))


@pytest.mark.parametrize("seed", range(4))
def test_targets_decode_to_the_people_they_are_of(seed: int) -> None:
    truth = people(seed, 3, (33, 75))
    maps, _, moves, _ = centre_targets([truth], (33, 75), (4.0, 2.0))
    found = BottomUpPose(stride=1)(maps.float().numpy(), moves.float().numpy())
    order = np.argsort(found["keypoints"][..., 0].mean(1))
    np.testing.assert_allclose(found["keypoints"][order][..., :2], truth[..., :2], atol=1e-3)
    assert (found["scores"] > 0.7).all()
    assert len(found["json"]["people"]) == 3
    two = BottomUpPose(stride=1, max_people=2)(maps.float().numpy(), moves.float().numpy())  # of the clearest centres
    assert len(two["keypoints"]) == 2
    assert all(any(np.array_equal(one, other) for other in found["keypoints"]) for one in two["keypoints"])


def test_losses_are_zero_at_the_targets_alone() -> None:
    truth = people(5, 2, (20, 30))
    truth[0, 1, 2] = 0  # not annotated
    targets = centre_targets([truth, truth[:0]], (20, 30), (4.0, 2.0))
    maps, weights, moves, move_weights = targets
    assert maps.shape == weights.shape == (2, 6, 20, 30)
    assert moves.shape == move_weights.shape == (2, 10, 20, 30)
    assert float(bottom_up_loss(maps, moves, targets)) == 0
    assert sorted(weights.unique().tolist()) == pytest.approx([0.1, 1.0])
    assert not maps[1].any()
    assert not move_weights[1].any()
    assert (move_weights[0, :2] > 0).any()
    left = move_weights[0, 2:4, :, :12]  # the first person's second keypoint
    assert not left.any()
    far = bottom_up_loss(maps, moves + 2.0 * (move_weights == 0), targets)
    assert float(far) == 0  # where no displacement is asked for
    expected = 0.004 * float(((1 - 1 / 18) * move_weights)[move_weights > 0].mean())
    assert float(bottom_up_loss(maps, moves + 1, targets)) == pytest.approx(expected, rel=1e-5)


def test_the_same_person_is_found_once() -> None:
    """Two centres whose keypoints nearly agree are one person; with a distance of 0 they are two."""
    maps, moves = np.zeros((1, 4, 9, 20), np.float32), np.zeros((1, 6, 9, 20), np.float32)
    maps[0, :3] = 1
    targets = np.array([[2, 1], [10, 7], [17, 2]], float)
    for x, score in ((5, 0.9), (12, 0.6)):
        maps[0, 3, 4, x] = score
        for k, (u, v) in enumerate(targets):
            moves[0, 2 * k : 2 * k + 2, 4, x] = u + 0.2 * (x == 12) - x, v - 4
    affine = np.array([[2.0, 0, 5, 0, 3, -1]])
    once = BottomUpPose(stride=4)(maps, moves, crops={"affines": affine})
    expected = np.c_[2 * 4 * targets[:, 0] + 5, 3 * 4 * targets[:, 1] - 1, [0.9] * 3]
    np.testing.assert_allclose(once["keypoints"], expected[None], rtol=1e-6)
    np.testing.assert_allclose(once["boxes"], [[21, 11, 141, 83]])
    both = BottomUpPose(nms_distance=0.0)(maps, moves)
    np.testing.assert_allclose(both["scores"], [0.9, 0.6], rtol=1e-6)
    none = BottomUpPose(center_threshold=0.95)(maps, moves)
    assert none["json"]["people"] == []


def test_bottom_up_maps_that_are_no_numbers_and_wrong_shapes() -> None:
    head = BottomUpPose(names=["a", "b"])
    chance = np.random.default_rng(0)
    maps = chance.normal(size=(1, 3, 5, 6)).astype(np.float32)
    moves = chance.normal(size=(1, 4, 5, 6)).astype(np.float32)
    for value in (np.nan, np.inf, -np.inf, 3e38):
        bad = maps.copy()
        bad[chance.random(maps.shape) < 0.3] = value
        wild = moves.copy()
        wild[chance.random(moves.shape) < 0.3] = value
        for found in (head(bad, moves), head(maps, wild), head(bad, wild)):
            json.dumps(found["json"])
            assert np.isfinite(found["keypoints"][..., :2]).all() or value == 3e38
    assert head(np.zeros((1, 3, 0, 0), np.float32), np.zeros((1, 4, 0, 0), np.float32))["json"]["people"] == []
    with pytest.raises(ValueError, match=r"heatmaps: expected f32 \(1, K \+ 1, h, w\), got \(2, 3, 5, 6\)"):
        head(np.repeat(maps, 2, 0), moves)
    with pytest.raises(ValueError, match=r"displacements: expected \(1, 4, 5, 6\), got \(1, 2, 5, 6\)"):
        head(maps, moves[:, :2].copy())
    with pytest.raises(ValueError, match="2 names for 1 keypoints"):
        head(maps[:, :2].copy(), moves[:, :2].copy())
    with pytest.raises(ValueError, match=r"affines: expected f64 \(1, 6\)"):
        head(maps, moves, crops={"affines": np.ones((2, 6))})


def test_train_evaluate_and_predict(
    data: Path,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    package = tmp_path / "package"
    given = ["--data", str(data / "images"), "--annotations", str(data / "people.json")]
    run = ["--steps", "2", "--batch", "2", "--held-out", "0.25", "--threads", "1", "--size", "48", "64"]
    small = '{"channels": 8, "stem_channels": 8, "stage1_channels": 4}'
    report = call(capsys, "train", "dekr", *given, "--out", str(package), *run, "--set", f"backbone_config={small}")
    assert report["keypoints"] == NAMES
    assert report["engine"] == "native"
    assert report["train_images"] + report["held_out_images"] == 16
    assert mambasdk.verify(package).passed
    evaluated = call(capsys, "evaluate", str(package), *given, "--batch", "5")
    assert evaluated["data"]["people"] == 24
    assert 0 <= evaluated["metrics"]["AP"] <= 1
    file = data / "images" / "1.jpg"
    option = ["--option", "center_threshold=-1"]
    result = call(capsys, "predict", str(package), str(file), "--plot", str(tmp_path / "plot.png"), *option)
    found = load_pipeline(package).run({"image": file.read_bytes()}, {"center_threshold": -1})
    assert result["results"][0]["people"] == found["json"]["people"]
    assert len(found["keypoints"])

    # By hand: the processor, the model, the head.
    model: Any = mambasdk.load(package)
    crops = PersonCrop(size=[48, 64], padding=1.0, mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])(file)
    with torch.no_grad():
        maps, moves = (tensor.contiguous().numpy() for tensor in model.eval()(torch.from_numpy(crops["image"])))
    by_hand = BottomUpPose(center_threshold=-1)(maps, moves, crops=crops)
    np.testing.assert_allclose(by_hand["keypoints"], found["keypoints"], atol=1e-2)


def test_whole_images_keep_their_aspect_and_their_people(data: Path) -> None:  # noqa: F811
    from mambasdk_vision.pose.augmentation import CropAugmentation
    from mambasdk_vision.pose.crops import WholeImages

    found = read_coco(data / "images", data / "people.json")
    images = WholeImages(found, {"kind": "person_crop", "size": [60, 100], "padding": 1.0})
    assert [len(people) for people in images.keypoints] == [1, 2] * 8
    own = found.keypoints[found.image == 1]
    np.testing.assert_allclose(images.keypoints[1][..., 0], own[..., 0] + 10)  # 80 x 60 in 100 x 60
    np.testing.assert_allclose(images.keypoints[1][..., 1:], own[..., 1:])
    crops, people_of = images.augmented(np.arange(16), CropAugmentation(rotation=20), seed=0, step=3)
    for image, people_in in zip(crops, people_of, strict=True):
        for person in people_in:
            x, y = np.rint(person[:, :2].mean(0)).astype(int)
            if 0 <= x < 100 and 0 <= y < 60:
                assert image[0, y, x] > 0.6  # the middle of a bright triangle


def test_files_of_mmpose_import(tmp_path: Path) -> None:
    torch.manual_seed(1)
    small = {"channels": 8, "stem_channels": 8, "stage1_channels": 4}
    model: Any = mambasdk.create_model("dekr", backbone_config=small, input_size=48, keypoints=4).eval()
    state = {**model.state_dict(), "head.rescore_net.l1.weight": torch.zeros(2, 2)}
    again: Any = import_checkpoint("dekr", {"backbone": "hrvmamba", "input_size": 48}, state).eval()
    image = torch.randn(1, 3, 48, 48)
    with torch.no_grad():
        for a, b in zip(again(image), model(image), strict=True):
            assert torch.equal(a, b)
    assert (again.config.keypoints, again.config.heatmap_filters, again.config.displacement_filters) == (4, 16, 4)
