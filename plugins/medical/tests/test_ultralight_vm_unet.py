"""UltraLight VM-UNet against its definition in loops and float64; files, mixed precision, what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from medical_training import train_in_mixed_precision
from ultralight_definition import network_by_definition

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
    with pytest.raises(ShapeError, match=r"UltraLightVMUNet: .*expected"):
        tiny()(torch.zeros(shape))


def test_other_maps_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"ParallelMamba: bad x: expected \(B, 8, H, W\), got \(1, 4, 2, 2\)"):
        ParallelMamba(8, 8)(torch.zeros(1, 4, 2, 2))
