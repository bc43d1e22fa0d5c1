"""Convolutions and packed products against torch's own, which know nothing of our windows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import abi
import pytest
import torch
from tolerance import assert_close
from torch import Tensor
from torch.nn import functional

from mambasdk import ops

ACTIVATIONS: list[Callable[[Tensor], Tensor]] = [
    lambda x: x,
    functional.relu,
    functional.gelu,
    lambda x: functional.gelu(x, approximate="tanh"),
    functional.silu,
    torch.sigmoid,
    torch.tanh,
    lambda x: functional.leaky_relu(x, 0.2),
    functional.hardswish,
]
LETTERS = "dhw"


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def named(name: str, values: tuple[int, ...]) -> dict[str, int]:
    """Arguments of the last of the three extents."""
    return {f"{name}_{letter}": value for letter, value in zip(LETTERS[3 - len(values) :], values, strict=True)}


def channel_last(x: Tensor) -> Tensor:
    """(B, C, ...) as (B, D, H, W, C): a view."""
    while x.dim() < 5:
        x = x.unsqueeze(2)
    return x.permute(0, 2, 3, 4, 1)


def channel_first(y: Tensor, dims: int) -> Tensor:
    y = y.permute(0, 4, 1, 2, 3)
    return y.flatten(2, 4).unflatten(2, y.shape[5 - dims :]) if dims < 3 else y


def taps_last(weight: Tensor) -> Tensor:
    """(O, C, ...) as (O, KD, KH, KW, C): a view, in which the first two are what they were."""
    return channel_last(weight)


def packed(weight: Tensor, transposed: bool = False) -> Tensor:
    matrix = taps_last(weight.transpose(0, 1) if transposed else weight).flatten(1)
    return ops.call("pack_weights", weight=matrix)


def in_double(
    function: Callable[..., Tensor], x: Tensor, weight: Tensor, bias: Tensor | None, **options: Any
) -> Tensor:
    return function(x.double(), weight.double(), None if bias is None else bias.double(), **options)


SHAPES = [  # extents, kernel, C, O, groups
    ((23,), (3,), 5, 7, 1),
    ((40,), (7,), 33, 70, 1),
    ((1,), (1,), 3, 2, 1),
    ((9, 31), (3, 3), 17, 40, 1),
    ((7, 7), (3, 3), 40, 33, 1),
    ((5, 4), (3, 3), 8, 96, 1),
    ((3, 2), (2, 2), 3, 32, 1),
    ((16, 18), (7, 7), 3, 64, 1),
    ((15, 29), (1, 1), 64, 64, 1),
    ((12, 1), (5, 1), 6, 9, 1),
    ((8, 8), (8, 8), 4, 5, 1),
    ((11, 30), (3, 3), 19, 19, 19),
    ((9, 20), (5, 3), 64, 64, 64),
    ((9, 12), (3, 3), 6, 12, 6),
    ((9, 12), (3, 3), 24, 36, 3),
    ((1, 50), (1, 31), 32, 32, 32),
    ((5, 6, 7), (3, 3, 3), 4, 18, 1),
    ((4, 5, 17), (1, 3, 2), 16, 16, 1),
    ((6, 6, 9), (3, 3, 3), 20, 20, 20),
    ((5, 9), (3, 3), 512, 40, 1),  # rows that lie 4 KiB apart, at a stride of 2
    ((3, 20), (1, 1), 1024, 40, 1),
]
OPTIONS: list[dict[str, int]] = [  # as torch's, the same along every extent
    {},
    {"padding": 1},
    {"padding": 2, "stride": 2},
    {"padding": 3, "dilation": 2},
    {"padding": 3, "stride": 3, "dilation": 3},
    {"stride": 4},
]


def options_for(
    kernel: tuple[int, ...], extents: tuple[int, ...], options: dict[str, int]
) -> dict[str, tuple[int, ...]]:
    """Per extent: padding at most what the kernel reaches, dilations that still fit."""
    found: dict[str, list[int]] = {"padding": [], "stride": [], "dilation": []}
    for k, n in zip(kernel, extents, strict=True):
        dilation = options.get("dilation", 1)
        padding = min(options.get("padding", 0), (k - 1) * dilation)
        while dilation * (k - 1) + 1 > n + 2 * padding:
            dilation -= 1
        found["padding"].append(padding)
        found["dilation"].append(dilation)
        found["stride"].append(options.get("stride", 1))
    return {name: tuple(values) for name, values in found.items()}


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize(("extents", "kernel", "C", "features", "groups"), SHAPES)
@pytest.mark.parametrize("layout", ["channels first", "channels last"])
def test_convolution_is_torchs(
    extents: tuple[int, ...],
    kernel: tuple[int, ...],
    C: int,
    features: int,
    groups: int,
    options: dict[str, int],
    layout: str,
) -> None:
    dims = len(extents)
    x, weight, bias = draw(2, C, *extents), draw(features, C // groups, *kernel, seed=1), draw(features, seed=2)
    places = options_for(kernel, extents, options)
    torchs = [functional.conv1d, functional.conv2d, functional.conv3d][dims - 1]
    expected = functional.relu(in_double(torchs, x, weight, bias, groups=groups, **places))
    given = channel_last(x)
    if layout == "channels last":
        given = given.contiguous()
    arguments: dict[str, Any] = {"x": given, "bias": bias, "activation": 1}
    for name, values in places.items():
        arguments |= named(name, values)
    arguments |= named("padding_after", places["padding"])
    y = ops.call("convolution", weight=taps_last(weight), groups=groups, **arguments)
    assert_close(channel_first(y, dims), expected, "convolution")
    if groups == 1:
        again = ops.call(
            "convolution_packed", weight=packed(weight), features=features, **named("kernel", kernel), **arguments
        )
        assert torch.equal(again, y)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize(("extents", "kernel", "C", "features", "groups"), SHAPES)
def test_transposed_convolution_is_torchs(
    extents: tuple[int, ...], kernel: tuple[int, ...], C: int, features: int, groups: int, stride: int, dilation: int
) -> None:
    dims = len(extents)
    x, weight, bias = draw(2, C, *extents), draw(C, features // groups, *kernel, seed=1), draw(features, seed=2)
    # As much padding as leaves something of the smallest extent.
    padding = tuple(
        min(k // 2, ((n - 1) * stride + dilation * (k - 1)) // 2) for n, k in zip(extents, kernel, strict=True)
    )
    more = max(stride, dilation) - 1
    torchs = [functional.conv_transpose1d, functional.conv_transpose2d, functional.conv_transpose3d][dims - 1]
    expected = in_double(
        torchs, x, weight, bias, groups=groups, stride=stride, padding=padding, dilation=dilation, output_padding=more
    )
    arguments: dict[str, Any] = {"x": channel_last(x), "bias": bias}
    arguments |= named("stride", (stride,) * dims) | named("dilation", (dilation,) * dims)
    arguments |= named("padding", padding) | named("output_padding", (more,) * dims)
    view = taps_last(weight)  # (C, KD, KH, KW, O / groups)
    y = ops.call("convolution_transposed", weight=view, groups=groups, **arguments)
    assert_close(channel_first(y, dims), expected, "convolution_transposed")
    if groups == 1:
        arguments |= named("kernel", kernel)
        matrix = packed(weight, transposed=True)
        assert torch.equal(ops.call("convolution_transposed_packed", weight=matrix, features=features, **arguments), y)


@pytest.mark.parametrize("activation", range(len(ACTIVATIONS)))
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("features", [32, 40])
def test_activations_and_residuals(activation: int, last: bool, features: int) -> None:
    x, weight, bias, residual = (
        draw(3, 20, 50),
        draw(features, 50, seed=1),
        draw(features, seed=2),
        draw(3, 20, features),
    )
    product = functional.linear(x.double(), weight.double(), bias.double())
    f = ACTIVATIONS[activation]
    expected = f(product) + residual if last else f(product + residual)
    options: dict[str, Any] = {"features": features, "activation": activation, "slope": 0.2, "residual_last": last}
    matrix = ops.call("pack_weights", weight=weight)
    y = ops.call("linear_packed", x=x, weight=matrix, bias=bias, residual=residual, **options)
    assert_close(y, expected, "linear_packed")
    image = ops.call(
        "convolution_packed",
        x=x[:, None, None],
        weight=matrix,
        bias=bias,
        residual=residual[:, None, None],
        **options,
    )
    assert torch.equal(image[:, 0, 0], y)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("rows", [1, 2, 5, 13, 14, 15, 29, 300])
def test_a_row_of_a_packed_product_depends_on_no_other(rows: int, dtype: torch.dtype) -> None:
    x, weight = draw(rows, 130), draw(70, 130, seed=1).to(dtype)
    matrix = ops.call("pack_weights", weight=weight)
    assert matrix.dtype == dtype
    y = ops.call("linear_packed", x=x, weight=matrix, features=70)
    assert_close(y, x.double() @ weight.double().T, "linear_packed")
    for r in (0, rows // 2, rows - 1):
        assert torch.equal(ops.call("linear_packed", x=x[r], weight=matrix, features=70), y[r])


def test_uneven_padding() -> None:
    x, weight = draw(1, 3, 9, 8), draw(5, 3, 2, 4, seed=1)
    expected = functional.conv2d(functional.pad(x, (2, 1, 0, 3)).double(), weight.double())
    places = {"padding_h": 0, "padding_after_h": 3, "padding_w": 2, "padding_after_w": 1}
    y = ops.call("convolution", x=channel_last(x), weight=taps_last(weight), **places)
    assert_close(channel_first(y, 2), expected, "convolution")


def test_wrong_arguments_are_named() -> None:
    x, weight = draw(1, 1, 4, 5, 6), draw(8, 1, 3, 3, 3, seed=1)

    def call(**changed: Any) -> Any:
        return ops.call("convolution", **({"x": x, "weight": weight, "groups": 2} | changed))

    assert call().shape == (1, 1, 2, 3, 8)
    with pytest.raises(ValueError, match="convolution: groups is 4, expected a divisor of 6, the channels of x"):
        call(groups=4)
    with pytest.raises(ValueError, match="convolution: groups is 3, expected a divisor of 8, the channels of y"):
        call(groups=3)
    with pytest.raises(ValueError, match="weight has 3 channels, expected 6: x has 6 channels in 1 groups"):
        call(groups=1)
    with pytest.raises(ValueError, match="reaches over 5 elements along h, expected at most 4, the extent of x with"):
        call(dilation_h=2)
    with pytest.raises(ValueError, match="convolution: dilation_w is 0, expected at least 1"):
        call(dilation_w=0)
    with pytest.raises(ValueError, match="convolution: stride_h is 0, expected at least 1"):
        call(stride_h=0)
    with pytest.raises(
        ValueError, match=r"convolution: activation is 9, expected one of 0 none, 1 relu, .* 8 hardswish"
    ):
        call(activation=9)
    with pytest.raises(ValueError, match="the kernel's extent along h is 0, expected at least 1"):
        call(weight=weight[:, :, :0], padding_h=1)
    with pytest.raises(ValueError, match="convolution_transposed: stride_w is 0, expected at least 1"):
        ops.call("convolution_transposed", x=x, weight=draw(6, 1, 3, 3, 4), stride_w=0)
    with pytest.raises(ValueError, match="convolution_transposed: groups is 4, expected a divisor of 6"):
        ops.call("convolution_transposed", x=x, weight=draw(6, 1, 3, 3, 4), groups=4)


@pytest.mark.parametrize("isa", abi.isas())
@pytest.mark.parametrize("rows", [1, 14, 61])
@pytest.mark.parametrize("channels", [64, 131, 250])
def test_x_is_rounded_where_asked(isa: str, rows: int, channels: int) -> None:
    x, weight = draw(rows, channels), draw(70, channels, seed=1)
    with abi.isa(isa):
        matrix = ops.call("pack_weights", weight=weight.bfloat16())
        y = ops.call("linear_packed", x=x, weight=matrix, features=70, round_x=True)
        exact = ops.call("linear_packed", x=x, weight=matrix, features=70)
        unaffected = ops.call("linear_packed", x=x, weight=matrix.float(), features=70, round_x=True)
    assert_close(y, x.bfloat16().double() @ weight.bfloat16().double().T, "rounded")
    assert_close(exact, x.double() @ weight.bfloat16().double().T, "exact")
    assert torch.equal(unaffected, exact)
