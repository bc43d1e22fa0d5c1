"""SegMamba: its mixer step by step, slices, files, sizes, mixed precision."""

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
from mambasdk.plugins import get_host
from mambasdk.testing.golden import scatter
from mambasdk_medical.counts import parameter_count
from mambasdk_medical.families.segmamba import SegMambaConfig, TriOrientedMamba
from mambasdk_medical.plans import NetworkPlan


def tiny(**overrides: Any) -> Any:
    torch.manual_seed(0)
    return mambasdk.create_model("segmamba", **{**get_host().family("segmamba").tiny, **overrides})


def step_by_step(mixer: TriOrientedMamba, v: Tensor) -> Tensor:
    """One sequence v (L, C): each orientation's steps as places, every step in a loop, each gated by itself."""
    inner, slices, length = mixer.d_inner, mixer.num_slices, len(v)
    projected = v @ mixer.in_proj.weight.T
    x, z = projected[:, :inner], projected[:, inner:]
    across = [(t % slices) * (length // slices) + t // slices for t in range(length)]
    total = torch.zeros_like(x)
    for suffix, places in (("", range(length)), ("_b", range(length - 1, -1, -1)), ("_s", across)):
        order = torch.tensor(list(places))
        total[order] += naive_mamba.scan(naive_mamba.Parameters.of(mixer, suffix), x[order], z[order])
    return total @ mixer.out_proj.weight.T


@pytest.mark.parametrize(("length", "slices"), [(24, 4), (24, 1), (24, 24), (10, 5)])
@torch.no_grad()
def test_mixer_equals_its_definition(length: int, slices: int) -> None:
    """In float64, with every parameter away from where it begins."""
    torch.manual_seed(0)
    mixer: Any = scatter(TriOrientedMamba(6, slices, d_state=3), 1, 0.3).double()
    v = torch.randn(2, length, 6, dtype=torch.float64)
    expected = torch.stack([step_by_step(mixer, row) for row in v])
    torch.testing.assert_close(mixer(v), expected, atol=1e-12, rtol=1e-10)


def test_each_orientation_has_parameters_of_its_own() -> None:
    names = {name for name, _ in TriOrientedMamba(8, 2).named_parameters()}
    for suffix in ("", "_b", "_s"):
        own = {f"conv1d{suffix}.weight", f"conv1d{suffix}.bias", f"x_proj{suffix}.weight", f"dt_proj{suffix}.weight"}
        own |= {f"dt_proj{suffix}.bias", f"A{suffix}_log", f"D{suffix}"}
        assert own <= names
        names -= own
    assert names == {"in_proj.weight", "out_proj.weight"}


def test_decays_stay_float32_and_undecayed() -> None:
    mixer = TriOrientedMamba(8, 2).to(torch.bfloat16)
    for name in ("A_log", "A_b_log", "A_s_log", "D", "D_b", "D_s"):
        parameter = getattr(mixer, name)
        assert parameter.dtype == torch.float32
        assert parameter._no_weight_decay


def test_a_sequence_that_does_not_divide_is_refused() -> None:
    mixer = TriOrientedMamba(8, 5)
    with pytest.raises(ShapeError, match=r"multiple of num_slices 5.*24"):
        mixer(torch.zeros(1, 24, 8))
    with pytest.raises(ShapeError, match="bad x"):
        mixer(torch.zeros(1, 25, 9))
    with pytest.raises(InvalidArgumentError, match="num_slices"):
        TriOrientedMamba(8, 0)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"num_slices": [7, 4]}, "num_slices of stage 0.*divisor of its 1024 voxels.*7"),
        ({"num_slices": [8]}, "num_slices"),
        ({"patch_size": [16, 16]}, "network of volumes"),
        ({"patch_size": [16, 16, 18]}, "multiples of 4"),
        ({"depths": [1, 0]}, "depths"),
        ({"hidden_size": 0}, "hidden_size"),
    ],
)
def test_bad_configurations_are_named(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        tiny(**overrides)


def test_plan_sets_the_slices() -> None:
    """Those of the published patch are the published ones, and an anisotropic patch has fewer."""
    published = SegMambaConfig.for_plan(NetworkPlan((128, 128, 128), 4, 4))
    assert SegMambaConfig(**published) == SegMambaConfig()
    settings = SegMambaConfig.for_plan(NetworkPlan((16, 64, 48), 1, 2))
    assert settings["num_slices"] == [8, 4, 2, 1]
    model = mambasdk.create_model("segmamba-mini", **settings).eval()
    with torch.no_grad():
        assert model(torch.zeros(1, 1, 16, 64, 48)).shape == (1, 2, 16, 64, 48)


def test_outputs_have_the_patchs_size_and_other_sizes_are_refused() -> None:
    model = tiny()
    assert model.patch_divisor == (4, 4, 4)
    assert model(torch.zeros(1, 2, 8, 16, 32)).shape == (1, 3, 8, 16, 32)
    for shape in ((1, 2, 8, 16, 30), (1, 3, 8, 16, 32), (1, 2, 16, 32)):
        with pytest.raises(ShapeError):
            model(torch.zeros(shape))


@pytest.mark.parametrize("prefix", ["", "module."])
def test_sizes_are_read_off_the_tensors(prefix: str) -> None:
    model = tiny(depths=[1, 2])
    file = {f"{prefix}{name}": tensor for name, tensor in model.state_dict().items()}
    config = {"patch_size": model.config.patch_size, "num_slices": model.config.num_slices}
    again: Any = import_checkpoint("segmamba", config, file)
    assert again.config == model.config
    with pytest.raises(CheckpointError, match="no SegMamba"):
        import_checkpoint("segmamba", {}, {"conv.weight": torch.zeros(1)})


def test_paper_convention_leaves_the_mixers_out() -> None:
    model = mambasdk.create_model("segmamba-brats", device="meta")
    mixers = sum(parameter_count(module) for module in model.modules() if isinstance(module, TriOrientedMamba))
    assert parameter_count(model, "paper") == parameter_count(model) - mixers


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_200_steps_in_mixed_precision_stay_finite(dtype: torch.dtype) -> None:
    losses = train(tiny(patch_size=[8, 16, 16]), dtype)
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])
