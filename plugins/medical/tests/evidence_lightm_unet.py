"""LightM-UNet: the authors' golden tensors in 2-D and 3-D, every count, the shapes, and what holds for all."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

import mambasdk
from mambasdk.testing import families, golden
from mambasdk.testing.golden import Golden, Recorded, Tensors, Tolerance

# (module, what is kept of its call: 0 its input, 1 its output) by the recorded name, for each net.
_TAPS: dict[str, dict[str, tuple[str, int]]] = {
    "2d": {
        "mid.resmamba_in": ("down_layers.1.1", 0),
        "mid.resmamba_out": ("down_layers.1.1", 1),
        "mid.rvm_in": ("down_layers.1.1.conv1", 0),
        "mid.rvm_out": ("down_layers.1.1.conv1", 1),
        "mid.mamba_in": ("down_layers.1.1.conv1.mamba", 0),
        "mid.mamba_out": ("down_layers.1.1.conv1.mamba", 1),
    },
    "3d": {"mid.down1": ("down_layers.1", 1), "mid.bottleneck": ("down_layers.2", 1)},
}


def cases(folder: Path) -> list[str]:
    return sorted(name.removeprefix("net") for name in golden.config(folder) if name.startswith("net"))


def checkpoint(folder: Path, case: str) -> tuple[Any, Tensors]:
    prefix = f"net{case}."
    tensors = load_file(folder / "weights.safetensors")
    mine = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    return golden.config(folder)[f"net{case}"], mine


def recorded(folder: Path, case: str) -> Tensors:
    """Names without the net's: `mid.2d.rvm_in` is `mid.rvm_in`, `in.2d` is `in`."""
    tensors = load_file(folder / "io.safetensors")
    mark = f".{case}"
    return {name.replace(mark, "", 1): t for name, t in tensors.items() if mark in f"{name}."}


def run(model: Any, given: Recorded) -> Tensors:
    seen: Tensors = {}

    def keep(name: str, side: int, _: Any, arguments: Any, out: Tensor) -> None:
        seen[name] = (arguments[0], out)[side].clone()

    for name, (path, side) in _TAPS[f"{model.config.spatial_dims}d"].items():
        model.get_submodule(path).register_forward_hook(partial(keep, name, side))
    with torch.no_grad():
        return {"out": model(given["in"]), **seen}


def published(file: str) -> Mapping[str, Any]:
    """Shapes by name; one file has dtypes beside them."""
    tensors: dict[str, list[Any]] = golden.facts(f"lightm-unet/{file}")["state_dict"]
    return {name: fact[0] if isinstance(fact[-1], str) else fact for name, fact in tensors.items()}


LIGHTM = Golden(
    system="lightm-unet",
    checkpoint=checkpoint,
    recorded=recorded,
    run=run,
    cases=cases,
    tolerance=Tolerance(1e-4, "largest"),
    double=Tolerance(2e-5, "largest"),  # the recorded run's own rounding
)

EVIDENCE = (
    families.Evidence(
        "lightm_unet",
        dear=["test_compiled_model_takes_any_size"],  # tracing with free sizes
        goldens=[LIGHTM],
        forms={
            "volumes": {"patch_size": [4, 8, 6], "blocks_down": [1, 2]},
            "dense, in pieces": {"decoder": "dense", "piece_length": 100},
        },
        counts={
            "lightm-unet-2d": 5_011_683,
            "lightm-unet-3d": 5_015_766,
            "lightm-unet-2d-dense": 5_375_415,
            "lightm-unet-3d-dense": 6_150_168,
        },
        shapes={
            "lightm-unet-2d": partial(published, "state_dict_shapes_2d.json"),
            "lightm-unet-3d": partial(published, "state_dict_shapes.json"),
        },
    ),
)


# ---- another set of the same layout ----

_NETS: dict[str, dict[str, Any]] = {
    "2d": {"spatial_dims": 2, "in_channels": 3, "out_channels": 4, "blocks_down": [1, 1], "blocks_up": [2]},
    "3d": {"spatial_dims": 3, "in_channels": 1, "out_channels": 2, "blocks_down": [1, 1, 1], "blocks_up": [1, 2]},
}
_SIZES = {"2d": (2, 3, 10, 14), "3d": (2, 1, 4, 8, 12)}


def write_golden(root: Path) -> None:
    """The folder `lightm-unet` of other sizes, from our own models."""
    folder = root / "lightm-unet"
    for case, net in _NETS.items():
        torch.manual_seed(len(case))
        size = _SIZES[case]
        model: Any = mambasdk.create_model(
            "lightm_unet",
            patch_size=size[2:],
            in_channels=net["in_channels"],
            num_classes=net["out_channels"],
            init_filters=16,
            blocks_down=net["blocks_down"],
            blocks_up=net["blocks_up"],
        )
        golden.scatter(model, 3)
        golden.write(folder, "config.json", {f"net{case}": {**net, "init_filters": 16}})
        named = {f"net{case}.{name}": tensor for name, tensor in model.state_dict().items()}
        golden.write(folder, "weights.safetensors", named)
        io = golden.record(LIGHTM, model, {"in": torch.randn(size)})
        golden.write(folder, "io.safetensors", {_recorded_name(name, case): t for name, t in io.items()})


def _recorded_name(name: str, case: str) -> str:
    first, _, rest = name.partition(".")
    return f"{first}.{case}.{rest}" if rest else f"{first}.{case}"
