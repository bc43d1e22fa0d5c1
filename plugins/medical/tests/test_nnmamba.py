"""nnMamba: the mean over flips step by step, shared layers, both ends, files, sizes, mixed precision."""

from __future__ import annotations

from typing import Any

import naive_mamba
import pytest
import torch
from mixed_precision import train
from torch import Tensor

import mambasdk
from mambasdk.errors import CheckpointError, InvalidArgumentError, ShapeError
from mambasdk.models import import_checkpoint
from mambasdk.nn import Mamba
from mambasdk.package import save_package
from mambasdk.plugins import get_host
from mambasdk.testing.golden import scatter
from mambasdk_medical.families.nnmamba import FlippedMambaLayer, NnMambaConfig, mean_over_flips
from mambasdk_medical.plans import NetworkPlan


def tiny(**overrides: Any) -> Any:
    torch.manual_seed(0)
    return mambasdk.create_model("nnmamba", **{**get_host().family("nnmamba").tiny, **overrides})


def step_by_step(mixer: Mamba, v: Tensor) -> Tensor:
    """One sequence v (L, C): it is turned round, mixed in a loop, turned back, four times."""
    given = naive_mamba.Parameters.of(mixer)
    parts = []
    for axes in ((), (1,), (0,), (0, 1)):
        x, z = (v.flip(axes) @ mixer.in_proj.weight.T).chunk(2, dim=1)
        parts.append((naive_mamba.scan(given, x, z) @ mixer.out_proj.weight.T).flip(axes))
    return torch.stack(parts).mean(0)


@torch.no_grad()
def test_mean_over_flips_equals_its_definition() -> None:
    """In float64, with every parameter away from where it begins."""
    torch.manual_seed(0)
    mixer: Any = scatter(Mamba(5, 3), 1, 0.3).double()
    v = torch.randn(2, 13, 5, dtype=torch.float64)
    expected = torch.stack([step_by_step(mixer, row) for row in v])
    torch.testing.assert_close(mean_over_flips(mixer, v), expected, atol=1e-12, rtol=1e-10)
    with pytest.raises(ShapeError, match="bad x"):
        mean_over_flips(mixer, v[0])


@torch.no_grad()
def test_mixing_does_not_tell_directions_apart() -> None:
    """Voxels or channels turned round before are as turned round after."""
    torch.manual_seed(0)
    mixer = Mamba(6).double()
    v = torch.randn(1, 11, 6, dtype=torch.float64)
    for axes in ((1,), (2,), (1, 2)):
        torch.testing.assert_close(mean_over_flips(mixer, v.flip(axes)), mean_over_flips(mixer, v).flip(axes))


def test_a_stage_shares_one_layer_and_names_it_once() -> None:
    """Its gradient comes from both blocks."""
    model = tiny()
    layers = [name for name, module in model.named_modules() if isinstance(module, FlippedMambaLayer)]
    assert layers == [f"layer{stage}.1.mamba_layer" for stage in (1, 2, 3)]
    calls = []
    model.layer2[1].mamba_layer.register_forward_hook(lambda *_: calls.append(1))
    model(torch.randn(2, 2, 16, 16, 16))
    assert len(calls) == 2


def test_files_with_a_shared_layer_under_both_names_are_read() -> None:
    """The alias keys of upstream's state dicts."""
    model = tiny()
    state = model.state_dict()
    aliases = {name.replace(".1.mamba", ".2.mamba"): tensor for name, tensor in state.items() if ".1.mamba" in name}
    assert aliases
    again: Any = import_checkpoint("nnmamba", {"patch_size": [16, 16, 16]}, {**state, **aliases})
    assert again.config == model.config
    assert again.state_dict().keys() == state.keys()
    with pytest.raises(CheckpointError, match="no nnMamba"):
        import_checkpoint("nnmamba", {}, {"conv.weight": torch.zeros(1)})


def test_classifier_takes_any_size_and_its_package_gives_logits(tmp_path: Any) -> None:
    model = tiny(task="classification", patch_size=[9, 16, 13]).eval()
    assert model.patch_divisor == (1, 1, 1)
    with torch.no_grad():
        expected = model(torch.ones(2, 2, 9, 16, 13))
    assert expected.shape == (2, 3)
    assert model(torch.ones(1, 2, 7, 5, 3)).shape == (1, 3)
    save_package(model, tmp_path / "package")
    again: Any = mambasdk.load(tmp_path / "package")
    assert torch.equal(again(torch.ones(2, 2, 9, 16, 13)), expected)
    assert again.package_head is None
    imported: Any = import_checkpoint("nnmamba", {"patch_size": [9, 16, 13]}, model.state_dict())
    assert imported.config == model.config


def test_logits_of_relu_are_not_negative() -> None:
    image = torch.randn(2, 2, 16, 16, 16)
    assert bool((tiny(relu_logits=True)(image) >= 0).all())
    assert bool((tiny()(image) < 0).any())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"patch_size": [16, 16, 24]}, "multiples of 16"),
        ({"patch_size": [16, 16]}, "network of volumes"),
        ({"task": "landmarks"}, "task"),
        ({"blocks": 1}, "blocks"),
        ({"channels": 0}, "channels"),
    ],
)
def test_bad_configurations_are_named(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        tiny(**overrides)


def test_plans_and_images() -> None:
    model = tiny(**NnMambaConfig.for_plan(NetworkPlan((16, 16, 32), in_channels=1, num_classes=4)))
    assert model.patch_divisor == (16, 16, 16)
    assert model(torch.zeros(2, 1, 16, 16, 32)).shape == (2, 4, 16, 16, 32)
    for shape in ((1, 1, 16, 16, 24), (1, 2, 16, 16, 16), (1, 1, 16, 16)):
        with pytest.raises(ShapeError):
            model(torch.zeros(shape))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("task", ["segmentation", "classification"])
def test_200_steps_in_mixed_precision_stay_finite(dtype: torch.dtype, task: str) -> None:
    losses = train(tiny(task=task, blocks=2), dtype)
    assert sum(losses[-10:]) < 0.85 * sum(losses[:10])
