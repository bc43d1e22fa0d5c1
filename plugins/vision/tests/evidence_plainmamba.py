"""PlainMamba: the authors' golden tensors, its routes, published counts and shapes, and what holds for all."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
import vision_golden
from safetensors.torch import load_file
from torch import Tensor, nn
from vision_golden import TOLERANCES, Taps, gradients, write

import mambasdk
from mambasdk.testing import families, golden
from mambasdk.testing.golden import Golden, Recorded, Tensors, Tolerance
from mambasdk_vision.families.plainmamba import snakes

_PREFIX = "backbone."
_MAP = re.compile(r"out\d+")
# In float64 the difference is the recorded run's own rounding; one token in 40 has six times that of the whole tensor.
DOUBLE = Tolerance(1e-5, "norm")


def checkpoint(folder: Path, _: str) -> tuple[Any, Tensors]:
    """The classifier's: what the run names as outputs besides are a backbone's."""
    arguments, weights = vision_golden.checkpoint(folder, "")
    return {name: value for name, value in arguments.items() if name != "out_indices"}, weights


def recorded(folder: Path, _: str) -> Tensors:
    found = {name.replace(f".{_PREFIX}", "."): tensor for name, tensor in vision_golden.recorded(folder, "").items()}
    return {name: tensor for name, tensor in found.items() if not _MAP.fullmatch(name)}


def run_plainmamba(model: Any, given: Recorded) -> Tensors:
    """Upstream's tokens are our maps, pixel after pixel."""
    image = given["input"].requires_grad_()
    first = model.layers[0]
    taps = Taps(
        model,
        {
            "tap.patch_embed": ("patch_embed", "out"),
            "tap.layers0.mamba_in": ("layers.0.mamba", "in"),
            "tap.layers0.mamba_out": ("layers.0.mamba", "out"),
            "tap.layers0.out": ("layers.0", "out"),
            "tokens": ("ln1", "out"),
        },
    )
    logits = model(image)
    assert (first.dw is not None) == (0 in given.config["kwargs"]["layers_with_dwconv"])
    maps = {name: tensor.flatten(1, 2) for name, tensor in taps.seen.items()}
    return {"logits": logits, **maps, **gradients(model, image, logits, given, "layers.0.")}


def recorded_maps(folder: Path, _: str) -> Tensors:
    io = load_file(folder / "io.safetensors")
    return {name: tensor for name, tensor in io.items() if name == "input" or _MAP.fullmatch(name)}


def run_maps(model: Any, given: Recorded) -> Tensors:
    maps = model(given["input"])
    return {f"out{index}": found for index, found in zip(model.config.maps, maps, strict=True)}


class Routes(nn.Module):
    """The route tables of one size."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.size = height, width

    def forward(self) -> dict[str, Tensor]:
        order, directions = snakes(*self.size)
        tables = {"order": order, "inverse": order.argsort(dim=1), "direction": directions}
        return {f"{name}{route}": table[route].long() for name, table in tables.items() for route in range(4)}


def _sizes(folder: Path) -> list[str]:
    return sorted({name.partition(".")[0] for name in load_file(folder / "routes.safetensors")})


def recorded_routes(folder: Path, case: str) -> Tensors:
    tables = load_file(folder / "routes.safetensors")
    return {name.removeprefix(f"{case}."): t for name, t in tables.items() if name.startswith(f"{case}.")}


def _routes(_: Path, case: str) -> Routes:
    height, width = map(int, case.split("x"))
    return Routes(height, width)


def _shapes() -> dict[str, list[int]]:
    published: dict[str, list[int]] = golden.facts("plainmamba/state_dict_shapes.json")
    return {name.removeprefix(_PREFIX): shape for name, shape in published.items()}


PLAINMAMBA = Golden(
    system="plainmamba", checkpoint=checkpoint, recorded=recorded, run=run_plainmamba, double=DOUBLE, **TOLERANCES
)
MAPS = Golden(
    system="plainmamba",
    part="maps",
    checkpoint=vision_golden.checkpoint,
    recorded=recorded_maps,
    run=run_maps,
    double=DOUBLE,
    **TOLERANCES,
)
ROUTES = Golden(
    system="plainmamba",
    part="routes",
    cases=_sizes,
    model=_routes,
    recorded=recorded_routes,
    run=lambda model, _: model(),
)

EVIDENCE = (
    families.Evidence(
        "plainmamba",
        goldens=[PLAINMAMBA, MAPS, ROUTES],
        forms={
            "as the paper": {"params_follow_route": True, "init": "module"},
            "odd sizes": {"img_size": [33, 50], "patch_size": 6, "num_convs_patch_embed": 2, "layers_with_dwconv": []},
            "maps": {"out_indices": "quarters"},
        },
        counts={  # arXiv 2403.17695 without the head, and the released files
            "plainmamba-l1": 7_551_656,
            "plainmamba-l2": 26_145_832,
            "plainmamba-l3": 50_956_456,
        },
        shapes={"plainmamba-l1": _shapes},
    ),
)


# ---- another set of the same layout ----

_OWN: dict[str, Any] = {
    "img_size": 24,
    "patch_size": 8,
    "embed_dims": 12,
    "num_layers": 2,
    "num_convs_patch_embed": 2,
    "layers_with_dwconv": [0],
    "num_classes": 5,
}
_MIXER = {"d_state": 3, "expand": 2, "conv_size": 5}
_MAPS = [0, 1]


def write_golden(root: Path) -> None:
    """The folder `plainmamba` of other sizes, from our own model."""
    folder = root / "plainmamba"
    arguments = {name: value for name, value in _OWN.items() if name != "num_classes"}
    arguments |= {"out_indices": _MAPS, "layer_cfgs": {"use_rms_norm": False, "mamba_cfg": _MIXER}}
    write(folder, "plainmamba", PLAINMAMBA, arguments, {**_OWN, **_MIXER}, (24, 43), seed=7)
    weights = load_file(folder / "weights.safetensors")
    backbone: Any = golden.scatter(mambasdk.create_model("plainmamba", **_OWN, **_MIXER, out_indices=_MAPS), 8)
    backbone.load_state_dict(weights, strict=False)
    norms = {name: t for name, t in backbone.state_dict().items() if name.startswith("norm_layer")}
    golden.write(folder, "weights.safetensors", norms)
    given = {"input": load_file(folder / "io.safetensors")["input"]}
    golden.write(folder, "io.safetensors", golden.record(MAPS, backbone, given))
    for height, width in ((1, 5), (5, 1), (2, 3)):
        tables = Routes(height, width)()
        golden.write(folder, "routes.safetensors", {f"{height}x{width}.{name}": t for name, t in tables.items()})
    assert torch.equal(given["input"], load_file(folder / "io.safetensors")["input"])
