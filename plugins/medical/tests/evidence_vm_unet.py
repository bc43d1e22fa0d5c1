"""VM-UNet: the authors' golden tensors, published counts and shapes, and what holds for all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from medical_golden import Taps
from safetensors.torch import load_file

import mambasdk
from mambasdk.testing import families, golden
from mambasdk.testing.golden import Golden, Recorded, Tensors, Tolerance

_ARGUMENTS = {"nc": "num_classes", **{name: name for name in ("depths", "depths_decoder", "dims", "d_state")}}
_PLACES = {
    "mid.vss_in": ("layers.0.blocks.0", "in"),
    "mid.vss_out": ("layers.0.blocks.0", "out"),
    "mid.merge_in": ("layers.0.downsample", "in"),
    "mid.merge_out": ("layers.0.downsample", "out"),
    "mid.expand_in": ("layers_up.1.upsample", "in"),
    "mid.expand_out": ("layers_up.1.upsample", "out"),
}


def checkpoint(folder: Path, _: str) -> tuple[Any, Tensors]:
    """The set's words are not those of upstream's constructor."""
    config = golden.config(folder)
    assert (config["patch"], config["ln_eps"]) == (4, 1e-5)
    return {ours: config[theirs] for theirs, ours in _ARGUMENTS.items()}, load_file(folder / "weights.safetensors")


def run(model: Any, given: Recorded) -> Tensors:
    taps = Taps(model, _PLACES)
    logits = model(given["input"])
    return {"out.logits": logits, **taps.seen}


VM_UNET = Golden(
    system="vm-unet",
    checkpoint=checkpoint,
    run=run,
    tolerance=Tolerance(1e-4, "largest"),
    double=Tolerance(2e-5, "largest"),
)


def _shapes() -> dict[str, list[int]]:
    """Names inside upstream's wrapper."""
    read = golden.facts("vm-unet/state_dict_shapes.json")["state_dict"]
    return {name.removeprefix("vmunet."): shape for name, (shape, _) in read.items()}


EVIDENCE = (
    families.Evidence(
        "vm_unet",
        dear=["test_compiled_model_takes_any_size"],  # minutes of tracing
        goldens=[VM_UNET],
        forms={
            "three stages, colour": {
                "dims": [8, 8, 12],
                "depths": [1, 1, 1],
                "depths_decoder": [1, 2, 1],
                "in_channels": 3,
                "num_classes": 1,
                "patch_size": [16, 32],
            }
        },
        counts={  # of the authors' code
            "vm-unet-isic": 27_427_561,
            "vm-unet-full": 44_273_833,
        },
        shapes={"vm-unet-isic": _shapes},
    ),
)


# ---- another set of the same layout ----

_OWN: dict[str, Any] = {"dims": [8, 12], "depths": [2, 1], "depths_decoder": [1, 1], "d_state": 3}


def write_golden(root: Path) -> None:
    """The folder `vm-unet` of other sizes, from our own model."""
    folder = root / "vm-unet"
    torch.manual_seed(11)
    model: Any = golden.scatter(mambasdk.create_model("vm_unet", **_OWN, num_classes=3, patch_size=[16, 24]), 11)
    config = {"system": "vm-unet", "nc": 3, **_OWN, "patch": 4, "ln_eps": 1e-5}
    golden.write(folder, "config.json", config)
    golden.write(folder, "weights.safetensors", model.state_dict())
    golden.write(folder, "io.safetensors", golden.record(VM_UNET, model, {"input": torch.randn(2, 3, 16, 24)}, config))
