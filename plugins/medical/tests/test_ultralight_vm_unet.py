"""UltraLight VM-UNet against its definition in loops and float64; files, mixed precision, what is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from medical_training import train_in_mixed_precision
from torch import Tensor
from torch.nn import functional

import mambasdk
from mambasdk.errors import CheckpointError, InvalidArgumentError, ShapeError
from mambasdk.plugins import get_host
from mambasdk.testing.golden import scatter
from mambasdk_medical.families.ultralight_vm_unet import ParallelMamba, SpatialBridge
from mambasdk_medical.plans import NetworkPlan


def tiny(**overrides: Any) -> Any:
    torch.manual_seed(0)
    model: Any = mambasdk.create_model(
        "ultralight_vm_unet", **{**get_host().family("ultralight_vm_unet").tiny, **overrides}
    )
    return scatter(model, 2).eval()


# ---- the definition, a token and a channel at a time ----


def mamba_by_definition(w: dict[str, Tensor], x: Tensor) -> Tensor:
    """arXiv 2312.00752, algorithm 2, for one sequence x (L, D); w: the mixer's tensors."""
    inner, states = w["A_log"].shape
    length, taps = len(x), w["conv1d.weight"].shape[-1]
    u, z = (x @ w["in_proj.weight"].T).split(inner, dim=1)
    seen = torch.empty_like(u)
    for t in range(length):
        total = w["conv1d.bias"].clone()
        for k in range(taps):
            if t - taps + 1 + k >= 0:
                total += w["conv1d.weight"][:, 0, k] * u[t - taps + 1 + k]
        seen[t] = total / (1 + torch.exp(-total))
    rank = w["dt_proj.weight"].shape[1]
    h = torch.zeros(inner, states, dtype=x.dtype)
    y = torch.empty_like(u)
    for t in range(length):
        low, B, C = (w["x_proj.weight"] @ seen[t]).split([rank, states, states])
        delta = torch.log1p(torch.exp(w["dt_proj.weight"] @ low + w["dt_proj.bias"]))
        for d in range(inner):
            h[d] = torch.exp(-delta[d] * w["A_log"][d].exp()) * h[d] + delta[d] * B * seen[t, d]
            y[t, d] = C @ h[d] + w["D"][d] * seen[t, d]
    return (y * z / (1 + torch.exp(-z))) @ w["out_proj.weight"].T


def normed(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    centred = x - x.mean(dim=-1, keepdim=True)
    return centred / (centred.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt() * weight + bias


def parallel_by_definition(w: dict[str, Tensor], x: Tensor) -> Tensor:
    """A ParallelMamba on one map x (C, H, W); w: its tensors."""
    channels, height, width = x.shape
    mixer = {name.removeprefix("mamba."): tensor for name, tensor in w.items() if name.startswith("mamba.")}
    tokens = normed(x.reshape(channels, -1).T, w["norm.weight"], w["norm.bias"])
    quarter = channels // 4
    parts = [tokens[:, i * quarter : (i + 1) * quarter] for i in range(4)]
    mixed = torch.cat([mamba_by_definition(mixer, part) + w["skip_scale"] * part for part in parts], dim=1)
    out = normed(mixed, w["norm.weight"], w["norm.bias"]) @ w["proj.weight"].T + w["proj.bias"]
    return out.T.reshape(-1, height, width)


def group_normed(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Four groups of the channels of one map (C, H, W)."""
    groups = x.reshape(4, -1)
    centred = groups - groups.mean(dim=1, keepdim=True)
    scaled = centred / (centred.square().mean(dim=1, keepdim=True) + 1e-5).sqrt()
    return scaled.reshape(x.shape) * weight[:, None, None] + bias[:, None, None]


def doubled(x: Tensor) -> Tensor:
    """(C, h, w) to (C, 2h, 2w): corners on corners, linear in between."""

    def lines(size: int) -> Tensor:
        weights = torch.zeros(2 * size, size, dtype=x.dtype)
        for i in range(2 * size):
            at = i * (size - 1) / (2 * size - 1)
            first = min(int(at), max(size - 2, 0))
            weights[i, first] += 1 - (at - first)
            if size > 1:
                weights[i, first + 1] += at - first
        return weights

    return lines(x.shape[1]) @ x @ lines(x.shape[2]).T


def gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def network_by_definition(w: dict[str, Tensor], image: Tensor) -> Tensor:
    """Logits (classes, H, W) of one image (C, H, W)."""

    def part(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): tensor for name, tensor in w.items() if name.startswith(prefix)}

    def layer(name: str, x: Tensor) -> Tensor:
        own = part(f"{name}.0.")
        if "weight" in own:
            return functional.conv2d(x[None], own["weight"], own["bias"], padding=1)[0]
        return parallel_by_definition(own, x)

    x, skips = image, []
    for level in range(1, 6):
        x = group_normed(layer(f"encoder{level}", x), w[f"ebn{level}.weight"], w[f"ebn{level}.bias"])
        channels, height, width = x.shape
        x = gelu(x.reshape(channels, height // 2, 2, width // 2, 2).amax(dim=(2, 4)))
        skips.append(x)
    placed, both = [], []
    for skip in skips:
        seen = torch.stack([skip.mean(dim=0), skip.amax(dim=0)])
        padded = functional.pad(seen, (9, 9, 9, 9))
        kernel, found = w["scab.satt.shared_conv2d.0.weight"][0], torch.zeros_like(skip[0])
        for row in range(7):
            for column in range(7):
                moved = padded[:, 3 * row : 3 * row + skip.shape[1], 3 * column : 3 * column + skip.shape[2]]
                found += (kernel[:, row, column, None, None] * moved).sum(dim=0)
        placed.append(skip * torch.sigmoid(found + w["scab.satt.shared_conv2d.0.bias"]))
        both.append(placed[-1] + skip)
    means = functional.pad(torch.cat([x.mean(dim=(1, 2)) for x in both]), (1, 1))
    kernel = w["scab.catt.get_all_att.weight"].flatten()
    along = kernel[0] * means[:-2] + kernel[1] * means[1:-1] + kernel[2] * means[2:]
    skips = []
    for level in range(1, 6):
        own = torch.sigmoid(w[f"scab.catt.att{level}.weight"] @ along + w[f"scab.catt.att{level}.bias"])
        skips.append(own[:, None, None] * both[level - 1] + placed[level - 1])
    x = gelu(layer("encoder6", x))
    for level in range(1, 6):
        x = group_normed(layer(f"decoder{level}", x), w[f"dbn{level}.weight"], w[f"dbn{level}.bias"])
        x = gelu(doubled(x) if level > 1 else x) + skips[-level]
    return doubled(torch.einsum("kc,chw->khw", w["final.weight"][:, :, 0, 0], x) + w["final.bias"][:, None, None])


@torch.no_grad()
def test_network_equals_its_definition() -> None:
    model = tiny(d_state=3).double()
    weights = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    image = torch.randn(2, 1, 64, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = torch.stack([network_by_definition(weights, one) for one in image])
    torch.testing.assert_close(model(image), expected, atol=1e-10, rtol=1e-10)
    torch.testing.assert_close(model.float()(image.float()).double(), expected, atol=1e-4, rtol=1e-4)


# ---- properties ----


@torch.no_grad()
def test_parts_share_their_mixer_and_no_pixel_sees_those_behind_it() -> None:
    torch.manual_seed(0)
    layer = scatter(ParallelMamba(8, 8, 4), 1).double().eval()
    x = torch.randn(1, 8, 3, 5, dtype=torch.float64)
    before = layer(x)
    behind = x.clone()
    behind[:, 0, 2, 1:] += 1.0  # one channel: the norm sees no shift of all
    after = layer(behind)
    assert torch.equal(after.flatten(2)[..., :11], before.flatten(2)[..., :11])
    assert not torch.allclose(after.flatten(2)[..., 11:], before.flatten(2)[..., 11:])
    # Parts that change places change places in what the mixer gives, where norms and the last layer have no order.
    plain = ParallelMamba(8, 8, 4).double().eval()
    plain.load_state_dict(layer.state_dict())
    for tensor, value in ((plain.norm.weight, 1.0), (plain.norm.bias, 0.0), (plain.proj.bias, 0.0)):
        tensor.fill_(value)
    plain.proj.weight.copy_(torch.eye(8, dtype=torch.float64))
    turned = plain(x.roll(2, dims=1))
    torch.testing.assert_close(turned, plain(x).roll(2, dims=1), atol=1e-12, rtol=1e-12)


@torch.no_grad()
def test_spatial_attention_is_one_for_all_widths_and_sizes() -> None:
    torch.manual_seed(0)
    bridge = SpatialBridge()
    for shape in ((2, 3, 5, 4), (1, 7, 1, 1), (1, 2, 40, 3)):
        found = bridge(torch.randn(shape))
        assert found.shape == (shape[0], 1, *shape[2:])
        assert bool(((found > 0) & (found < 1)).all())


def test_gradients_of_the_mixing_layer() -> None:
    torch.manual_seed(0)
    layer = ParallelMamba(4, 4, 2, 2).double()
    x = torch.randn(1, 4, 2, 3, dtype=torch.float64, requires_grad=True)
    parameters = list(layer.parameters())
    assert torch.autograd.gradcheck(lambda x, *_: layer(x), (x, *parameters), atol=1e-6, fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_two_hundred_steps_of_mixed_precision_are_finite(dtype: torch.dtype) -> None:
    train_in_mixed_precision(tiny(), dtype)


# ---- plans, files, what is refused ----


def test_a_plan_gives_patch_channels_and_classes() -> None:
    plan = NetworkPlan(patch_size=(96, 64), in_channels=2, num_classes=5)
    kind = type(tiny().config)
    assert kind.for_plan(plan) == {"patch_size": (96, 64), "in_channels": 2, "num_classes": 5}
    model: Any = mambasdk.create_model("ultralight_vm_unet", **kind.for_plan(plan))
    assert model.example_inputs()["image"].shape == (2, 2, 96, 64)
    assert model.classes == 5
    outputs = model.training_outputs(model.example_inputs()["image"])
    assert [tuple(one.shape) for one in outputs] == [(2, 5, 96, 64)]


@torch.no_grad()
def test_upstreams_files_load_without_a_configuration() -> None:
    model = tiny(in_channels=3, num_classes=1, d_conv=3)
    image = torch.randn(1, 3, 32, 64)
    state = model.state_dict()
    convolutions = {name: t[..., None] if ".catt.att" in name and t.ndim == 2 else t for name, t in state.items()}
    profiled = {**state, "total_ops": torch.zeros(1), "encoder4.0.mamba.total_params": torch.zeros(1)}
    wrapped = {"epoch": 3, "state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}
    for file in (state, convolutions, profiled, wrapped):
        found: Any = mambasdk.import_checkpoint("ultralight_vm_unet", {"patch_size": [32, 64]}, file).eval()
        assert torch.equal(found(image), model(image))
    plain = tiny(bridge=False)
    found = mambasdk.import_checkpoint("ultralight_vm_unet", {"split_att": "fc", "bridge": False}, plain.state_dict())
    assert not found.config.bridge
    assert list(found.config.widths) == list(plain.config.widths)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"surprise": 1}, "unknown arguments: surprise"),
        ({"split_att": "mlp"}, "split_att = 'mlp' is no model"),
        ({"num_classes": 4}, "wrong shape"),
        ({"bridge": False}, "scab"),
    ],
)
def test_files_that_do_not_fit_are_named(config: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        mambasdk.import_checkpoint("ultralight_vm_unet", config, tiny().state_dict())


def test_files_of_other_models_are_named() -> None:
    with pytest.raises(CheckpointError, match=r"no UltraLight VM-UNet: .*encoder1\.0\.weight"):
        mambasdk.import_checkpoint("ultralight_vm_unet", {}, {"head.weight": torch.zeros(2, 2)})


@pytest.mark.parametrize(
    "setting",
    [
        {"patch_size": [32, 32, 32]},
        {"widths": [8, 16, 24, 32, 48]},
        {"widths": [8, 16, 24, 32, 48, 66]},
        {"widths": [8, 16, 24, 32, 48, 0]},
        {"d_state": 0},
        {"in_channels": 0},
    ],
    ids=str,
)
def test_bad_settings_are_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError, match="expected"):
        tiny(**setting)


@pytest.mark.parametrize("shape", [(1, 1, 48, 32), (1, 2, 32, 32), (1, 32, 32), (1, 1, 32, 32, 32)])
def test_other_images_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="UltraLightVMUNet: .*expected"):
        tiny()(torch.zeros(shape))


def test_other_maps_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"ParallelMamba: bad x: expected \(B, 8, H, W\), got \(1, 4, 2, 2\)"):
        ParallelMamba(8, 8)(torch.zeros(1, 4, 2, 2))
