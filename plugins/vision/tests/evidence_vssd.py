"""VSSD: the authors' golden tensors, published counts and shapes, and what holds for all."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor
from vision_golden import DOUBLE, TOLERANCES, Taps, checkpoint, gradients, pyramid, recorded, write, write_pyramid

import mambasdk
from mambasdk.testing import families, golden
from mambasdk.testing.golden import Golden, Recorded, Tensors

_TAPS = ["tap.l0b0.mixer_in", "tap.l0b0.mixer_out", "tap.l3b0.attn_out"]


def run_vssd(model: Any, given: Recorded) -> Tensors:
    """Taps are tokens (B, L, C); ours are maps."""
    image = given["input"].requires_grad_()
    places = {"tap.stem": ("patch_embed", "out")}
    places |= {f"tap.stage{index}_out": (f"layers.{index}.downsample", "out") for index in range(len(model.layers))}
    for name in [name for name in given if re.match(r"tap\.l\d", name)] or _TAPS:
        match = re.fullmatch(r"tap\.l(\d+)b(\d+)\.(mixer|attn)_(in|out)", name)
        assert match is not None, f"no place is known for {name}"
        places[name] = (f"layers.{match[1]}.blocks.{match[2]}.attn", match[4])
    taps = Taps(model, places)
    logits = model(image)

    def tokens(x: Tensor) -> Tensor:
        return x.flatten(1, 2)

    seen = {name: tokens(tensor) for name, tensor in taps.seen.items()}
    return {"logits": logits, **seen, **gradients(model, image, logits, given, "layers.0.blocks.0.")}


VSSD = Golden(system="vssd", checkpoint=checkpoint, recorded=recorded, run=run_vssd, double=DOUBLE, **TOLERANCES)
PYRAMID = pyramid("vssd")


EVIDENCE = (
    families.Evidence(
        "vssd",
        dear=["test_compiled_model_takes_any_size"],  # minutes of tracing with free height and width
        goldens=[VSSD, PYRAMID],
        forms={
            "negative, groups": {"positive": False, "ngroups": 2},
            "causal": {"mixing": "causal"},
            "bidirectional": {"mixing": "bidirectional", "ngroups": 2},
            "maps": {"out_indices": [0, 1, 2, 3]},
        },
        counts={  # arXiv 2407.18559 and the published files
            "vssd-micro": 13_512_964,
            "vssd-tiny": 24_270_724,
            "vssd-small": 40_075_650,
            "vssd-base": 88_823_151,
        },
        shapes={"vssd-micro": partial(golden.facts, "vssd/state_dict_shapes.json")},
    ),
)


# ---- another set of the same layout ----

_OWN: dict[str, Any] = {
    "embed_dim": 6,
    "depths": [1, 2, 1, 1],
    "num_heads": [1, 2, 3, 6],
    "d_state": 5,
    "num_classes": 7,
    "mlp_ratio": 3.0,
}


def write_golden(root: Path) -> None:
    """The folder `vssd` of other sizes, from our own models."""
    folder = root / "vssd"
    theirs = {"ssd_expansion": 3, "ssd_ngroups": 1, "ssd_positve_dA": False, "linear_attn_duality": True}
    own = {**_OWN, "expand": 3, "positive": False}
    write(folder, "vssd", VSSD, {**_OWN, **theirs}, own, (40, 52), seed=7)
    write_pyramid(folder, PYRAMID, mambasdk.create_model("vssd", **own, out_indices=[0, 3]), (45, 37), seed=8)
