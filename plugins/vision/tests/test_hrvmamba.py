"""HRVMamba: sizes of images, drop path, files of several kinds, the published counts of operations; DCNv4."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

import mambasdk
from mambasdk.errors import CheckpointError, InvalidArgumentError, ShapeError
from mambasdk.models import identity
from mambasdk.nn import DropPath, LayerNorm
from mambasdk_vision.families.hrvmamba import DVSSBlock
from mambasdk_vision.families.hrvmamba.branches import _enlarged
from mambasdk_vision.model import adapted, feature_maps
from mambasdk_vision.nn.deformable import DCNv4

Make = Callable[..., Any]


@pytest.mark.parametrize(("height", "width"), [(32, 32), (33, 45), (64, 96), (50, 131)])
def test_any_size_of_32_or_more(make_tiny: Make, height: int, width: int) -> None:
    model = make_tiny("hrvmamba", task="pose")
    maps = model(torch.randn(2, 3, height, width))
    sizes = [(-(-height // stride), -(-width // stride)) for stride in (4, 8, 16, 32)]
    assert [tuple(x.shape) for x in maps] == [(2, 8 << i, *size) for i, size in enumerate(sizes)]
    pyramid = make_tiny("hrvmamba", task="segmentation")(torch.randn(1, 3, height, width))
    assert [tuple(x.shape) for x in pyramid] == [(1, c, *size) for c, size in zip((8, 8, 16, 24), sizes, strict=True)]


def test_smaller_images_are_refused(make_tiny: Make) -> None:
    with pytest.raises(ShapeError, match="H and W of 32 or more"):
        make_tiny("hrvmamba")(torch.randn(1, 3, 64, 31))


def test_maps_by_name() -> None:
    with torch.device("meta"):
        model = feature_maps("hrvmamba-nano")
        assert (model.map_channels, model.map_strides) == ((8, 16, 32, 64), (4, 8, 16, 32))
        assert tuple(model.feature_outputs) == ("p2", "p3", "p4", "p5")
        assert feature_maps("hrvmamba-small-pose").map_channels == (32,)
        assert feature_maps("hrvmamba-small-pose", multiscale_output=True).map_channels == (32, 64, 128, 256)
        assert feature_maps("hrvmamba-base-seg").map_channels == (128, 256, 512, 2048)


def test_enlarging_to_odd_sizes_takes_two_steps() -> None:
    x = torch.randn(1, 2, 3, 4)
    doubled = functional.interpolate(x, (6, 8), mode="bilinear")
    assert torch.equal(_enlarged(x, 2, torch.empty(1, 1, 6, 8)), doubled)
    expected = functional.interpolate(doubled, (5, 7), mode="bilinear")
    assert torch.equal(_enlarged(x, 2, torch.empty(1, 1, 5, 7)), expected)


@pytest.mark.parametrize("task", ["classification", "pose"])
def test_drop_path_grows_by_depth_and_is_equal_on_all_branches(task: str) -> None:
    with torch.device("meta"):
        model = mambasdk.create_model("hrvmamba-small", task=task, drop_path_rate=0.26)
    rates = {name: part.rate for name, part in model.named_modules() if isinstance(part, DropPath)}
    depth = 0
    for stage, modules in ((2, 1), (3, 4), (4, 2)):
        for module in range(modules):
            for index in range(2):
                for branch in range(stage):
                    block = f"stage{stage}.{module}.branches.{branch}.{index}"
                    assert rates[f"{block}.drop_path"] == pytest.approx(0.02 * depth)
                    first = 0.0 if task == "pose" else 0.02 * depth
                    assert rates[f"{block}.drop_first"] == pytest.approx(first)
                depth += 1
    assert depth == 14


# ---- files ----

RATES = {"img_size": 64, "drop_path_rate": 0.05}  # what no tensor tells


def _as_convolutions(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k: t[..., None, None] if t.ndim == 2 and k.endswith("_proj.weight") else t for k, t in state.items()}


@pytest.mark.parametrize("projections", [False, True])
@torch.no_grad()
def test_a_classifiers_file_gives_logits_branches_and_pyramid(make_tiny: Make, projections: bool) -> None:
    model = make_tiny("hrvmamba", se_lpu=True, projections=projections)
    image = torch.randn(1, 3, 40, 56)
    state = _as_convolutions(model.state_dict())
    again: Any = mambasdk.import_checkpoint("hrvmamba", RATES, {"state_dict": state, "epoch": 3}).eval()
    assert identity(again).config == identity(model).config
    assert torch.equal(again(image), model(image))
    branches: Any = mambasdk.import_checkpoint("hrvmamba", {"task": "pose"}, {"model_ema": state}).eval()
    assert all(torch.equal(x, y) for x, y in zip(branches(image), model.branches(image), strict=True))
    single: Any = mambasdk.import_checkpoint("hrvmamba", {"task": "pose", "multiscale_output": False}, state).eval()
    (first,) = single(image)
    assert torch.equal(first, model.branches(image)[0])
    pyramid: Any = mambasdk.import_checkpoint("hrvmamba", {"task": "segmentation"}, state).eval()
    for found, x in zip(pyramid(image), model.neck(model.branches(image)), strict=True):
        expected = functional.layer_norm(x.movedim(1, -1), (x.shape[1],)).movedim(-1, 1)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_an_estimators_file_gives_its_backbone(make_tiny: Make) -> None:
    model = make_tiny("hrvmamba", task="pose", multiscale_output=False, channels=80)
    state = {f"module.backbone.{name}": tensor for name, tensor in model.state_dict().items()}
    state["module.head.final_layer.weight"] = torch.zeros(17, 80, 1, 1)
    found: Any = mambasdk.import_checkpoint("hrvmamba", {}, {"state_dict": state}).eval()
    assert found.config.task == "pose"
    assert found.map_channels == (80,)
    image = torch.randn(1, 3, 32, 40)
    assert torch.equal(found(image)[0], model(image)[0])


@pytest.mark.parametrize(
    ("arguments", "state", "message"),
    [
        ({"channels": 8}, None, "unknown arguments: channels"),
        ({"task": "segmentation"}, "pose", r"no HRVMamba for segmentation: neck\.final_layer\.conv\.weight missing"),
        ({"task": "detection"}, None, "task = 'detection' is no model"),
        ({}, {"weight": torch.zeros(3)}, r"no HRVMamba: conv1\.weight, stage2"),
    ],
)
def test_files_that_do_not_fit_are_named(make_tiny: Make, arguments: Any, state: Any, message: str) -> None:
    if not isinstance(state, dict):
        state = make_tiny("hrvmamba", task=state or "classification").state_dict()
    with pytest.raises(CheckpointError, match=message):
        mambasdk.import_checkpoint("hrvmamba", arguments, state)


@torch.no_grad()
def test_a_classifier_becomes_a_backbone_with_its_weights(make_tiny: Make) -> None:
    model = make_tiny("hrvmamba")
    backbone: Any = adapted(model, task="pose")
    image = torch.randn(1, 3, 48, 32)
    assert all(torch.equal(x, y) for x, y in zip(backbone(image), model.branches(image), strict=True))


# ---- published counts ----

# Size of the image and GFLOPs of arXiv 2410.03174, which has them in this precision; of pose with its head.
GFLOPS = {
    "hrvmamba-nano": (256, 256, 1.9),
    "hrvmamba-tiny": (256, 256, 2.8),
    "hrvmamba-small": (256, 256, 5.8),
    "hrvmamba-base": (224, 224, 15.8),
    "hrvmamba-tiny-pose": (256, 192, 1.1),
    "hrvmamba-small-pose": (256, 192, 3.3),
    "hrvmamba-base-pose": (256, 192, 14.2),
}


@pytest.mark.parametrize("variant", GFLOPS)
def test_operations_are_the_published_ones(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the rules of fvcore and of VMamba's counter, which the published figures follow.

    A product's multiply-add is one, so that a sampling is 36 H W C; a step of the scan is 9 N + 1 for each channel; an
    element of a layer norm is 5, of a batch norm 2, of an enlarged map 4; activations and sums are none.
    """
    height, width, published = GFLOPS[variant]
    counts: Counter[str] = Counter()
    enlarge = functional.interpolate

    def enlarged(*arguments: Any, **options: Any) -> Tensor:
        y = enlarge(*arguments, **options)
        counts["resize"] += 4 * y.numel()
        return y

    monkeypatch.setattr(functional, "interpolate", enlarged)
    with torch.device("meta"):
        model: Any = mambasdk.create_model(variant).eval()
        for part in model.modules():
            if isinstance(part, (LayerNorm, nn.BatchNorm2d)):
                each = 5 if isinstance(part, LayerNorm) else 2
                part.register_forward_hook(lambda _, __, y, each=each: counts.update(norm=each * y.numel()))
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            outputs = model(torch.empty(1, 3, height, width))
            if model.config.task == "pose":
                nn.Conv2d(model.map_channels[0], 17, 1)(outputs[0])
    scan = sum(n for op, n in counter.get_flop_counts()["Global"].items() if "selective_scan" in str(op))
    total = (counter.get_total_flops() - scan) / 2 + scan / 9 * 10 + counts.total()  # ours has 9 a step, without D
    assert abs(total / 1e9 - published) <= max(0.01 * published, 0.05)  # 0.05: half of the last published digit


# ---- DCNv4 ----


@pytest.mark.parametrize("depthwise", [False, True])
@pytest.mark.parametrize("projections", [False, True])
def test_dcnv4_with_fixed_taps_is_a_convolution(depthwise: bool, projections: bool) -> None:
    """Without offsets and with masks that are the same everywhere, each group's channels see one 3 x 3 filter."""
    torch.manual_seed(0)
    module = DCNv4(12, 3, depthwise=depthwise, projections=projections)
    assert module.offset_mask.out_features == 88  # 3 * 27, up to a multiple of 8
    masks = torch.randn(3, 9)
    entries = torch.zeros(3, 27)
    entries[:, 18:] = masks
    with torch.no_grad():
        module.offset_mask.weight.zero_()
        module.offset_mask.bias[:81] = entries.flatten()
    x = torch.randn(2, 5, 7, 12)
    kernel = masks.view(3, 1, 3, 3).mT.repeat_interleave(4, 0)  # taps along the height first
    expected = functional.conv2d(module.value_proj(x).movedim(-1, 1), kernel, padding=1, groups=12).movedim(1, -1)
    torch.testing.assert_close(module(x), module.output_proj(expected), atol=1e-5, rtol=1e-5)


def test_dcnv4_starts_near_zero_and_learns() -> None:
    torch.manual_seed(0)
    module = DCNv4(16, 2)
    assert float(module.offset_mask.weight.detach().std()) == pytest.approx(0.02, rel=0.1)
    x = torch.randn(2, 6, 6, 16, requires_grad=True)
    module(x).square().sum().backward()
    assert x.grad is not None
    assert all(float(p.grad.abs().max()) > 0 for p in (module.offset_mask.weight, module.offset_mask.bias))  # type: ignore[union-attr]


def test_wrong_numbers_are_named() -> None:
    with pytest.raises(InvalidArgumentError, match="bad groups: expected a divisor of 12"):
        DCNv4(12, 5)
    with pytest.raises(InvalidArgumentError, match="bad kernel_size: expected an odd number"):
        DCNv4(12, 3, 4)
    with pytest.raises(ShapeError, match=r"bad x: expected \(B, H, W, 12\)"):
        DCNv4(12, 3)(torch.randn(2, 12, 5, 5))
    with pytest.raises(InvalidArgumentError, match="bad channels: expected a multiple of 4"):
        mambasdk.create_model("hrvmamba", channels=10)
    with pytest.raises(InvalidArgumentError, match="multiscale_output is off"):
        mambasdk.create_model("hrvmamba", multiscale_output=False)


def test_a_block_at_initialisation_keeps_the_size_of_its_input() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 8, 8, 32)
    y = DVSSBlock(32)(x).detach()
    assert 0.5 < float(y.std() / x.std()) < 2.0
