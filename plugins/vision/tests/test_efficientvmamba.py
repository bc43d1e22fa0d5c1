"""EfficientVMamba by its definition, pixel after pixel; phases of odd maps, other image sizes, files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import mambasdk
from mambasdk.errors import CheckpointError, InvalidArgumentError, ShapeError
from mambasdk_vision.families.efficientvmamba import ES2D, atrous_routes

Make = Callable[..., Any]
SIZES = [(1, 1), (1, 2), (1, 7), (5, 1), (2, 2), (3, 5), (8, 3), (4, 6)]


def visited(route: int, t: int, rows: int, columns: int) -> tuple[int, int]:
    """(row, column) in step t, as arXiv 2403.09977 draws it; rows, columns: of a phase."""
    return [
        (2 * (t // columns), 2 * (t % columns)),
        (2 * (t % rows) + 1, 2 * (t // rows)),
        (2 * (t // columns), 2 * (t % columns) + 1),
        (2 * (t % rows) + 1, 2 * (t // rows) + 1),
    ][route]


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_routes_share_every_pixel_out_in_the_published_order(height: int, width: int) -> None:
    order = atrous_routes(height, width)
    rows, columns = -(-height // 2), -(-width // 2)
    assert order.dtype == torch.int32
    places = [[visited(k, t, rows, columns) for t in range(rows * columns)] for k in range(4)]
    assert order.tolist() == [[i * 2 * columns + j for i, j in route] for route in places]
    assert torch.equal(order.flatten().sort().values, torch.arange(4 * rows * columns).int())


def scan_by_definition(mixer: ES2D, u: Tensor) -> Tensor:
    """One step after the other, in float64: u (B, H, W, D) -> what the routes leave at its pixels."""
    m = {name: value.detach().double() for name, value in mixer.named_parameters()}
    batch, height, width, inner = u.shape
    y = torch.zeros(batch, height, width, inner, dtype=torch.float64)
    rows, columns = -(-height // 2), -(-width // 2)
    for k in range(4):
        part = slice(k * inner, (k + 1) * inner)
        h = torch.zeros(batch, inner, mixer.d_state, dtype=torch.float64)
        for t in range(rows * columns):
            i, j = visited(k, t, rows, columns)
            inside = i < height and j < width
            x = u[:, i, j].double() if inside else torch.zeros(batch, inner, dtype=torch.float64)
            dt_low, B, C = (x @ m["x_proj_weight"][k].T).split([mixer.dt_rank, mixer.d_state, mixer.d_state], dim=-1)
            dt = functional.softplus(dt_low @ m["dt_projs_weight"][k].T + m["dt_projs_bias"][k])[..., None]
            h = torch.exp(-dt * m["A_logs"][part].exp()) * h + dt * x[..., None] * B[:, None]
            if inside:
                y[:, i, j] = (h * C[:, None]).sum(-1) + m["Ds"][part] * x
    return y


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_scan_equals_its_definition(height: int, width: int) -> None:
    torch.manual_seed(0)
    mixer = ES2D(5, 3)
    u = torch.randn(2, height, width, 10)
    expected = scan_by_definition(mixer, u)
    with torch.no_grad():
        torch.testing.assert_close(mixer.routed(u).double(), expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(mixer.double().routed(u.double()), expected, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize(("height", "width"), [(4, 4), (3, 5)])
def test_gradients_are_those_of_the_definition(height: int, width: int) -> None:
    torch.manual_seed(0)
    mixer = ES2D(3, 2).double()
    x = torch.randn(1, height, width, 3, dtype=torch.float64, requires_grad=True)
    parameters = [mixer.A_logs, mixer.x_proj_weight, mixer.dt_projs_weight, mixer.dt_projs_bias, mixer.Ds]
    assert torch.autograd.gradcheck(lambda x, *_: mixer(x), (x, *parameters), atol=1e-6, fast_mode=True)


def test_both_branches_pass_one_excitation(make_tiny: Make) -> None:
    block = make_tiny("efficientvmamba").layers[0].blocks[0]
    x = torch.randn(1, 5, 7, 8)
    seen: list[Tensor] = []
    block.se.register_forward_hook(lambda _, arguments, out: seen.append(out))
    with torch.no_grad():
        found = block(x)
    assert len(seen) == 2
    torch.testing.assert_close(found, x + seen[0] + seen[1])


def test_any_size_down_to_one_patch(make_tiny: Make) -> None:
    model = make_tiny("efficientvmamba", out_indices=[0, 1, 2, 3])
    for height, width in ((4, 4), (5, 11), (31, 45), (33, 64)):
        rows, columns = height // 4, width // 4  # what remains at the bottom and right is not seen
        sizes = []
        for _ in range(4):
            sizes.append((rows, columns))
            rows, columns = -(-rows // 2), -(-columns // 2)
        maps = model(torch.randn(2, 3, height, width))
        assert [tuple(level.shape) for level in maps] == [(2, 8 * 2**index, *size) for index, size in enumerate(sizes)]
    with pytest.raises(ShapeError, match="expected H and W of 4 or more"):
        model(torch.randn(1, 3, 3, 9))


# ---- files ----


def test_a_released_file_needs_no_arguments(make_tiny: Make) -> None:
    model = make_tiny("efficientvmamba", depths=[1, 2, 2, 1], dims=16, drop_path_rate=0.0)
    image = torch.randn(1, 3, 24, 20)
    assert {"layers.2.1.conv_pw.0.weight", "layers.2.2.se.conv_reduce.bias"} <= model.state_dict().keys()
    assert {"layers.2.4.reduction.weight", "layers.3.1.conv_pw2.1.weight"} <= model.state_dict().keys()
    file = {"state_dict": {f"module.module.{name}": tensor for name, tensor in model.state_dict().items()}}
    averaged = {"model_ema": model.state_dict(), "epoch": 299}
    ignored = {"window_size": 2, "d_state": 1, "ssm_ratio": 1.0}  # upstream hands them to no block
    for arguments, weights in (({}, file), (ignored, averaged)):
        found: Any = mambasdk.import_checkpoint("efficientvmamba", arguments, weights).eval()
        assert found.config == model.config
        with torch.no_grad():
            assert torch.equal(found(image), model(image))


def test_a_classifier_or_a_detector_gives_a_backbone(make_tiny: Make) -> None:
    model = make_tiny("efficientvmamba")
    image = torch.randn(1, 3, 37, 45)
    state = {f"backbone.{name}": t for name, t in model.state_dict().items()}
    state["bbox_head.retina_cls.weight"] = torch.zeros(3)
    backbone: Any = mambasdk.import_checkpoint("efficientvmamba", {"out_indices": [0, 1, 2, 3]}, state).eval()
    with torch.no_grad():
        for level, stage in zip(backbone(image), model.stages(image), strict=True):
            expected = functional.layer_norm(stage, (stage.shape[-1],)).permute(0, 3, 1, 2)
            torch.testing.assert_close(level, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"downsample_version": "v3"}, "downsample_version = 'v3' is no model"),
        ({"surprise": 1}, "unknown arguments: surprise"),
        ({"depths": [1, 1, 1, 2]}, "missing"),
        ({"num_classes": 3}, "wrong shape"),
    ],
)
def test_files_that_do_not_fit_are_named(arguments: dict[str, Any], message: str, make_tiny: Make) -> None:
    with pytest.raises(CheckpointError, match=message):
        mambasdk.import_checkpoint("efficientvmamba", arguments, make_tiny("efficientvmamba").state_dict())


@pytest.mark.parametrize(
    "setting", [{"step_size": 3}, {"dims": 4}, {"depths": [2, 0]}, {"dims": [8, 16]}, {"out_indices": [4]}], ids=str
)
def test_bad_settings_are_refused(setting: dict[str, Any], make_tiny: Make) -> None:
    with pytest.raises(InvalidArgumentError, match="expected"):
        make_tiny("efficientvmamba", **setting)
