"""The models that are measured, with random weights and inputs of one seed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import mambasdk

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from exported import networks  # plain networks of PyTorch, which the tests export too

Inputs = dict[str, Tensor]
CODE = "operations of our own, which onnxruntime does not have"


@dataclass(frozen=True)
class Workload:
    """A model and what is asked of it.

    make: the module, as it is packaged. goal: how many times the fastest peer. decode: one token at a time, with the
    state before it. dtype: of stored weights. without: peers that do not run it -> why.
    """

    name: str
    make: Callable[[], nn.Module]
    inputs: Callable[[], Inputs]
    output: str
    goal: float = 1.0
    decode: bool = False
    dtype: str = "float32"
    without: Mapping[str, str] = field(default_factory=dict)

    def module(self) -> Any:
        """The module with the same weights on every call."""
        torch.manual_seed(0)
        return self.make().eval()


def noise(*shape: int) -> Tensor:
    """Of one seed."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(7))


def _network(name: str, make: Callable[[], nn.Module], *shape: int, output: str = "y") -> Workload:
    def named() -> nn.Module:
        return networks.Named(make(), {"x": noise(2, *shape[1:])}, {"x": ["B", *shape[1:]]})

    return Workload(name, named, lambda: {"x": noise(*shape)}, output)


def _family(name: str, variant: str, given: str, *shape: int, output: str = "logits") -> Workload:
    def make() -> nn.Module:
        model: nn.Module = mambasdk.create_model(variant)
        return model

    return Workload(name, make, lambda: {given: noise(*shape)}, output, 1.3, without={"onnxruntime": CODE})


def _language(variant: str, length: int, dtype: str) -> Workload:
    decode = length == 1

    def make() -> nn.Module:
        model: Any = mambasdk.create_model(variant)
        return model.to(getattr(torch, dtype))

    def tokens() -> Inputs:
        return {"tokens": (torch.arange(length, dtype=torch.int32) * 7919 + 17)[None] % 50000}

    what = "decode" if decode else f"prefill {length}"
    without = {"onnxruntime": CODE} | ({"torch.compile": "states in Python objects"} if decode else {})
    name = f"{variant} {what} {dtype}"
    return Workload(name, make, tokens, "last_logits", 1.0, decode, dtype, without)


WORKLOADS = [
    _network("resnet-50 224", networks.ResNet, 1, 3, 224, 224),
    _network("unet-2d 256", lambda: networks.ResidualUNet(2, 32, 6), 1, 1, 256, 256),
    _network("unet-3d 64", lambda: networks.ResidualUNet(3, 16, 5), 1, 1, 64, 64, 64),
    _network("yolov8n-shaped 640", networks.Detector, 1, 3, 640, 640, output="y0"),
    _network("deit-small 224", networks.DeiT, 1, 3, 224, 224),
    _network("deit-small 224 batch 8", networks.DeiT, 8, 3, 224, 224),
    _family("vim-tiny 224", "vim-tiny", "image", 1, 3, 224, 224),
    _family("vmamba-tiny 224", "vmamba-tiny-s1l8", "image", 1, 3, 224, 224),
    _family("ssamba-tiny", "ssamba-tiny", "fbank", 1, 1024, 128, output="embedding"),
    *(_language(v, n, d) for v in ("mamba-130m", "mamba2-130m") for n in (512, 1) for d in ("float32", "bfloat16")),
]
QUICK = [
    _network("small resnet 64", lambda: networks.ResNet((1, 1, 1, 1), 16, 10), 1, 3, 64, 64),
    Workload(
        "small mamba decode float32",
        lambda: mambasdk.create_model("mamba", d_model=32, n_layer=2, vocab_size=50),
        lambda: {"tokens": torch.tensor([[3]], dtype=torch.int32)},
        "last_logits",
        decode=True,
        without={"onnxruntime": CODE, "torch.compile": "states in Python objects"},
    ),
]
