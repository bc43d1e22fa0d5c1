"""MS2D by its definition in NumPy, its routes, any size, files of both versions, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

import mambasdk
from mambasdk.errors import CheckpointError, InvalidArgumentError, ShapeError
from mambasdk_vision.families.msvmamba import MS2D, low_resolution_routes
from mambasdk_vision.families.msvmamba.conv_ffn import ConvFFN

Make = Callable[..., Any]
SIZES = [(1, 1), (1, 4), (5, 1), (4, 4), (3, 5)]


def low_pixel(step: int, height: int, width: int, full_res_index: int) -> int:
    """The pixel of a step of the sequence of three segments, by the published formula."""
    length = height * width
    segment, q = divmod(step, length)
    if segment == 0:
        return q if full_res_index == 2 else length - 1 - q
    if segment == 2:
        q = length - 1 - q
    return q % height * width + q // height


@pytest.mark.parametrize("full_res_index", [1, 2])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_segments_visit_every_pixel_in_the_published_order(height: int, width: int, full_res_index: int) -> None:
    routes = low_resolution_routes(height, width, full_res_index)
    length = height * width
    assert routes.dtype == torch.int32
    assert routes.flatten().tolist() == [low_pixel(t, height, width, full_res_index) for t in range(3 * length)]
    assert torch.equal(routes.sort(dim=1).values, torch.arange(length).expand(3, -1).int())


def scanned(mixer: MS2D, which: int, pixels: NDArray[Any], order: list[int]) -> NDArray[Any]:
    """Outputs (steps, D) of one scan over pixels (L, D) in float64, the state running through."""
    weight = {name: value.detach().double().numpy() for name, value in mixer.named_parameters()}
    rank, states, inner = mixer.dt_rank, mixer.d_state, mixer.d_inner
    part = slice(which * inner, (which + 1) * inner)
    A, D = -np.exp(weight["A_logs"][part]), weight["Ds"][part]
    h = np.zeros((inner, states))
    y = []
    for pixel in order:
        x = pixels[pixel]
        low = weight["x_proj_weight"][which] @ x
        B, C = low[rank : rank + states], low[rank + states :]
        delta = np.logaddexp(0, weight["dt_projs_weight"][which] @ low[:rank] + weight["dt_projs_bias"][which])
        h = np.exp(delta[:, None] * A) * h + delta[:, None] * B * x[:, None]
        y.append(h @ C + D * x)
    return np.stack(y)


def by_definition(mixer: MS2D, u: Tensor, e: Tensor) -> Tensor:
    """The merged map of u (H, W, D) and e (h, w, D)."""
    first = mixer.version == "v1"
    (height, width, inner), (rows, columns, _) = u.shape, e.shape
    high, low = (1, 0) if first else (0, 1)

    def norm(y: NDArray[Any]) -> NDArray[Any]:
        centred = y - y.mean(-1, keepdims=True)
        scale = centred / np.sqrt(y.var(-1, keepdims=True) + 1e-5)
        return scale * mixer.out_norm.weight.detach().double().numpy() + mixer.out_norm.bias.detach().double().numpy()

    order = list(range(height * width))
    order = order if mixer.full_res_index == 1 else order[::-1]
    y = np.zeros((height * width, inner))
    y[order] = scanned(mixer, high, u.reshape(-1, inner).numpy(), order)
    steps = [low_pixel(t, rows, columns, mixer.full_res_index) for t in range(3 * rows * columns)]
    outputs = scanned(mixer, low, e.reshape(-1, inner).numpy(), steps)
    m = np.zeros((rows * columns, inner))
    for pixel, out in zip(steps, norm(outputs) if first else outputs, strict=True):
        m[pixel] += out
    mode = {"mode": "bilinear", "align_corners": False} if first else {"mode": "nearest"}
    maps = torch.from_numpy(m).view(1, rows, columns, inner).permute(0, 3, 1, 2)
    enlarged = functional.interpolate(maps, (height, width), **mode)[0].permute(1, 2, 0).reshape(-1, inner).numpy()
    merged = norm(y) + enlarged if first else norm(y + enlarged)
    return torch.from_numpy(merged).view(height, width, inner)


def moved(module: Any) -> Any:
    """With parameters away from where they begin."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return module.eval()


@pytest.mark.parametrize("full_res_index", [1, 2])
@pytest.mark.parametrize("version", ["v1", "v3"])
@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("states", [1, 3])
@torch.no_grad()
def test_scans_equal_their_definition(version: Any, height: int, width: int, states: int, full_res_index: int) -> None:
    torch.manual_seed(0)
    mixer = moved(MS2D(8, states, version=version, full_res_index=full_res_index))
    u = torch.randn(2, height, width, 16)
    e = torch.randn(2, -(-height // 2), -(-width // 2), 16)
    expected = torch.stack([by_definition(mixer, *pair) for pair in zip(u.double(), e.double(), strict=True)])
    torch.testing.assert_close(mixer._merged(u, e).double(), expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(mixer.double()._merged(u.double(), e.double()), expected, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("version", ["v1", "v3"])
@pytest.mark.parametrize("gate", [True, False])
@torch.no_grad()
def test_mixer_around_its_scans(version: Any, gate: bool) -> None:
    mixer = moved(MS2D(6, 2, 8 / 3, version=version, gate=gate)).double()
    x = torch.randn(2, 5, 3, 6, dtype=torch.float64)
    t = x @ mixer.in_proj.weight.T
    z = functional.silu(t[..., 16:]) if gate else 1.0
    maps = t[..., :16].permute(0, 3, 1, 2)
    u = functional.conv2d(maps, mixer.conv2d.weight, mixer.conv2d.bias, padding=1, groups=16)
    e = functional.conv2d(maps, mixer.conv2d_b1.weight, mixer.conv2d_b1.bias, 2, 3, groups=16)
    assert e.shape[2:] == (3, 2)
    u, e = (functional.silu(part).permute(0, 2, 3, 1) for part in (u, e))
    y = torch.stack([by_definition(mixer, *pair) for pair in zip(u, e, strict=True)])
    squeezed = functional.relu(y.mean(dim=(1, 2)) @ mixer.se.fc[0].weight.T)
    y = y * (squeezed @ mixer.se.fc[2].weight.T).sigmoid()[:, None, None] * z
    torch.testing.assert_close(mixer(x), y @ mixer.out_proj.weight.T, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("version", ["v1", "v3"])
def test_gradients(version: Any) -> None:
    mixer = moved(MS2D(4, 2, version=version)).double()
    x = torch.randn(1, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    parameters = list(mixer.parameters())
    assert torch.autograd.gradcheck(lambda x, *_: mixer(x), (x, *parameters), atol=1e-6, fast_mode=True)


@torch.no_grad()
def test_conv_ffn_adds_its_convolution() -> None:
    ffn = moved(ConvFFN(3, 5)).double()
    x = torch.randn(2, 4, 3, 3, dtype=torch.float64)
    a = functional.conv2d(x.permute(0, 3, 1, 2), ffn.linear1.weight, ffn.linear1.bias)
    a = functional.gelu(a + functional.conv2d(a, ffn.dwc.weight, ffn.dwc.bias, padding=1, groups=5))
    expected = functional.conv2d(a, ffn.linear2.weight, ffn.linear2.bias).permute(0, 2, 3, 1)
    torch.testing.assert_close(ffn(x), expected)


def test_inference_a_few_images_at_a_time_and_in_place_changes_nothing() -> None:
    ffn, mixer = moved(ConvFFN(3, 5)), moved(MS2D(8))
    x, v = torch.randn(5, 40, 30, 3), torch.randn(2, 6, 5, 8)
    expected, mixed, before = ffn(x), mixer(v), (x.clone(), v.clone())
    with torch.no_grad():
        torch.testing.assert_close(ffn(x), expected, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(mixer(v), mixed, atol=1e-6, rtol=1e-5)
        assert ffn(x[:0]).shape == (0, 40, 30, 3)
    assert torch.equal(x, before[0])
    assert torch.equal(v, before[1])


@pytest.mark.parametrize("version", ["v1", "v3"])
def test_a_block_scans_seven_quarters_of_its_pixels(version: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where SS2D's four routes take 4 L steps."""
    from mambasdk import ops

    steps: list[int] = []
    scan = ops.selective_scan

    def counting(u: Tensor, *arguments: Any, order: Tensor | None = None, **options: Any) -> Any:
        steps.append(u.shape[1] if order is None else order.numel())
        return scan(u, *arguments, order=order, **options)

    monkeypatch.setattr("mambasdk.ops.selective_scan", counting)
    MS2D(8, version=version)(torch.randn(1, 8, 12, 8))
    assert sum(steps) == 1.75 * 8 * 12


@torch.no_grad()
def test_any_size(make_tiny: Make) -> None:
    later = make_tiny("msvmamba", version="v3", out_indices=[0, 1, 2, 3])
    for height, width in ((1, 1), (2, 3), (31, 45), (33, 64)):
        maps = later(torch.randn(2, 3, height, width))
        sizes = [(-(-height // 2**level), -(-width // 2**level)) for level in range(2, 6)]
        assert [tuple(level.shape) for level in maps] == [(2, 8 * 2**index, *size) for index, size in enumerate(sizes)]
    first = make_tiny("msvmamba", out_indices=[0, 1])
    assert [tuple(level.shape[2:]) for level in first(torch.randn(1, 3, 23, 13))] == [(5, 3), (3, 2)]
    with pytest.raises(ShapeError, match="smaller than one patch: expected H and W of 4 or more"):
        first(torch.randn(1, 3, 3, 9))


FIRST: dict[str, Any] = {"dims": 8, "depths": [1, 1, 1, 1], "num_classes": 10, "patchembed_version": "v1"}
THIRD = {**FIRST, "patchembed_version": "v2", "forward_type": "vms_noz", "ssm_ratio": 2.0, "conv_ffn_ratio": 2}


@torch.no_grad()
def test_files_tell_the_versions_apart(make_tiny: Make) -> None:
    image = torch.randn(1, 3, 40, 24)
    gated = {**THIRD, "forward_type": "vms"}
    cases: list[tuple[dict[str, Any], dict[str, Any]]] = [
        (FIRST, {"version": "v1"}),
        (THIRD, {"version": "v3", "gate": False}),
        (gated, {"version": "v3"}),
        ({**gated, "full_res_index": 2}, {"version": "v3", "full_res_index": 2}),
    ]
    for arguments, ours in cases:
        model = make_tiny("msvmamba", **ours)
        state = {
            name: tensor[:, :, None, None]
            if tensor.ndim == 2 and name.endswith(("_proj.weight", "fc.0.weight"))
            else tensor
            for name, tensor in model.state_dict().items()
        }
        for file in ({"model": state}, {"model_ema": state}):
            found: Any = mambasdk.import_checkpoint("msvmamba", arguments, file).eval()
            assert found.config.version == ours["version"]
            assert torch.equal(found(image), model(image))
        settings = {**arguments, "out_indices": [1, 3]}
        whole = {f"backbone.{name}": tensor for name, tensor in state.items()}
        backbone: Any = mambasdk.import_checkpoint("msvmamba", settings, {**whole, "decode_head.bias": image}).eval()
        stages = model.stages(image)
        for level, stage in zip(backbone(image), (stages[1], stages[3]), strict=True):
            expected = functional.layer_norm(stage, (stage.shape[-1],)).permute(0, 3, 1, 2)
            torch.testing.assert_close(level, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (THIRD, "the tensors are those of MSVMamba v1, the arguments are not: expected patchembed_version of v1"),
        ({**FIRST, "sscore_type": "multiscale_4scan_2"}, "sscore_type"),
        ({**FIRST, "ms_stage": [0, 1]}, "ms_stage"),
        ({**FIRST, "add_se": False}, "add_se = False is no model"),
        ({**FIRST, "surprise": 1}, "unknown arguments: surprise"),
        ({**FIRST, "depths": [1, 1, 1, 2]}, "missing"),
        ({**FIRST, "ssm_d_state": 2}, "wrong shape"),
    ],
)
def test_files_that_do_not_fit_are_named(arguments: dict[str, Any], message: str, make_tiny: Make) -> None:
    with pytest.raises(CheckpointError, match=message):
        mambasdk.import_checkpoint("msvmamba", arguments, make_tiny("msvmamba").state_dict())


@pytest.mark.parametrize("index", [0, 3, 4])
def test_routes_along_columns_are_refused_with_the_reason(index: int, make_tiny: Make) -> None:
    message = (
        rf"bad full_res_index: expected 1 \(rows\) or 2 .*got {index}; for a route along columns the authors' code"
    )
    with pytest.raises(InvalidArgumentError, match=message):
        make_tiny("msvmamba", version="v3", full_res_index=index)
    with pytest.raises(InvalidArgumentError, match=message):
        MS2D(8, full_res_index=index)


@pytest.mark.parametrize(
    "setting", [{"version": "v2"}, {"depths": [1, 0]}, {"out_indices": [4]}, {"dims": [8]}], ids=str
)
def test_bad_settings_are_refused(setting: dict[str, Any], make_tiny: Make) -> None:
    with pytest.raises(InvalidArgumentError, match="expected"):
        make_tiny("msvmamba", **setting)
