"""VM-UNet: weights to begin with, files, plans, grey images, mixed precision, what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from medical_training import train_in_mixed_precision
from torch import Tensor

import mambasdk
from mambasdk.errors import CheckpointError, InvalidArgumentError, ShapeError
from mambasdk.plugins import get_host
from mambasdk.testing.golden import scatter
from mambasdk_medical.families.vm_unet import VMUNetConfig, begin_from_vmamba
from mambasdk_medical.plans import NetworkPlan

_THREE: dict[str, Any] = {"dims": [8, 12, 16], "depths": [1, 2, 1], "depths_decoder": [2, 1, 1], "d_state": 3}


def tiny(**overrides: Any) -> Any:
    torch.manual_seed(0)
    model: Any = mambasdk.create_model("vm_unet", **{**get_host().family("vm_unet").tiny, **overrides})
    return scatter(model, 2).eval()


def noise(model: Any) -> Tensor:
    image: Tensor = model.example_inputs()["image"]
    return image


# ---- files ----


@pytest.mark.parametrize("prefix", ["", "vmunet."])
@torch.no_grad()
def test_upstreams_files_load_without_a_configuration(prefix: str) -> None:
    model = tiny(**_THREE, in_channels=3, num_classes=5, patch_size=[16, 32])
    weights = {prefix + name: tensor for name, tensor in model.state_dict().items()}
    again: Any = mambasdk.import_checkpoint("vm_unet", {}, weights).eval()
    assert torch.equal(again(noise(model)), model(noise(model)))
    assert again.config.drop_path_rate == 0.2
    grey: Any = mambasdk.import_checkpoint("vm_unet", {"input_channels": 1, "drop_path_rate": 0.0}, weights)
    assert grey.config.in_channels == 1
    assert grey.config.drop_path_rate == 0.0


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"depths": [1, 1, 1]}, r"depths = \[1, 1, 1\] in the configuration, \[1, 2, 1\] in the weights"),
        ({"num_classes": 9}, "num_classes = 9 in the configuration"),
        ({"input_channels": 4}, "input_channels = 4, but the weights take 3"),
        ({"patch_norm": False}, "patch_norm"),
    ],
)
def test_a_configuration_of_another_model_is_refused(config: dict[str, Any], message: str) -> None:
    weights = tiny(**_THREE, patch_size=[16, 32]).state_dict()
    with pytest.raises(CheckpointError, match=message):
        mambasdk.import_checkpoint("vm_unet", config, weights)


def test_weights_of_another_network_are_refused() -> None:
    with pytest.raises(CheckpointError, match=r"no tensors layers\.0\.blocks"):
        mambasdk.import_checkpoint("vm_unet", {}, {"encoder.weight": torch.zeros(2)})


# ---- weights of a VMamba ----


def vmamba(**overrides: Any) -> Any:
    settings = {
        "dims": [8, 12, 16],
        "depths": [1, 2, 1],
        "ssm_d_state": 3,
        "ssm_ratio": 2.0,
        "ssm_conv_bias": True,
        "forward_type": "v0",
        "mlp_ratio": 0.0,
        "downsample_version": "v1",
        "patchembed_version": "v1",
        "num_classes": 4,
    }
    torch.manual_seed(3)
    return scatter(mambasdk.create_model("vmamba", **{**settings, **overrides}), 4)


def older(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """As VMamba's first files have them, which upstream takes."""
    found = {}
    for name, tensor in state.items():
        name = name.replace("patch_embed.0.", "patch_embed.proj.").replace("patch_embed.2.", "patch_embed.norm.")  # noqa: PLW2901
        if ".blocks." in name:
            name = name.replace(".norm.", ".ln_1.").replace(".op.", ".self_attention.")  # noqa: PLW2901
        found[name.removeprefix("classifier.")] = tensor
    return found


@pytest.mark.parametrize("old", [False, True])
def test_weights_of_a_vmamba_are_taken_twice(old: bool) -> None:
    """The encoder's all, the decoder's where it has a block of that number."""
    model, theirs = tiny(**_THREE, patch_size=[16, 32]), vmamba().state_dict()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = begin_from_vmamba(model, {"model": older(theirs)} if old else theirs)
    state, names = model.state_dict(), older(theirs)
    encoder = {name for name in state if name.startswith(("patch_embed.", "layers."))}
    decoder = {name for name in state if name.startswith("layers_up.") and ".upsample." not in name}
    missing = {name for name in decoder if name.startswith("layers_up.0.blocks.1.")}  # the third stage has one block
    assert set(found) == encoder | decoder - missing
    assert len(found) == len(set(found))
    for name in encoder:
        assert torch.equal(state[name], names[name]), name
    for name in decoder - missing:
        _, stage, rest = name.split(".", 2)
        assert torch.equal(state[name], names[f"layers.{2 - int(stage)}.{rest}"]), name
    for name in set(state) - set(found):
        assert torch.equal(state[name], before[name]), name
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_weights_of_a_vmamba_of_other_sizes_are_refused() -> None:
    with pytest.raises(CheckpointError, match=r"patch_embed.*\(8, 3, 4, 4\).*take a VMamba of the model's dims"):
        begin_from_vmamba(tiny(**{**_THREE, "dims": [12, 12, 16]}, patch_size=[16, 32]), vmamba().state_dict())
    with pytest.raises(CheckpointError, match="no tensor has a name of the model"):
        begin_from_vmamba(tiny(), {"head.weight": torch.zeros(2)})


# ---- images and plans ----


@torch.no_grad()
def test_grey_images_are_three_channels_that_are_the_same() -> None:
    model = tiny(in_channels=3)
    grey = torch.randn(2, 1, 16, 24)
    assert torch.equal(model(grey), model(grey.expand(-1, 3, -1, -1)))
    same = tiny(in_channels=1)
    same.load_state_dict(model.state_dict())
    assert torch.equal(same(grey), model(grey))
    with pytest.raises(ShapeError, match=r"expected \(B, 1, H, W\)"):
        same(grey.expand(-1, 3, -1, -1))
    assert tiny(in_channels=4).patch_embed.proj.weight.shape[1] == 4


@torch.no_grad()
def test_sides_that_the_stages_do_not_divide_are_refused() -> None:
    """Upstream cuts a row off in the encoder, and then fails where it adds."""
    model = tiny()
    assert model.patch_divisor == (8, 8)
    assert mambasdk.create_model("vm-unet-isic", device="meta").patch_divisor == (32, 32)  # type: ignore[operator]
    assert model(torch.randn(1, 1, 8, 40)).shape == (1, 2, 8, 40)
    for size in ((12, 16), (16, 20), (15, 16)):
        with pytest.raises(ShapeError, match=r"multiples of \(8, 8\)"):
            model(torch.zeros(1, 1, *size))
    with pytest.raises(ShapeError, match="bad image"):
        model(torch.zeros(1, 16, 16))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"patch_size": [16, 20]}, "bad patch_size: expected .*multiples of 8"),
        ({"patch_size": [16, 16, 16]}, "bad patch_size.*slice by slice"),
        ({"dims": [6, 12]}, "a first width that 4 divides"),
        ({"dims": []}, "bad dims"),
        ({"depths": [1]}, "bad depths: expected integers of 1 or more for 2 stages"),
        ({"depths_decoder": [1, 0]}, "bad depths_decoder"),
        ({"d_state": 0}, "bad d_state"),
        ({"drop_path_rate": 1.0}, "bad drop_path_rate"),
    ],
)
def test_what_cannot_be_built_is_refused(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        tiny(**overrides)


def test_a_plans_patch_is_enlarged_to_what_the_stages_divide() -> None:
    plan = NetworkPlan(patch_size=(40, 64), in_channels=1, num_classes=4)
    assert VMUNetConfig.for_plan(plan) == {"patch_size": (64, 64), "in_channels": 1, "num_classes": 4}


def test_paths_drop_most_in_the_middle() -> None:
    model = tiny(**_THREE, patch_size=[16, 32], drop_path_rate=0.3)
    rates = [
        [block.drop_path.rate for stage in stages for block in stage.blocks]
        for stages in (model.layers, model.layers_up)
    ]
    assert rates[0] == pytest.approx([0.0, 0.1, 0.2, 0.3])
    assert rates[1] == pytest.approx([0.3, 0.2, 0.1, 0.0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_two_hundred_steps_of_mixed_precision_are_finite(dtype: torch.dtype) -> None:
    train_in_mixed_precision(tiny(drop_path_rate=0.1), dtype)
