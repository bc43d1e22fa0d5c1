"""SS2D by its definition in NumPy; forward types, older files, odd maps, dense features."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

import mambasdk
from mambasdk.errors import CheckpointError, InvalidArgumentError
from mambasdk_vision.adaptation import adapted
from mambasdk_vision.families.vmamba import SS2D, ForwardType
from mambasdk_vision.nn.routes import cross_routes

Make = Callable[..., Any]
ROUTES = {
    "cross": lambda t, h, w: [t, t % h * w + t // h, h * w - 1 - t, (h * w - 1 - t) % h * w + (h * w - 1 - t) // h],
    "forward": lambda t, h, w: [t] * 4,
    "both": lambda t, h, w: [t, t, h * w - 1 - t, h * w - 1 - t],
}


@pytest.mark.parametrize("scan", ROUTES)
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 7), (5, 1), (4, 4), (3, 5)])
def test_routes_visit_every_pixel_in_the_published_order(scan: Any, height: int, width: int) -> None:
    order = cross_routes(height, width, scan)
    assert order.dtype == torch.int32
    expected = [ROUTES[scan](t, height, width) for t in range(height * width)]
    assert order.T.tolist() == expected
    assert torch.equal(order.sort(dim=1).values, torch.arange(height * width).expand(4, -1).int())


def by_definition(mixer: SS2D, u: Tensor, scan: str) -> Tensor:
    """One pixel after the other, in float64: u (B, H, W, D) -> the merged map."""
    states, rank, inner = mixer.d_state, mixer.dt_rank, mixer.d_inner
    weight = {name: value.detach().double().numpy() for name, value in mixer.named_parameters()}
    batch, height, width, _ = u.shape
    pixels = u.double().reshape(batch, height * width, inner).numpy()
    merged = np.zeros_like(pixels)
    for b in range(batch):
        for k in range(4):
            part = slice(k * inner, (k + 1) * inner)
            A, D = -np.exp(weight["A_logs"][part]), weight["Ds"][part]
            h = np.zeros((inner, states))
            for t in range(height * width):
                pixel = ROUTES[scan](t, height, width)[k]
                x = pixels[b, pixel]
                low = weight["x_proj_weight"][k] @ x
                B, C = low[rank : rank + states], low[rank + states :]
                raw = weight["dt_projs_weight"][k] @ low[:rank] + weight["dt_projs_bias"][k]
                delta = np.logaddexp(0, raw)
                h = np.exp(delta[:, None] * A) * h + delta[:, None] * B * x[:, None]
                merged[b, pixel] += h @ C + D * x
    return torch.from_numpy(merged).view(batch, height, width, inner)


@pytest.mark.parametrize(("name", "scan"), [("v05", "cross"), ("v051d", "forward"), ("v052d", "both")])
@pytest.mark.parametrize(("height", "width"), [(4, 6), (5, 3), (1, 1), (1, 9)])
@pytest.mark.parametrize("states", [1, 3])
def test_scan_equals_its_definition(name: str, scan: str, height: int, width: int, states: int) -> None:
    torch.manual_seed(0)
    mixer = SS2D(6, states, 1.5, forward_type=name)
    u = torch.randn(2, height, width, 9)
    expected = by_definition(mixer, u, scan)
    with torch.no_grad():
        torch.testing.assert_close(mixer._routed(u).double(), expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(mixer.double()._routed(u.double()), expected, atol=1e-12, rtol=1e-12)


def test_gradients_are_those_of_the_definition() -> None:
    torch.manual_seed(0)
    mixer = SS2D(3, 2, 1.0, forward_type="v05").double()
    x = torch.randn(1, 3, 4, 3, dtype=torch.float64, requires_grad=True)
    parameters = [mixer.A_logs, mixer.x_proj_weight, mixer.dt_projs_weight, mixer.dt_projs_bias, mixer.Ds]
    assert torch.autograd.gradcheck(lambda x, *_: mixer(x), (x, *parameters), atol=1e-6, fast_mode=True)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("v0", ForwardType()),
        ("v2", ForwardType()),
        ("v05_noz", ForwardType(gate=False)),
        ("v05_onsoftmax_nozact", ForwardType(norm="onsoftmax", gate_act=False)),
        ("v05_oact_noz_no32_oncnorm", ForwardType(norm="oncnorm", gate=False, out_act=True)),
        ("v052dc_onnone", ForwardType(scan="cascade", norm="onnone")),
    ],
)
def test_forward_types_in_any_order_of_suffixes(name: str, expected: ForwardType) -> None:
    assert ForwardType.parse(name) == expected
    base, *suffixes = name.split("_")
    assert ForwardType.parse("_".join([base, *reversed(suffixes)])) == expected


@pytest.mark.parametrize("name", ["", "v9", "v05_", "v05_no", "v05_noz_noz", "v05_onnone_onsigmoid", "m0_noz"])
def test_unknown_forward_types_are_refused(name: str) -> None:
    with pytest.raises(InvalidArgumentError, match="unknown forward_type: expected v0 or"):
        ForwardType.parse(name)


def test_any_size_down_to_one_pixel(make_tiny: Make) -> None:
    model = make_tiny("vmamba", out_indices=[0, 1, 2, 3])
    for height, width in ((1, 1), (2, 3), (31, 45), (33, 64)):
        maps = model(torch.randn(2, 3, height, width))
        sizes = [(-(-height // 2**level), -(-width // 2**level)) for level in range(2, 6)]
        assert [tuple(level.shape) for level in maps] == [(2, 8 * 2**index, *size) for index, size in enumerate(sizes)]
    vanilla = make_tiny("vmamba", patchembed_version="v1", downsample_version="v1", out_indices=[0, 1])
    assert [tuple(level.shape[2:]) for level in vanilla(torch.randn(1, 3, 23, 13))] == [(5, 3), (3, 2)]


def test_patch_merging_takes_neighbours_in_the_published_order() -> None:
    from mambasdk_vision.nn.downsampling import PatchMerging

    torch.manual_seed(0)
    merging = PatchMerging(2, 4)
    x = torch.randn(1, 3, 5, 2)
    padded = torch.zeros(1, 4, 6, 2)
    padded[:, :3, :5] = x
    expected = torch.zeros(1, 2, 3, 8)
    for row in range(2):
        for column in range(3):
            block = [padded[0, 2 * row + r, 2 * column + c] for r, c in ((0, 0), (1, 0), (0, 1), (1, 1))]
            expected[0, row, column] = torch.cat(block)
    expected = merging.reduction(functional.layer_norm(expected, (8,), merging.norm.weight, merging.norm.bias))
    torch.testing.assert_close(merging(x), expected)


OLDER = {
    "patch_embed.0.": "patch_embed.proj.",
    "patch_embed.2.": "patch_embed.norm.",
    "classifier.norm.": "norm.",
    "classifier.head.": "head.",
}


def test_older_names_channel_first_files_and_containers_load(make_tiny: Make) -> None:
    settings = {
        "dims": 8,
        "depths": [1, 1],
        "ssm_d_state": 2,
        "forward_type": "v0",
        "mlp_ratio": 2.0,
        "downsample_version": "v1",
        "num_classes": 10,
    }
    model = make_tiny("vmamba", **settings, patchembed_version="v1", ssm_ratio=2.0, ssm_conv_bias=True)
    image = torch.randn(1, 3, 24, 20)
    older = {}
    for name, value in model.state_dict().items():
        new = next((start for start in OLDER if name.startswith(start)), "")
        old = OLDER.get(new, "") + name.removeprefix(new)
        old = old.replace(".op.", ".self_attention.").replace("blocks.0.norm.", "blocks.0.ln_1.")
        linear = value.ndim == 2 and old.endswith(("proj.weight", "fc1.weight", "fc2.weight", "reduction.weight"))
        older[old] = value[:, :, None, None] if linear else value
    assert older.keys() != model.state_dict().keys()
    found: Any = mambasdk.import_checkpoint("vmamba", settings, {"model": older}).eval()
    with torch.no_grad():
        assert torch.equal(found(image), model(image))
    # The same file as a backbone: no end, norms that change nothing but scale.
    backbone: Any = mambasdk.import_checkpoint("vmamba", {**settings, "out_indices": [0, 1]}, older).eval()
    with torch.no_grad():
        for level, stage in zip(backbone(image), model.stages(image), strict=True):
            expected = functional.layer_norm(stage, (stage.shape[-1],)).permute(0, 3, 1, 2)
            torch.testing.assert_close(level, expected, atol=1e-5, rtol=1e-5)


def test_position_embedding_is_resized_on_import_and_by_adapted(make_tiny: Make) -> None:
    model = make_tiny("vmamba", posembed=True, imgsize=32)
    larger: Any = adapted(model, imgsize=[64, 48])
    expected = functional.interpolate(model.pos_embed, (16, 12), mode="bicubic", align_corners=False)
    torch.testing.assert_close(larger.pos_embed, expected)
    assert larger(torch.randn(1, 3, 64, 48)).shape == (1, 10)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gmlp": True}, "gmlp = True is no model"),
        ({"norm_layer": "bn"}, "norm_layer"),
        ({"surprise": 1}, "unknown arguments: surprise"),
        ({"depths": [1, 1, 1, 2]}, "missing"),
        ({"ssm_d_state": 2}, "wrong shape"),
    ],
)
def test_files_that_do_not_fit_are_named(arguments: dict[str, Any], message: str, make_tiny: Make) -> None:
    state = make_tiny("vmamba").state_dict()
    ours = {"dims": 8, "depths": [1, 1, 1, 1], "ssm_d_state": 1, "ssm_ratio": 1.0, "forward_type": "v05_noz"}
    stem = {"patchembed_version": "v2", "downsample_version": "v3", "ssm_conv_bias": False, "num_classes": 10}
    mambasdk.import_checkpoint("vmamba", {**ours, **stem}, state)
    with pytest.raises(CheckpointError, match=message):
        mambasdk.import_checkpoint("vmamba", {**ours, **stem, **arguments}, state)
