"""PlainMamba by its definition, step after step; snakes, other image sizes, files, both ways to begin."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

import mambasdk
from mambasdk.errors import CheckpointError, InvalidArgumentError
from mambasdk_vision.adaptation import adapted
from mambasdk_vision.families.plainmamba import PlainMamba2D, snakes
from mambasdk_vision.model import feature_maps

Make = Callable[..., Any]
SIZES = [(1, 1), (1, 7), (5, 1), (2, 2), (3, 5), (8, 3), (4, 6)]
MOVES = {(0, 1): 1, (0, -1): 2, (-1, 0): 3, (1, 0): 4}  # (rows, columns) of a step


def by_definition(height: int, width: int) -> tuple[list[list[int]], list[list[int]]]:
    """Pixels and moves of the four routes, as arXiv 2403.17695 draws them."""
    rows = [i * width + (j if i % 2 == 0 else width - 1 - j) for i in range(height) for j in range(width)]
    columns = [(i if j % 2 == 0 else height - 1 - i) * width + j for j in range(width) for i in range(height)]
    routes = [rows, rows[::-1], columns, columns[::-1]]
    moves = []
    for route in routes:
        places = [divmod(pixel, width) for pixel in route]
        steps = [(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(places)]
        moves.append([0, *(MOVES[step] for step in steps)])  # a step that goes to no neighbour has no code
    return routes, moves


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_snakes_go_from_neighbour_to_neighbour_over_every_pixel(height: int, width: int) -> None:
    order, directions = snakes(height, width)
    routes, moves = by_definition(height, width)
    assert order.dtype == torch.int32
    assert order.tolist() == routes
    assert directions.tolist() == moves
    assert torch.equal(order.sort(dim=1).values, torch.arange(height * width).expand(4, -1).int())


def scan_by_definition(mixer: PlainMamba2D, u: Tensor) -> Tensor:
    """One step after the other, in float64: u (B, H, W, E) -> the sum of the routes."""
    m = {name: value.detach().double() for name, value in mixer.named_parameters()}
    batch, height, width, inner = u.shape
    pixels = u.double().reshape(batch, height * width, inner)
    low = pixels @ m["x_proj.weight"].T
    dt_low, B, C = low.split([mixer.dt_rank, mixer.d_state, mixer.d_state], dim=-1)
    bias = m["dt_proj.bias"]
    delta = functional.softplus(dt_low @ m["dt_proj.weight"].T + bias + bias)
    y = torch.zeros_like(pixels)
    for route, moves in zip(*by_definition(height, width), strict=True):
        h = torch.zeros(batch, inner, mixer.d_state, dtype=torch.float64)
        for t, (pixel, move) in enumerate(zip(route, moves, strict=True)):
            at = pixel if mixer.params_follow_route else t  # released models count t as a pixel
            dt, x = delta[:, at, :, None], pixels[:, pixel, :, None]
            h = torch.exp(-dt * m["A_log"].exp()) * h + dt * x * (B[:, at] + m["direction_Bs"][move])[:, None]
            y[:, pixel] += (h * C[:, at, None]).sum(-1) + m["D"] * pixels[:, pixel]
    return y.view(u.shape)


@pytest.mark.parametrize("params_follow_route", [False, True])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_scan_equals_its_definition(params_follow_route: bool, height: int, width: int) -> None:
    torch.manual_seed(0)
    mixer = PlainMamba2D(5, 3, params_follow_route=params_follow_route)
    torch.nn.init.normal_(mixer.direction_Bs)
    u = torch.randn(2, height, width, 10)
    with torch.no_grad():
        torch.testing.assert_close(mixer.scan(u).double(), scan_by_definition(mixer, u), atol=1e-5, rtol=1e-5)
        expected = scan_by_definition(mixer, u)
        torch.testing.assert_close(mixer.double().scan(u.double()), expected, atol=1e-12, rtol=1e-12)
        gate = torch.randn_like(u).double()
        torch.testing.assert_close(
            mixer.scan(u.double(), gate), expected * functional.silu(gate), atol=1e-12, rtol=1e-12
        )


@pytest.mark.parametrize("params_follow_route", [False, True])
def test_gradients_are_those_of_the_definition(params_follow_route: bool) -> None:
    torch.manual_seed(0)
    mixer = PlainMamba2D(3, 2, conv_size=3, params_follow_route=params_follow_route).double()
    x = torch.randn(1, 3, 4, 3, dtype=torch.float64, requires_grad=True)
    parameters = [mixer.A_log, mixer.D, mixer.direction_Bs, mixer.dt_proj.bias, mixer.x_proj.weight]
    assert torch.autograd.gradcheck(lambda x, *_: mixer(x), (x, *parameters), atol=1e-6, fast_mode=True)


class _Operands(TorchDispatchMode):
    """The tensors that scans are given, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[dict[str, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._overloadpacket == torch.ops.mambasdk.selective_scan:
            self.given.append({a.name: value for a, value in zip(func._schema.arguments, args, strict=False)})
        return func(*args, **(kwargs or {}))


def test_what_the_routes_share_stands_once() -> None:
    mixer = PlainMamba2D(8, 4)
    with _Operands() as seen, torch.no_grad():
        mixer(torch.randn(2, 3, 5, 8))
    (given,) = seen.given
    assert given["u"].shape == (2, 15, 16)
    assert given["delta"].shape == (2, 4, 15, 16)
    assert given["delta"].stride(1) == given["C"].stride(1) == given["A"].stride(0) == given["D"].stride(0) == 0


def test_any_size_down_to_one_pixel_and_the_table_of_the_trained_grid(make_tiny: Make) -> None:
    model = make_tiny("plainmamba", out_indices=[0, 1])
    for height, width in ((1, 1), (2, 3), (31, 45), (33, 64)):
        maps = model(torch.randn(2, 3, height, width))
        assert [tuple(level.shape) for level in maps] == [(2, 16, -(-height // 8), -(-width // 8))] * 2
    table = model.pos_embed.view(1, 4, 4, 16)
    assert torch.equal(model.positions(4, 4), table)
    expected = functional.interpolate(table.permute(0, 3, 1, 2), (3, 7), mode="bicubic", align_corners=False)
    torch.testing.assert_close(model.positions(3, 7), expected.permute(0, 2, 3, 1))


def test_what_is_short_of_a_patch_is_filled_with_zeros(make_tiny: Make) -> None:
    stem = make_tiny("plainmamba").patch_embed
    image = torch.randn(1, 3, 19, 27)
    before = stem.convs(stem.stem(image))  # 10 x 14 of patches of 4
    padded = functional.pad(before, (0, 2, 0, 2))
    torch.testing.assert_close(stem(image), stem.projection(padded).permute(0, 2, 3, 1))


def test_adapted_resizes_the_table_and_keeps_the_layers(make_tiny: Make) -> None:
    model = make_tiny("plainmamba")
    larger: Any = adapted(model, img_size=[64, 40])
    assert larger.pos_embed.shape == (1, 40, 16)
    torch.testing.assert_close(larger.positions(8, 5), model.positions(8, 5))
    image = torch.randn(1, 3, 64, 40)
    with torch.no_grad():
        torch.testing.assert_close(larger(image), model(image))


def test_dense_tasks_read_the_last_layer_of_every_quarter() -> None:
    with torch.device("meta"):
        for name, layers in (("plainmamba-l1", (5, 11, 17, 23)), ("plainmamba-l3", (8, 17, 26, 35))):
            maps: Any = feature_maps(name)
            assert maps.config.maps == layers
            assert set(maps.map_strides) == {16}
            names = {f"norm_layer{layer}" for layer in layers[:3]} | {"ln1"}
            assert {key.partition(".")[0] for key in maps.state_dict()} - {
                "layers",
                "patch_embed",
                "pos_embed",
            } == names


@pytest.mark.parametrize("init", ["recipe", "module"])
def test_where_step_sizes_begin(init: str) -> None:
    torch.manual_seed(0)
    model: Any = mambasdk.create_model("plainmamba", img_size=32, num_layers=1, init=init)
    projection = model.layers[0].mamba.dt_proj
    steps = functional.softplus(projection.bias.detach())
    if init == "recipe":
        assert not projection.bias.any()
        assert 0.015 < float(projection.weight.detach().std()) < 0.025
    else:
        assert 1e-3 <= float(steps.min()) < float(steps.max()) <= 0.1
        assert float(projection.weight.detach().abs().max()) > 0.3  # of uniform numbers up to 1 / sqrt(6)


# ---- files ----


def test_a_released_file_needs_no_arguments(make_tiny: Make) -> None:
    model = make_tiny("plainmamba", num_convs_patch_embed=2, layers_with_dwconv=[1], conv_size=5)
    image = torch.randn(1, 3, 24, 20)
    state = {name if name.startswith("head.") else f"backbone.{name}": t for name, t in model.state_dict().items()}
    state["ema_backbone_layers_0_mamba_D"] = torch.zeros(32)  # what averaging keeps beside the model
    file = {"state_dict": {f"module.module.{name}": tensor for name, tensor in state.items()}, "meta": {"epoch": 300}}
    found: Any = mambasdk.import_checkpoint("plainmamba", {}, file).eval()
    assert found.config == model.config
    with torch.no_grad():
        assert torch.equal(found(image), model(image))


def test_a_classifier_or_a_segmenter_gives_a_backbone(make_tiny: Make) -> None:
    model = make_tiny("plainmamba")
    image = torch.randn(1, 3, 32, 40)
    state = {f"backbone.{name}": t for name, t in model.state_dict().items() if not name.startswith("head.")}
    state["decode_head.conv_seg.weight"] = torch.zeros(3)
    backbone: Any = mambasdk.import_checkpoint("plainmamba", {"out_indices": [0, -1]}, state).eval()
    with torch.no_grad():
        first, last = backbone(image)
        expected = model.encode(image, [0, 1])
        torch.testing.assert_close(first, functional.layer_norm(expected[0], (16,), eps=1e-6).permute(0, 3, 1, 2))
        torch.testing.assert_close(last, model.ln1(expected[1]).permute(0, 3, 1, 2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"surprise": 1}, "unknown arguments: surprise"),
        ({"layer_cfgs": {"use_rms_norm": True}}, "use_rms_norm = True is no model"),
        ({"layer_cfgs": {"mamba_cfg": {"surprise": 1}}}, "unknown arguments: surprise"),
        ({"num_layers": 3}, "missing"),
        ({"layer_cfgs": {"mamba_cfg": {"d_state": 2}}}, "wrong shape"),
    ],
)
def test_files_that_do_not_fit_are_named(arguments: dict[str, Any], message: str, make_tiny: Make) -> None:
    with pytest.raises(CheckpointError, match=message):
        mambasdk.import_checkpoint("plainmamba", arguments, make_tiny("plainmamba").state_dict())


def test_a_table_of_no_square_needs_the_image_size(make_tiny: Make) -> None:
    state = make_tiny("plainmamba", img_size=[32, 24]).state_dict()
    with pytest.raises(CheckpointError, match="12 positions are no square; give img_size"):
        mambasdk.import_checkpoint("plainmamba", {}, state)
    found: Any = mambasdk.import_checkpoint("plainmamba", {"img_size": [32, 24]}, state)
    assert found.config.grid == (4, 3)


@pytest.mark.parametrize(
    "setting",
    [
        {"patch_size": 5},
        {"conv_size": 4},
        {"init": "zeros"},
        {"out_indices": [2]},
        {"out_indices": [1, 0]},
        {"layers_with_dwconv": [-1]},
        {"embed_dims": 0},
    ],
    ids=str,
)
def test_bad_settings_are_refused(setting: dict[str, Any], make_tiny: Make) -> None:
    with pytest.raises(InvalidArgumentError, match="expected"):
        make_tiny("plainmamba", **setting)
