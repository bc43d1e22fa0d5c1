"""EfficientVMamba: the authors' golden tensors, its mixer on odd maps, published counts, and what holds for all."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from vision_golden import DOUBLE, TOLERANCES, Taps, checkpoint, gradients, recorded, write

import mambasdk
from mambasdk.testing import families, golden
from mambasdk.testing.golden import Golden, Recorded, Tensors
from mambasdk_vision.families.efficientvmamba import atrous_routes

_OP = "layers.0.blocks.0.op"
_BLOCK = ["tap.l0b0.op_in", "tap.l0b0.op_out", "tap.l0b0.conv_branch_out", "tap.l0b0.out"]


def run_efficientvmamba(model: Any, given: Recorded) -> Tensors:
    image = given["input"].requires_grad_()
    places = {"tap.stem": ("patch_embed", "out")}
    for index, stage in enumerate(model.layers):
        end = f"layers.{index}.downsample"
        if index > 1:  # these stages are numbered through: the last block, or where there is one the merging
            end = f"layers.{index}.{stage.depth + 2 if stage.has_downsample else stage.depth}"
        places[f"tap.stage{index}_out"] = (end, "out")
    for name in [name for name in given if re.match(r"tap\.l\d", name)] or _BLOCK:
        match = re.fullmatch(r"tap\.l(\d+)b(\d+)\.(?:(op|conv_branch)_)?(in|out)", name)
        assert match is not None, f"no place is known for {name}"
        part = f".{match[3]}" if match[3] else ""
        places[name] = (f"layers.{match[1]}.blocks.{match[2]}{part}", match[4])
    taps = Taps(model, places)
    logits = model(image)
    last = f"tap.stage{len(model.layers) - 1}_out"
    taps.seen[last] = taps.seen[last].permute(0, 2, 3, 1)
    return {"logits": logits, **taps.seen, **gradients(model, image, logits, given, "layers.0.blocks.0.")}


class Mixer(nn.Module):
    """A model's first mixer, and which pixels of its map the routes visit."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.mixer = model.get_submodule(_OP)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        height, width = x.shape[1:3]
        order = atrous_routes(height, width).long()
        wide = 2 * ((width + 1) // 2)
        rows, columns = order // wide, order % wide
        inside = (rows < height) & (columns < width)
        return {"out": self.mixer(x), "scan_index_plus1": torch.where(inside, rows * width + columns + 1, 0)}


def _sizes(folder: Path) -> list[str]:
    return sorted({name.partition(".")[0] for name in load_file(folder / "op_cases.safetensors")})


def mixer(folder: Path, _: str) -> nn.Module:
    return Mixer(mambasdk.import_checkpoint("efficientvmamba", *checkpoint(folder, "")))


def recorded_mixer(folder: Path, case: str) -> Tensors:
    tensors = load_file(folder / "op_cases.safetensors")
    return {name.removeprefix(f"{case}."): t for name, t in tensors.items() if name.startswith(f"{case}.")}


EFFICIENTVMAMBA = Golden(
    system="efficientvmamba",
    checkpoint=checkpoint,
    recorded=recorded,
    run=run_efficientvmamba,
    double=DOUBLE,
    **TOLERANCES,
)
MIXER = Golden(
    system="efficientvmamba",
    part="mixer",
    cases=_sizes,
    model=mixer,
    recorded=recorded_mixer,
    run=lambda model, given: model(given["in"]),
    double=DOUBLE,
    **TOLERANCES,
)

EVIDENCE = (
    families.Evidence(
        "efficientvmamba",
        dear=["test_compiled_model_takes_any_size"],  # minutes of tracing with free height and width
        goldens=[EFFICIENTVMAMBA, MIXER],
        forms={
            "maps": {"out_indices": [0, 1, 2, 3]},
            "with an MLP": {"mlp_ratio": 2.0, "patch_norm": False, "depths": [2, 1]},
        },
        counts={  # arXiv 2403.09977, the training logs and the released files
            "efficientvmamba-tiny": 6_493_660,
            "efficientvmamba-small": 11_273_688,
            "efficientvmamba-base": 33_717_136,
        },
        shapes={"efficientvmamba-tiny": partial(golden.facts, "efficientvmamba/state_dict_shapes.json")},
    ),
)


# ---- another set of the same layout ----

_ARGUMENTS: dict[str, Any] = {"dims": 8, "depths": [2, 1, 1], "num_classes": 6, "patch_size": 2, "mlp_ratio": 1.5}


def write_golden(root: Path) -> None:
    """The folder `efficientvmamba` of other sizes, from our own model."""
    folder = root / "efficientvmamba"
    write(folder, "efficientvmamba", EFFICIENTVMAMBA, _ARGUMENTS, _ARGUMENTS, (22, 30), seed=9)
    torch.manual_seed(10)
    for height, width in ((3, 3), (1, 1), (2, 5)):
        found = golden.record(MIXER, mixer(folder, ""), {"in": torch.randn(2, height, width, 8)})
        golden.write(folder, "op_cases.safetensors", {f"{height}x{width}.{name}": t for name, t in found.items()})
