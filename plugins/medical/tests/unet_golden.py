"""Golden sets of residual U-Nets: several nets in a folder, by name, with their logits and one layer's map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

import mambasdk
from mambasdk.testing import golden
from mambasdk.testing.golden import Golden, Recorded, Tensors, Tolerance

# From the golden READMEs: of a tensor's largest magnitude. In float64 the difference is the goldens' rounding, which
# norms over the few positions of a deepest map make larger.
TOLERANCES: dict[str, Any] = {"tolerance": Tolerance(1e-4, "largest"), "double": Tolerance(1e-4, "largest")}
# A bias before an instance norm changes nothing: its gradient, zero, is found as a sum of large terms that cancel.
EQUAL = 5e-4


def cases(folder: Path) -> Sequence[str]:
    """The nets of the folder."""
    return list(golden.config(folder)["nets"])


def checkpoint(folder: Path, case: str) -> tuple[Any, Tensors]:
    """A net's constructor facts and weights."""
    start = f"{case}."
    weights = load_file(folder / "weights.safetensors")
    found = {name.removeprefix(start): tensor for name, tensor in weights.items() if name.startswith(start)}
    return golden.config(folder)["nets"][case], found


def recorded(folder: Path, case: str) -> Tensors:
    """`in`, `out.0`, … and `mid.…` of a net."""
    found = {}
    for name, tensor in load_file(folder / "io.safetensors").items():
        kind, net, *rest = name.split(".")
        if net == case:
            found[".".join((kind, *rest))] = tensor
    return found


def run(model: Any, given: Recorded, taps: Mapping[str, tuple[str, str]]) -> Tensors:
    """Logits of every step, and what goes into and comes out of modules: name -> (module, "in" or "out")."""
    seen: Tensors = {}
    hooks = []
    for name, (module, side) in taps.items():

        def keep(_: Any, arguments: Any, out: Any, name: str = name, side: str = side) -> None:
            seen[name] = (arguments[0] if side == "in" else out).detach().clone()

        hooks.append(model.get_submodule(module).register_forward_hook(keep))
    logits = model.training_outputs(given["in"])
    assert torch.equal(model(given["in"]), logits[0])
    for hook in hooks:
        hook.remove()
    return {**{f"out.{index}": one for index, one in enumerate(logits)}, **seen}


def deepest(model: Any, bottleneck: str, encoder: str) -> str:
    """The path of the layer of tokens on the deepest map."""
    place: str = model.config.placement
    return bottleneck if place == "bot" else f"{encoder}.{len(model.config.features_per_stage) - 1}"


def shapes(file: str) -> dict[str, list[int]]:
    """Names and shapes of a published state dict, each tensor once."""
    published: Mapping[str, Any] = golden.facts(file)["state_dict"]
    return {name: list(shape) for name, (shape, _) in published.items()}


# ---- another set of the same layout ----

_TWO: list[list[int]] = [[1, 1], [2, 2], [2, 2], [2, 2]]
_THREE: list[list[int]] = [[1, 1, 1], [1, 2, 2], [2, 2, 1], [2, 2, 2]]
OTHER: dict[str, dict[str, Any]] = {
    "bot2d": {"kind": "Bot", "patch": [24, 40], "cin": 3, "ncls": 2, "strides": _TWO, "nenc": 3, "ndec": 1},
    "enc2d": {"kind": "Enc", "patch": [16, 24], "cin": 1, "ncls": 4, "strides": _TWO, "nenc": 1, "ndec": 3},
    "bot3d": {"kind": "Bot", "patch": [4, 16, 16], "cin": 2, "ncls": 3, "strides": _THREE, "nenc": 1, "ndec": 1},
    "enc3d": {"kind": "Enc", "patch": [4, 16, 8], "cin": 1, "ncls": 2, "strides": _THREE, "nenc": 2, "ndec": 1},
}


def write(root: Path, which: Golden, family: str, seed: int) -> None:
    """The folder of other sizes, from our own models."""
    folder = root / which.system
    io: Tensors = {}
    for number, (case, facts) in enumerate(OTHER.items()):
        dims = len(facts["patch"])
        whole = {**facts, "kernels": [[1, 3, 3][-dims:], *([3] * dims for _ in range(3))], "base": 4, "maxf": 12}
        golden.write(folder, "config.json", {"nets": {**_nets(folder), case: whole}})
        torch.manual_seed(seed + number)
        own = {
            "patch_size": whole["patch"],
            "in_channels": whole["cin"],
            "num_classes": whole["ncls"],
            "strides": whole["strides"],
            "kernel_sizes": whole["kernels"],
            "features_per_stage": [4, 8, 12, 12],
            "n_conv_per_stage": [whole["nenc"]] * 4,
            "n_conv_per_stage_decoder": [whole["ndec"]] * 3,
            "placement": whole["kind"].lower(),
        }
        model: Any = golden.scatter(mambasdk.create_model(family, **own), seed + number, 0.05)
        weights = {f"{case}.{name}": tensor for name, tensor in model.state_dict().items()}
        golden.write(folder, "weights.safetensors", weights)
        image: Tensor = torch.randn(2, whole["cin"], *whole["patch"])
        for name, tensor in golden.record(which, model, {"in": image}).items():
            kind, *rest = name.split(".")
            io[".".join((kind, case, *rest))] = tensor
    golden.write(folder, "io.safetensors", io)


def _nets(folder: Path) -> dict[str, Any]:
    return golden.config(folder)["nets"] if (folder / "config.json").is_file() else {}  # type: ignore[no-any-return]
