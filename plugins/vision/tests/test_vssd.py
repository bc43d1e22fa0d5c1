"""VSSD's mixers by their definitions in NumPy; any size, files of other shapes, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

import mambasdk
from mambasdk.errors import CheckpointError, InvalidArgumentError, ShapeError
from mambasdk_vision.families.vssd import VSSDAttention, VSSDMixer

Make = Callable[..., Any]


def moved(module: Any) -> Any:
    """With parameters away from where they begin."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return module.double().eval()


def by_definition(mixer: VSSDMixer, v: Tensor) -> Tensor:
    """One map v (H, W, C) in float64: projections, convolution and norm of torch, what mixes tokens in loops."""
    height, width, _ = v.shape
    heads, inner, states, groups = mixer.heads, mixer.d_inner, mixer.d_state, mixer.ngroups
    z, xBC, dt = (v @ mixer.in_proj.weight.T).split([inner, inner + 2 * groups * states, heads], dim=-1)
    maps = functional.conv2d(
        xBC.permute(2, 0, 1)[None], mixer.conv2d.weight, mixer.conv2d.bias, padding=1, groups=xBC.shape[-1]
    )
    tokens = functional.silu(maps)[0].permute(1, 2, 0).reshape(height * width, -1).numpy()
    x = tokens[:, :inner].reshape(-1, heads, inner // heads)
    B = tokens[:, inner : inner + groups * states].reshape(-1, groups, states)
    C = tokens[:, inner + groups * states :].reshape(-1, groups, states)
    delta = np.logaddexp(0, dt.reshape(-1, heads).numpy() + mixer.dt_bias.numpy())
    A, D = np.exp(mixer.A_log.numpy()), mixer.D.numpy()
    y = np.zeros_like(x)
    length = height * width
    for h in range(heads):
        if mixer.mixing == "non_causal":
            sign = 1 if mixer.positive else -1
            group = h % groups
            state = sum(np.outer(B[t, group], sign * delta[t, h] * A[h] * x[t, h]) for t in range(length))
            for t in range(length):
                y[t, h] = C[t, group] @ state + D[h] * x[t, h]
            continue
        group = h // (heads // groups)
        backwards = mixer.mixing == "bidirectional" and h >= heads // 2
        state = np.zeros((states, x.shape[-1]))
        for t in reversed(range(length)) if backwards else range(length):
            state = np.exp(-delta[t, h] * A[h]) * state + np.outer(B[t, group], delta[t, h] * x[t, h])
            y[t, h] = C[t, group] @ state + D[h] * x[t, h]
    merged = torch.from_numpy(y).reshape(height, width, inner)
    normed = functional.layer_norm(merged, (inner,), mixer.norm.weight, mixer.norm.bias)
    return (normed * z) @ mixer.out_proj.weight.T


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({}, (3, 5)),
        ({}, (1, 1)),
        ({"positive": False}, (1, 6)),
        ({"ngroups": 2}, (4, 3)),
        ({"ngroups": 4, "positive": False}, (2, 3)),
        ({"mixing": "causal"}, (3, 5)),
        ({"mixing": "causal", "ngroups": 2}, (5, 1)),
        ({"mixing": "bidirectional", "ngroups": 2}, (3, 4)),
        ({"mixing": "bidirectional", "ngroups": 4}, (1, 5)),
    ],
    ids=str,
)
@torch.no_grad()
def test_mixer_equals_its_definition(options: dict[str, Any], size: tuple[int, int]) -> None:
    mixer = moved(VSSDMixer(6, 4, 3, **options))
    x = torch.randn(2, *size, 6, dtype=torch.float64)
    expected = torch.stack([by_definition(mixer, one) for one in x])
    torch.testing.assert_close(mixer(x), expected, atol=1e-11, rtol=1e-11)
    torch.testing.assert_close(mixer.float()(x.float()).double(), expected, atol=2e-4, rtol=2e-4)


@torch.no_grad()
def test_without_its_convolution_the_mixer_has_no_order() -> None:
    """A convolution that sees its own pixel alone leaves a permutation of the pixels a permutation of the outputs."""
    mixer = moved(VSSDMixer(6, 2, 3))
    weight = torch.zeros_like(mixer.conv2d.weight)
    weight[:, :, 1, 1] = 0.7
    mixer.conv2d.weight.copy_(weight)
    x = torch.randn(1, 3, 4, 6, dtype=torch.float64)
    order = torch.randperm(12)
    shuffled = x.flatten(1, 2)[:, order].view(1, 4, 3, 6)
    torch.testing.assert_close(mixer(shuffled).flatten(1, 2), mixer(x).flatten(1, 2)[:, order])
    causal = VSSDMixer(6, 2, 3, mixing="causal").double()
    causal.load_state_dict(mixer.state_dict())
    assert not torch.allclose(causal(shuffled).flatten(1, 2), causal(x).flatten(1, 2)[:, order])


@pytest.mark.parametrize("options", [{}, {"ngroups": 2, "positive": False}], ids=str)
def test_gradients(options: dict[str, Any]) -> None:
    mixer = moved(VSSDMixer(4, 2, 3, **options))
    x = torch.randn(1, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    parameters = list(mixer.parameters())
    assert torch.autograd.gradcheck(lambda x, *_: mixer(x), (x, *parameters), atol=1e-6, fast_mode=True)


@torch.no_grad()
def test_attention_sees_every_pixel() -> None:
    attention = moved(VSSDAttention(6, 2))
    x = torch.randn(2, 3, 2, 6, dtype=torch.float64)
    q, k, v = (x.view(2, 6, 6) @ attention.to_qkv.weight.T).view(2, 6, 3, 2, 3).permute(2, 0, 3, 1, 4)
    y = (q @ k.transpose(-1, -2) / 3**0.5).softmax(-1) @ v
    expected = y.transpose(1, 2).reshape(2, 3, 2, 6) @ attention.to_out.weight.T + attention.to_out.bias
    torch.testing.assert_close(attention(x), expected)


@torch.no_grad()
def test_any_size_down_to_one_pixel(make_tiny: Make) -> None:
    model = make_tiny("vssd", out_indices=[0, 1, 2, 3])
    assert model.map_channels == (8, 16, 32, 64)
    assert model.map_strides == (4, 8, 16, 32)
    for height, width in ((1, 1), (2, 3), (31, 45), (33, 64)):
        maps = model(torch.randn(2, 3, height, width))
        sizes = [(-(-height // 2**level), -(-width // 2**level)) for level in range(2, 6)]
        assert [tuple(level.shape) for level in maps] == [(2, 8 * 2**index, *size) for index, size in enumerate(sizes)]
    assert make_tiny("vssd")(torch.randn(1, 3, 17, 90)).shape == (1, 10)


ARGUMENTS: dict[str, Any] = {
    "embed_dim": 8,
    "depths": [1, 1, 1, 1],
    "num_heads": [2, 2, 4, 4],
    "d_state": 4,
    "mlp_ratio": 2.0,
    "num_classes": 10,
}


@torch.no_grad()
def test_files_of_classifiers_backbones_and_segmenters_load(make_tiny: Make) -> None:
    model = make_tiny("vssd")
    image = torch.randn(1, 3, 40, 24)

    def wide(name: str, tensor: Tensor) -> Tensor:
        linear = tensor.ndim == 2 and name.endswith(("_proj.weight", "to_qkv.weight", "fc1.weight", "head.weight"))
        return tensor[:, :, None, None] if linear else tensor

    state = {name: wide(name, tensor) for name, tensor in model.state_dict().items()}
    for file in ({"model": state}, {"model_ema": state, "epoch": 3}, {"state_dict": state}):
        found: Any = mambasdk.import_checkpoint("vssd", {**ARGUMENTS, "image_size": 256}, file).eval()
        assert torch.equal(found(image), model(image))
        assert found.config.imgsize == (256, 256)
    # The same file as a backbone: no end, norms that change nothing but scale.
    settings = {**ARGUMENTS, "out_indices": [0, 3], "ssd_expand": 2}
    backbone: Any = mambasdk.import_checkpoint("vssd", settings, state).eval()
    stages = model.stages(image)
    for level, stage in zip(backbone(image), (stages[0], stages[3]), strict=True):
        expected = functional.layer_norm(stage, (stage.shape[-1],)).permute(0, 3, 1, 2)
        torch.testing.assert_close(level, expected, atol=1e-5, rtol=1e-5)
    # A whole segmenter: the part under `backbone.`, with norms of its own.
    backbone.outnorm3.bias.add_(1.0)
    whole = {f"backbone.{name}": tensor for name, tensor in backbone.state_dict().items()}
    again: Any = mambasdk.import_checkpoint("vssd", settings, {**whole, "decode_head.conv_seg.bias": image}).eval()
    for level, expected in zip(again(image), backbone(image), strict=True):
        assert torch.equal(level, expected)


def test_modes_by_upstreams_arguments(make_tiny: Make) -> None:
    plain = make_tiny("vssd", mixing="causal").state_dict()
    found: Any = mambasdk.import_checkpoint("vssd", {**ARGUMENTS, "linear_attn_duality": False}, plain)
    assert found.config.mixing == "causal"
    grouped = make_tiny("vssd", mixing="bidirectional", ngroups=2).state_dict()
    arguments = {**ARGUMENTS, "linear_attn_duality": False, "bidirection": True, "ssd_ngroups": 2}
    found = mambasdk.import_checkpoint("vssd", arguments, grouped)
    assert found.config.mixing == "bidirectional"
    found = mambasdk.import_checkpoint("vssd", {**ARGUMENTS, "ssd_positve_dA": False, "bidirection": True}, plain)
    assert found.config.mixing == "non_causal"
    assert not found.config.positive


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lepe": True}, "lepe = True is no model"),
        ({"simple_downsample": True}, "simple_downsample"),
        ({"surprise": 1}, "unknown arguments: surprise"),
        ({"depths": [1, 1, 1, 2]}, "missing"),
        ({"d_state": 5}, "wrong shape"),
    ],
)
def test_files_that_do_not_fit_are_named(arguments: dict[str, Any], message: str, make_tiny: Make) -> None:
    with pytest.raises(CheckpointError, match=message):
        mambasdk.import_checkpoint("vssd", {**ARGUMENTS, **arguments}, make_tiny("vssd").state_dict())


@pytest.mark.parametrize(
    "setting",
    [
        {"num_heads": [2, 2, 4]},
        {"num_heads": [2, 2, 4, 3]},
        {"num_heads": [3, 2, 4, 4]},
        {"ngroups": 3},
        {"mixing": "bidirectional"},
        {"mixing": "sideways"},
        {"attn_types": ["mamba2", "mamba2", "mamba2", "linear"]},
        {"embed_dim": 7},
        {"out_indices": [4]},
    ],
    ids=str,
)
def test_bad_settings_are_refused(setting: dict[str, Any], make_tiny: Make) -> None:
    with pytest.raises(InvalidArgumentError, match="expected"):
        make_tiny("vssd", **setting)


def test_a_map_of_other_channels_is_named() -> None:
    with pytest.raises(ShapeError, match=r"VSSDMixer: bad x: expected \(B, H, W, 6\), got \(1, 4, 6\)"):
        VSSDMixer(6, 2, 3)(torch.zeros(1, 4, 6))
