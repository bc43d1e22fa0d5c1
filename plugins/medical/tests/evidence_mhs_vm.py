"""MHS-VM: the authors' golden tensors and routes, published counts and shapes, and what holds for all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from medical_golden import Taps, gradients
from safetensors.torch import load_file
from torch import Tensor, nn

import mambasdk
from mambasdk.testing import families, golden
from mambasdk.testing.golden import Golden, Recorded, Tensors, Tolerance
from mambasdk_medical.families.mhs_vm import base_routes, route_attention

_FIRST = "layers.0.blocks.0.self_attention"
_PREFIX = "vmunet."


def checkpoint(folder: Path, _: str) -> tuple[Any, Tensors]:
    return golden.config(folder)["kwargs"], load_file(folder / "weights.safetensors")


def recorded(folder: Path, _: str) -> Tensors:
    """The run's tensors, and the gradients of sum(logits * cotangent)."""
    found = load_file(folder / "grads.safetensors")
    cotangent = {"cotangent": found.pop("cotangent")}
    named = {f"grad.{name}": tensor for name, tensor in found.items()}
    return {**load_file(folder / "io.safetensors"), **cotangent, **named}


def run(model: Any, given: Recorded) -> Tensors:
    """The taps of heads are (B, S, L)."""
    image = given["input"].requires_grad_()
    places = {
        "tap.patch_embed": ("patch_embed", "out"),
        "tap.l0b0.mhs_in": (f"{_FIRST}.mhs", "in"),
        "tap.l0b0.mhs_out": (f"{_FIRST}.mhs", "out"),
        "tap.l0b0.out": (_FIRST, "out"),
    }
    last = len(model.layers) - 1
    for index in range(last + 1):
        places[f"tap.enc{index}_out"] = (f"layers.{index}.downsample", "out")
        places[f"tap.dec{index}_out"] = (f"layers_up.{index}.blocks", "out")
    taps = Taps(model, places)
    logits = model(image)
    mixer = model.get_submodule(f"{_FIRST}.mhs")
    with torch.no_grad():
        heads = mixer.route_outputs(taps.seen["tap.l0b0.mhs_in"])  # four times (B, L, S) each
        weighed = [route_attention(outputs, mixer.threshold) for outputs in heads]
    found = {
        "logits": logits,
        "output": logits.sigmoid(),
        "tap.l0b0.headC_routes_out": torch.stack([output.mT for output in heads[0]], 1),
        "tap.l0b0.headC_gfu_out": weighed[0].mT,
        "tap.l0b0.headS_gfu_out": weighed[2].mT,
        **taps.seen,
        **gradients(model, image, logits, given, lambda name: name.startswith("layers.0.blocks.0."), _PREFIX),
    }
    found["tap.l0b0.mhs_in"] = found["tap.l0b0.mhs_in"].permute(0, 3, 1, 2)
    return found


# The set's own tolerances: the last norm, over few channels, and the deviation of routes enlarge what rounding leaves.
MHS_VM = Golden(
    system="mhs-vm",
    checkpoint=checkpoint,
    recorded=recorded,
    run=run,
    tolerance=Tolerance(1e-3, "largest"),
    gradient=Tolerance(5e-3, "largest"),
    double=Tolerance(5e-4, "largest"),
)


class _Routes(nn.Module):
    """A module, which a golden is of."""

    def forward(self, height: int, width: int) -> Tensor:
        return base_routes(height, width)


def run_routes(model: Any, given: Recorded) -> Tensors:
    return {size: model(*(int(extent) for extent in size.split("x"))) for size in given}


ROUTES = Golden(
    system="mhs-vm",
    part="routes",
    model=lambda folder, case: _Routes(),
    recorded=lambda folder, case: load_file(folder / "routes.safetensors"),
    run=run_routes,
    tolerance=Tolerance(0),
)


def _shapes() -> dict[str, list[int]]:
    """Names inside upstream's wrapper, without those under which it holds a tensor again."""
    read: dict[str, list[int]] = golden.facts("mhs-vm/state_dict_shapes.json")
    again = ("x_ssproj_W", "seq2seq_engine")
    return {name.removeprefix(_PREFIX): shape for name, shape in read.items() if not any(a in name for a in again)}


EVIDENCE = (
    families.Evidence(
        "mhs_vm",
        dear=["test_compiled_model_takes_any_size"],  # minutes of tracing
        goldens=[MHS_VM, ROUTES],
        forms={
            "three heads": {"head_num": 3, "gfu_t": 0.0},
            "no projection": {"with_proj": False, "dims": [8, 16], "in_channels": 3, "num_classes": 1},
        },
        counts={  # of the authors' code
            "mhs-vm-3-heads": 17_386_153,
            "mhs-vm-4-heads": 17_257_129,
        },
        shapes={"mhs-vm-4-heads": _shapes},
    ),
)


# ---- another set of the same layout ----

_OWN: dict[str, Any] = {"dims": [8, 16], "depths": [2, 1], "depths_decoder": [1, 2], "d_state": 3}
_SIZES = ((1, 1), (1, 5), (6, 2), (3, 3), (4, 6))


def write_golden(root: Path) -> None:
    """The folder `mhs-vm` of other sizes, from our own model."""
    folder = root / "mhs-vm"
    torch.manual_seed(12)
    model: Any = golden.scatter(mambasdk.create_model("mhs_vm", **_OWN, num_classes=1, patch_size=[16, 24]), 12)
    options = {"head_num": 4, "with_proj": True, "gfu_t": 0.5}
    config = {"system": "mhs-vm", "kwargs": {"num_classes": 1, **_OWN, "para_dict": options}}
    golden.write(folder, "config.json", config)
    golden.write(folder, "weights.safetensors", {_PREFIX + name: t for name, t in model.state_dict().items()})
    inputs = {"input": torch.randn(1, 3, 16, 24), "cotangent": torch.randn(1, 1, 16, 24)}
    io = golden.record(MHS_VM, model, inputs, config)
    found = {name.removeprefix("grad."): t for name, t in io.items() if name.startswith("grad.")}
    golden.write(folder, "grads.safetensors", {**found, "cotangent": io.pop("cotangent")})
    golden.write(folder, "io.safetensors", {name: t for name, t in io.items() if not name.startswith("grad.")})
    golden.write(folder, "routes.safetensors", {f"{h}x{w}": base_routes(h, w) for h, w in _SIZES})
