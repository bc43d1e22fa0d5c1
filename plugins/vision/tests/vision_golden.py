"""Golden sets of image encoders: where their tensors lie, how a run gives them, and writing another set."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import mambasdk
from mambasdk.testing import golden
from mambasdk.testing.golden import Golden, Recorded, Tensors, Tolerance

# From the golden READMEs: relative to a tensor's root mean square. In float64 the difference is the goldens' rounding.
TOLERANCES: dict[str, Any] = {"tolerance": Tolerance(1e-4, "rms"), "gradient": Tolerance(1e-3, "rms")}
DOUBLE = Tolerance(1e-5, "rms")


def checkpoint(folder: Path, _: str) -> tuple[Any, Tensors]:
    return golden.config(folder)["kwargs"], load_file(folder / "weights.safetensors")


def recorded(folder: Path, _: str) -> Tensors:
    """The run's tensors, and the gradients of sum(logits * cotangent)."""
    gradients = load_file(folder / "grads.safetensors")
    cotangent = {"cotangent": gradients.pop("cotangent")}
    named = {f"grad.{name}": tensor for name, tensor in gradients.items()}
    return {**load_file(folder / "io.safetensors"), **cotangent, **named}


class Taps:
    """What goes into and comes out of modules, by the name of the tap: name -> (module, "in" or "out")."""

    def __init__(self, model: nn.Module, places: Mapping[str, tuple[str, str]]) -> None:
        self.seen: Tensors = {}
        for name, (module, side) in places.items():
            model.get_submodule(module).register_forward_hook(partial(self._keep, name, side))

    def _keep(self, name: str, side: str, module: nn.Module, arguments: Any, out: Any) -> None:
        self.seen[name] = arguments[0] if side == "in" else out


def gradients(model: nn.Module, image: Tensor, logits: Tensor, given: Recorded, default: str) -> Tensors:
    """Those that are recorded; for a new set the input's and those of the parameters below `default`."""
    (logits * given["cotangent"]).sum().backward()
    parameters = {f"grad.{name}": p for name, p in model.named_parameters()}
    wanted = [name for name in given if name.startswith("grad.")]
    wanted = wanted or ["grad.input", *(name for name in parameters if name.startswith(f"grad.{default}"))]
    found: Tensors = {}
    for name in wanted:
        gradient = image.grad if name == "grad.input" else parameters[name].grad
        assert gradient is not None, name
        found[name] = gradient
    return found


def _backbone(folder: Path, _: str) -> tuple[Any, Tensors]:
    """The classifier's weights under the pyramid's norms, which its own file holds."""
    arguments, weights = checkpoint(folder, "")
    io = load_file(folder / "backbone_io.safetensors")
    stages = sorted(int(name.removeprefix("feat")) for name in io if name.startswith("feat"))
    norms = {name: tensor for name, tensor in io.items() if name.startswith("outnorm")}
    return {**arguments, "out_indices": stages}, {**weights, **norms}


def _recorded_maps(folder: Path, _: str) -> Tensors:
    io = load_file(folder / "backbone_io.safetensors")
    return {name: tensor for name, tensor in io.items() if not name.startswith("outnorm")}


def _run_maps(model: Any, given: Recorded) -> Tensors:
    maps = model(given["input"])
    return {f"feat{index}": found for index, found in zip(model.config.out_indices, maps, strict=True)}


def pyramid(system: str) -> Golden:
    """The maps `feat0`, … of `backbone_io.safetensors`, with the weights of the folder's classifier."""
    return Golden(
        system=system, part="pyramid", checkpoint=_backbone, recorded=_recorded_maps, run=_run_maps, **TOLERANCES
    )


def write(
    folder: Path,
    family: str,
    which: Golden,
    arguments: dict[str, Any],
    own: dict[str, Any],
    size: tuple[int, int],
    *,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    model: Any = golden.scatter(mambasdk.create_model(family, **own), seed, 0.05)
    config = {"kwargs": arguments}
    golden.write(folder, "config.json", config)
    golden.write(folder, "weights.safetensors", model.state_dict())
    inputs = {"input": torch.randn(2, 3, *size), "cotangent": torch.randn(2, own["num_classes"])}
    io = golden.record(which, model, inputs, config)
    gradients = {name.removeprefix("grad."): t for name, t in io.items() if name.startswith("grad.")}
    golden.write(folder, "grads.safetensors", {**gradients, "cotangent": io.pop("cotangent")})
    golden.write(folder, "io.safetensors", {name: t for name, t in io.items() if not name.startswith("grad.")})


def write_pyramid(folder: Path, which: Golden, backbone: Any, size: tuple[int, int], *, seed: int) -> None:
    """Add `backbone_io.safetensors` to what `write` made: maps of `backbone` with the weights that lie there."""
    torch.manual_seed(seed)
    golden.scatter(backbone, seed)
    backbone.load_state_dict(load_file(folder / "weights.safetensors"), strict=False)
    io = golden.record(which, backbone, {"input": torch.randn(1, 3, *size)})
    norms = {name: tensor.float() for name, tensor in backbone.state_dict().items() if name.startswith("outnorm")}
    golden.write(folder, "backbone_io.safetensors", {**io, **norms})
