"""VMamba: the authors' golden tensors, its 14 block types, published counts and shapes, and what holds for all."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from vision_golden import DOUBLE, TOLERANCES, Taps, checkpoint, gradients, pyramid, recorded, write, write_pyramid

import mambasdk
from mambasdk.testing import families, golden
from mambasdk.testing.golden import Golden, Recorded, Tensors
from mambasdk_vision.families.vmamba import SS2D


def run_vmamba(model: Any, given: Recorded) -> Tensors:
    """Maps are channel-last inside; upstream's are channel-first where its norm is."""
    image = given["input"].requires_grad_()
    places = {"tap.stem": ("patch_embed", "out")}
    places |= {f"tap.stage{index}_out": (f"layers.{index}.downsample", "out") for index in range(len(model.layers))}
    names = [name for name in given if re.match(r"tap\.l\d", name)]
    for name in names or ["tap.l0b0.op_in", "tap.l0b0.op_out", "tap.l0b0.out"]:
        match = re.fullmatch(r"tap\.l(\d+)b(\d+)\.(op_)?(in|out)", name)
        assert match is not None, f"no place is known for {name}"
        block = f"layers.{match[1]}.blocks.{match[2]}"
        places[name] = (f"{block}.op" if match[3] else block, match[4])
    taps = Taps(model, places)
    logits = model(image)
    found = {"logits": logits, **taps.seen}
    if given.config["kwargs"]["norm_layer"] == "ln2d":
        found = {name: t.permute(0, 3, 1, 2) if t.ndim == 4 else t for name, t in found.items()}
    return {**found, **gradients(model, image, logits, given, "layers.0.blocks.0.")}


class Block(nn.Module):
    """SS2D, which is channel-last, for maps as the case has them."""

    def __init__(self, channel_first: bool = False, **options: Any) -> None:
        super().__init__()
        self.mixer, self.channel_first = SS2D(**options), channel_first

    def forward(self, x: Tensor) -> Tensor:
        if not self.channel_first:
            return self.mixer(x)  # type: ignore[no-any-return]
        y: Tensor = self.mixer(x.permute(0, 2, 3, 1))
        return y.permute(0, 3, 1, 2)


def _blocks(folder: Path) -> dict[str, dict[str, Any]]:
    blocks: dict[str, dict[str, Any]] = json.loads((folder / "ss2d_blocks.json").read_text())
    return blocks


def _of(folder: Path, prefix: str) -> Tensors:
    tensors = load_file(folder / "ss2d_blocks.safetensors")
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def block(folder: Path, case: str) -> nn.Module:
    made = Block(**_blocks(folder)[case])
    made.mixer.load_state_dict(_of(folder, f"{case}.w."))
    return made


def recorded_block(folder: Path, case: str) -> Tensors:
    return {name: tensor for name, tensor in _of(folder, f"{case}.").items() if not name.startswith("w.")}


def run_block(model: Any, given: Recorded) -> Tensors:
    return {"out": model(given["in"])}


def _vmamba(system: str) -> Golden:
    return Golden(system=system, checkpoint=checkpoint, recorded=recorded, run=run_vmamba, double=DOUBLE, **TOLERANCES)


VMAMBA, VANILLA = _vmamba("vmamba-ss2d"), _vmamba("vmamba-ss2d/v0")
BLOCKS = Golden(
    system="vmamba-ss2d",
    part="block",
    cases=lambda folder: list(_blocks(folder)),
    model=block,
    recorded=recorded_block,
    run=run_block,
    **TOLERANCES,
)
PYRAMID = pyramid("vmamba-ss2d")


EVIDENCE = (
    families.Evidence(
        "vmamba",
        dear=["test_compiled_model_takes_any_size"],  # minutes of tracing with free height and width
        goldens=[VMAMBA, VANILLA, BLOCKS, PYRAMID],
        forms={
            "vanilla": {"forward_type": "v0", "patchembed_version": "v1", "downsample_version": "v1", "ssm_d_state": 4},
            "cascade": {"forward_type": "v052dc_oact", "posembed": True, "imgsize": [48, 40]},
            "maps": {"out_indices": [0, 1, 2, 3]},
        },
        counts={  # arXiv 2401.10166 and the published files
            "vmamba-tiny-vanilla": 22_893_448,
            "vmamba-small-vanilla": 44_417_416,
            "vmamba-base-vanilla": 76_254_056,
            "vmamba-tiny-s2l5": 30_705_832,
            "vmamba-small-s2l15": 50_147_752,
            "vmamba-base-s2l15": 88_557_800,
            "vmamba-tiny-s1l8": 30_249_064,
            "vmamba-small-s1l20": 49_012_840,
            "vmamba-base-s1l20": 86_614_504,
        },
        shapes={
            "vmamba-tiny-vanilla": partial(golden.facts, "vmamba-ss2d/state_dict_shapes.json"),
            "vmamba-tiny-s1l8": partial(golden.facts, "vmamba-ss2d/state_dict_shapes_tiny_s1l8.json"),
        },
    ),
)


# ---- another set of the same layout ----

_VMAMBA = {
    "forward_type": "v05_noz",
    "norm_layer": "ln2d",
    "downsample_version": "v3",
    "patchembed_version": "v2",
    "dims": 6,
    "depths": [1, 2, 1],
    "ssm_d_state": 2,
    "ssm_ratio": 2.0,
    "ssm_conv_bias": False,
    "mlp_ratio": 3.0,
    "num_classes": 6,
}
_V0 = {**_VMAMBA, "forward_type": "v0", "norm_layer": "ln", "downsample_version": "v1", "patchembed_version": "v1"}
_V0 |= {"ssm_conv_bias": True, "mlp_ratio": 0.0, "depths": [1, 1]}
_BLOCKS: dict[str, dict[str, Any]] = {
    "gated": {"d_model": 6, "d_state": 3, "ssm_ratio": 1.5, "forward_type": "v05"},
    "first": {"d_model": 6, "d_state": 5, "ssm_ratio": 2.0, "forward_type": "v05_noz", "channel_first": True},
    "plain": {"d_model": 6, "d_state": 3, "ssm_ratio": 2.0, "forward_type": "v052d_noz", "d_conv": 1},
}


def write_golden(root: Path) -> None:
    """The folder `vmamba-ss2d` of other sizes, from our own models."""
    folder = root / "vmamba-ss2d"
    own = {name: value for name, value in _VMAMBA.items() if name != "norm_layer"}
    write(folder, "vmamba", VMAMBA, _VMAMBA, own, (40, 52), seed=4)
    write(folder / "v0", "vmamba", VANILLA, _V0, {n: v for n, v in _V0.items() if n != "norm_layer"}, (36, 28), seed=5)
    write_pyramid(folder, PYRAMID, mambasdk.create_model("vmamba", **own, out_indices=[0, 2]), (45, 37), seed=6)
    golden.write(folder, "ss2d_blocks.json", _BLOCKS)
    for index, (name, options) in enumerate(_BLOCKS.items()):
        torch.manual_seed(index)
        made = golden.scatter(Block(**options), index)
        weights = {f"{name}.w.{key.removeprefix('mixer.')}": w for key, w in made.state_dict().items()}
        size = (2, 6, 4, 7) if options.get("channel_first") else (2, 4, 7, 6)
        found = golden.record(BLOCKS, made, {"in": torch.randn(size)})
        golden.write(folder, "ss2d_blocks.safetensors", {**weights, **{f"{name}.{k}": t for k, t in found.items()}})
