"""HRVMamba: golden tensors of the network, its blocks and its operator; published counts and shapes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn
from vision_golden import Taps

import mambasdk
from mambasdk import ops
from mambasdk.testing import families, golden
from mambasdk.testing.golden import Golden, Recorded, Tensors, Tolerance
from mambasdk_vision.families.hrvmamba import DVSSBlock

# From the golden README: of each tensor's largest magnitude. In float64 the difference is the goldens' rounding.
TOLERANCES: dict[str, Any] = {"tolerance": Tolerance(1e-4, "largest"), "double": Tolerance(2e-5, "largest")}
TAPS = {
    "mid.layer1": ("layer1", "out"),
    "mid.stage2_b0_in": ("stage2.0.branches.0.0", "in"),
    "mid.stage2_b0_op_in": ("stage2.0.branches.0.0.op", "in"),
    "mid.stage2_b0_op_out": ("stage2.0.branches.0.0.op", "out"),
    "mid.stage2_b0_out": ("stage2.0.branches.0.0", "out"),
    "mid.stage2_b0_dcn_in_nhwc": ("stage2.0.branches.0.0.op.conv2d", "in"),
    "mid.stage2_b0_dcn_out_nhwc": ("stage2.0.branches.0.0.op.conv2d", "out"),
}


def _weights(folder: Path, prefix: str) -> Tensors:
    tensors = load_file(folder / "weights.safetensors")
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def checkpoint(folder: Path, _: str) -> tuple[Any, Tensors]:
    """The part `backbone.` of the file, as an estimator's, whose other parts are those of the blocks."""
    return {}, load_file(folder / "weights.safetensors")


def recorded(folder: Path, _: str) -> Tensors:
    io = load_file(folder / "io.safetensors")
    return {name: tensor for name, tensor in io.items() if re.match(r"input$|mid\.|out\.\d+$", name)}


def run(model: Any, given: Recorded) -> Tensors:
    """Blocks are channel-last inside, upstream's channel-first."""
    taps = Taps(model, TAPS)
    found = {f"out.{index}": x for index, x in enumerate(model(given["input"]))}
    inside = (name for name in taps.seen if re.fullmatch(r"mid\.stage2_b0_(op_)?(in|out)", name))
    return {**found, **taps.seen, **{name: taps.seen[name].permute(0, 3, 1, 2) for name in inside}}


def blocks(folder: Path) -> list[str]:
    return sorted({name.split(".")[0] for name in load_file(folder / "weights.safetensors")} - {"backbone"})


def block(folder: Path, case: str) -> nn.Module:
    """What a block has is read off its tensors."""
    weights = _weights(folder, f"{case}.")
    channels = weights["norm.weight"].shape[0]
    made = DVSSBlock(
        channels,
        ssm_ratio=weights["op.in_proj.weight"].shape[0] / channels,
        mlp_ratio=weights["mlp.fc1.weight"].shape[0] / channels,
        se_lpu="cpe1.weight" in weights,
        projections="op.conv2d.value_proj.weight" in weights,
    )
    made.load_state_dict(weights)
    return made


def recorded_block(folder: Path, case: str) -> Tensors:
    io = load_file(folder / "io.safetensors")
    return {side: io[f"{side}.{case}"] for side in ("in", "out")}


def run_block(model: Any, given: Recorded) -> Tensors:
    return {"out": model(given["in"].permute(0, 2, 3, 1)).permute(0, 3, 1, 2)}


def recorded_operator(folder: Path, _: str) -> Tensors:
    return golden.read_io(folder, "op.dcnv4")


def run_operator(_: Any, given: Recorded) -> Tensors:
    """The output's name holds the number of groups and the side of the window."""
    names = [name for name in given if re.fullmatch(r"out_G\d+_K\d+", name)] or ["out_G2_K3"]
    found = {}
    for name in names:
        groups, side = (int(number) for number in re.findall(r"\d+", name))
        found[name] = ops.deformable_sample(
            given["value"], given["offset_mask"], groups, kernel_size=side, padding=side // 2
        )
    return found


SYSTEM = "hrvmamba"
NETWORK = Golden(system=SYSTEM, checkpoint=checkpoint, recorded=recorded, run=run, **TOLERANCES)
BLOCKS = Golden(
    system=SYSTEM, part="block", cases=blocks, model=block, recorded=recorded_block, run=run_block, **TOLERANCES
)
OPERATOR = Golden(
    system=SYSTEM,
    part="operator",
    model=lambda folder, case: nn.Identity(),
    recorded=recorded_operator,
    run=run_operator,
    **TOLERANCES,
)


def shapes(file: str) -> Callable[[], dict[str, Any]]:
    """Names and shapes of a published state dict; some files give a dtype beside each shape."""

    def read() -> dict[str, Any]:
        found: dict[str, Any] = golden.facts(f"{SYSTEM}/{file}")["state_dict"]
        return {name: shape[0] if shape and isinstance(shape[0], list) else shape for name, shape in found.items()}

    return read


EVIDENCE = (
    families.Evidence(
        "hrvmamba",
        dear=["test_compiled_model_takes_any_size"],  # minutes of tracing with free height and width
        goldens=[NETWORK, BLOCKS, OPERATOR],
        forms={
            "SE and LPU": {"se_lpu": True},
            "projections": {"projections": True, "offset_scale": 0.5},
            "offsets of neighbours": {
                "channels": 80,
                "ssm_ratio": 0.5,
                "offset_scale": 0.25,
                "task": "pose",
                "multiscale_output": False,
            },
            "branches": {"task": "pose"},
            "pyramid": {"task": "segmentation"},
        },
        counts={  # arXiv 2410.03174, without the projections that its published counts do not have
            "hrvmamba-nano": 12_284_240,
            "hrvmamba-tiny": 14_066_728,
            "hrvmamba-small": 20_101_976,
            "hrvmamba-base": 60_548_520,
            "hrvmamba-tiny-pose": 2_151_008,
            "hrvmamba-small-pose": 8_033_840,
            "hrvmamba-base-pose": 47_099_616,
        },
        shapes={
            "hrvmamba-nano": shapes("state_dict_shapes.json"),
            "hrvmamba-tiny-pose": shapes("state_dict_shapes_pose_tiny.json"),
        },
    ),
)


# ---- another set of the same layout ----

_OWN = {
    "task": "pose",
    "channels": 16,
    "stem_channels": 8,
    "stage1_channels": 4,
    "num_modules": [1, 2, 1],
    "num_blocks": 2,
    "se_lpu": True,
    "mlp_ratio": 1.5,
}
_BLOCKS: dict[str, dict[str, Any]] = {
    "block160": {"channels": 160, "ssm_ratio": 1.0},
    "blockse": {"channels": 24, "se_lpu": True},
    "blockpw": {"channels": 20, "projections": True, "mlp_ratio": 3.0},
}


def write_golden(root: Path) -> None:
    """The folder `hrvmamba` of other sizes, from our own models."""
    folder = root / SYSTEM
    torch.manual_seed(31)
    golden.write(folder, "config.json", {"system": SYSTEM})
    model: Any = golden.scatter(mambasdk.create_model("hrvmamba", **_OWN), 31, 0.05)
    weights = {f"backbone.{name}": tensor for name, tensor in model.state_dict().items()}
    io = golden.record(NETWORK, model, {"input": torch.randn(1, 3, 47, 70)})
    for index, (name, options) in enumerate(_BLOCKS.items()):
        made = golden.scatter(DVSSBlock(**options), index)
        weights |= {f"{name}.{key}": tensor for key, tensor in made.state_dict().items()}
        found = golden.record(BLOCKS, made, {"in": torch.randn(2, options["channels"], 4, 7)})
        io |= {f"{side}.{name}": tensor for side, tensor in found.items()}
    inputs = {"value": torch.randn(2, 4, 5, 12), "offset_mask": torch.randn(2, 4, 5, 56)}
    io |= {f"op.dcnv4.{name}": t for name, t in golden.record(OPERATOR, nn.Identity(), inputs).items()}
    golden.write(
        folder, "weights.safetensors", {name: t.float() if t.is_floating_point() else t for name, t in weights.items()}
    )
    golden.write(folder, "io.safetensors", io)
