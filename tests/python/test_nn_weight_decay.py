"""Which parameters take weight decay: a rule of their module's class, whatever was done to the module."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mambasdk import nn

D = 16
EXEMPT = {"A_log", "A_b_log", "D", "D_b", "dt_bias"}


def model() -> nn.CausalLM:
    torch.manual_seed(0)
    mixers = [nn.Mamba(D, d_state=4), nn.Mamba2(D, d_state=4, headdim=8, D_has_hdim=True)]
    blocks = [nn.Block(mixer, nn.RMSNorm(D)) for mixer in mixers]
    return nn.CausalLM(nn.MixerModel(blocks, nn.RMSNorm(D), D, vocab_size=32), 29)


def decayed_names(module: torch.nn.Module) -> set[str]:
    decayed, plain = nn.parameter_groups(module, 0.1)
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    assert len(decayed["params"]) + len(plain["params"]) == len(names)
    return {names[id(parameter)] for parameter in decayed["params"]}


def reloaded(module: nn.CausalLM) -> torch.nn.Module:
    with torch.device("meta"):
        again = model()
    again.load_state_dict({name: value.clone() for name, value in module.state_dict().items()}, assign=True)
    again.tie_weights()
    return again


def saved(module: nn.CausalLM) -> torch.nn.Module:
    buffer = io.BytesIO()
    torch.save(module, buffer)
    buffer.seek(0)
    again: torch.nn.Module = torch.load(buffer, weights_only=False)
    return again


COPIES: dict[str, Callable[[nn.CausalLM], torch.nn.Module]] = {
    "deepcopy": copy.deepcopy,
    "AveragedModel": lambda module: AveragedModel(module).module,
    "EMA": lambda module: AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(0.9)).module,
    "pickle": lambda module: pickle.loads(pickle.dumps(module)),
    "torch.save": saved,
    "assigned state dict": reloaded,
    "bfloat16": lambda module: module.to(torch.bfloat16),
    "deepcopy of float16": lambda module: copy.deepcopy(module).half(),
}


@pytest.mark.parametrize("kind", COPIES)
def test_the_groups_follow_a_copy(kind: str) -> None:
    expected = decayed_names(model())
    assert expected
    assert not any(name.rsplit(".", 1)[-1] in EXEMPT for name in expected)
    other = COPIES[kind](model())
    assert decayed_names(other) == expected
    # The marks on the parameters follow too.
    for name, parameter in other.named_parameters():
        if name.rsplit(".", 1)[-1] in EXEMPT:
            assert parameter._no_weight_decay
            assert parameter.dtype == torch.float32


@pytest.fixture
def process_group() -> Iterator[None]:
    """One process of gloo."""
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_the_groups_follow_sharding(process_group: None) -> None:
    module = model()
    expected = decayed_names(module)
    mesh = init_device_mesh("cpu", (1,))
    for layer in module.backbone.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(module, mesh=mesh)
    assert decayed_names(module) == expected
    tokens = torch.randint(29, (1, 5))
    module(tokens, labels=tokens).loss.backward()
    assert decayed_names(module) == expected


class _Scaled(torch.nn.Module):
    def __init__(self, like: torch.Tensor) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones_like(like))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale


def test_the_groups_follow_a_parametrization() -> None:
    module = model()
    expected = decayed_names(module)
    mixer = module.backbone.layers[0].mixer
    torch.nn.utils.parametrize.register_parametrization(mixer, "A_log", _Scaled(mixer.A_log))
    torch.nn.utils.parametrize.register_parametrization(mixer.in_proj, "weight", _Scaled(mixer.in_proj.weight))
    path = "backbone.layers.0.mixer"
    parametrized = f"{path}.in_proj.parametrizations.weight"
    assert decayed_names(module) == expected - {f"{path}.in_proj.weight"} | {
        f"{parametrized}.original",
        f"{parametrized}.0.scale",
        f"{path}.parametrizations.A_log.0.scale",  # the parametrization's own
    }
    narrow = module.to(torch.bfloat16)
    assert narrow.backbone.layers[0].mixer.parametrizations.A_log.original.dtype == torch.float32
    assert f"{path}.parametrizations.A_log.original" not in decayed_names(copy.deepcopy(narrow))


class _Adapter(torch.nn.Module):
    """What adapter libraries put around a module."""

    def __init__(self, base: torch.nn.Module) -> None:
        super().__init__()
        self.base_layer = base
        self.lora_A = torch.nn.Parameter(torch.randn(2, 3))

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("base_layer"), name)


def test_the_groups_follow_an_adapter() -> None:
    module = model()
    expected = decayed_names(module)
    layer = module.backbone.layers[0]
    layer.mixer = _Adapter(layer.mixer)
    found = decayed_names(copy.deepcopy(module))
    assert {name.replace("base_layer.", "") for name in found} == expected | {"backbone.layers.0.mixer.lora_A"}


def test_other_declarations_are_honoured() -> None:
    class Timm(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = torch.nn.Linear(2, 2)
            self.pos_embed = torch.nn.Parameter(torch.zeros(1, 2, 2))
            self.marked = torch.nn.Parameter(torch.zeros(2, 2))
            self.marked._no_weight_decay = True  # type: ignore[attr-defined]

        def no_weight_decay(self) -> set[str]:
            return {"pos_embed", "inner.weight", "absent"}

    assert decayed_names(Timm()) == set()
    assert decayed_names(copy.deepcopy(torch.nn.Sequential(torch.nn.Linear(2, 2)))) == {"0.weight"}
