"""MSVMamba: the authors' golden tensors of both versions, published counts and shapes, and what holds for all."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor
from vision_golden import DOUBLE, TOLERANCES, Taps, checkpoint, gradients, recorded, write

from mambasdk.testing import families, golden
from mambasdk.testing.golden import Golden, Recorded, Tensors

_TAPS = [f"tap.l0b0.{tap}" for tap in ("op_in", "op_out", "se_in", "se_out", "convFFN_out", "out")]
_PLACES = {"op": ".op", "se": ".op.se", "convFFN": ".convFFN", "": ""}


def run_msvmamba(model: Any, given: Recorded) -> Tensors:
    """Maps are channel-last inside; upstream's are channel-first in v3, and around SE and ConvFFN in v1 too."""
    image = given["input"].requires_grad_()
    places = {"tap.stem": ("patch_embed", "out")}
    places |= {f"tap.stage{index}_out": (f"layers.{index}.downsample", "out") for index in range(len(model.layers))}
    for name in [name for name in given if re.match(r"tap\.l\d", name)] or _TAPS:
        match = re.fullmatch(r"tap\.l(\d+)b(\d+)\.(?:(op|se|convFFN)_)?(in|out)", name)
        assert match is not None, f"no place is known for {name}"
        places[name] = (f"layers.{match[1]}.blocks.{match[2]}{_PLACES[match[3] or '']}", match[4])
    taps = Taps(model, places)
    logits = model(image)
    later = given.config["kwargs"]["norm_layer"] == "ln2d"

    def as_theirs(name: str, x: Tensor) -> Tensor:
        return x.permute(0, 3, 1, 2) if later or re.search(r"\.(se|convFFN)_", name) else x

    seen = {name: as_theirs(name, tensor) for name, tensor in taps.seen.items()}
    return {"logits": logits, **seen, **gradients(model, image, logits, given, "layers.0.blocks.0.")}


def _msvmamba(system: str) -> Golden:
    return Golden(
        system=system, checkpoint=checkpoint, recorded=recorded, run=run_msvmamba, double=DOUBLE, **TOLERANCES
    )


FIRST, THIRD = _msvmamba("msvmamba"), _msvmamba("msvmamba/v3")


EVIDENCE = (
    families.Evidence(
        "msvmamba",
        dear=["test_compiled_model_takes_any_size"],  # minutes of tracing with free height and width
        goldens=[FIRST, THIRD],
        forms={
            "v3": {"version": "v3", "ssm_ratio": 1.0, "gate": False, "ffn_ratio": 4.0},
            "v3 with a gate, rows from the end": {"version": "v3", "ssm_ratio": 1.0, "full_res_index": 2},
            "maps": {"out_indices": [0, 1, 2, 3]},
        },
        counts={  # arXiv 2405.14174 and the published files
            "msvmamba-nano": 6_864_136,
            "msvmamba-micro": 11_879_272,
            "msvmamba-tiny": 33_046_312,
            "msvmamba-v3-tiny": 32_263_720,
            "msvmamba-v3-small": 50_216_296,
            "msvmamba-v3-base": 90_591_976,
        },
        shapes={
            "msvmamba-nano": partial(golden.facts, "msvmamba/state_dict_shapes.json"),
            "msvmamba-v3-tiny": partial(golden.facts, "msvmamba/state_dict_shapes_v3_tiny.json"),
        },
    ),
)


# ---- another set of the same layout ----

_SHARED: dict[str, Any] = {"dims": 8, "depths": [1, 2, 1], "num_classes": 6}
_FIRST = {"norm_layer": "ln", "patchembed_version": "v1", "downsample_version": "v1", "ssm_ratio": 1.0}
_THIRD = {"norm_layer": "ln2d", "patchembed_version": "v2", "downsample_version": "v3", "ssm_ratio": 2.0}
_THIRD |= {"forward_type": "vms", "conv_ffn_ratio": 3, "full_res_index": 2}


def write_golden(root: Path) -> None:
    """The folder `msvmamba` of other sizes, from our own models."""
    folder = root / "msvmamba"
    own = {**_SHARED, "version": "v1", "ssm_ratio": 1.0, "gate": True, "ffn_ratio": 2.0}
    write(folder, "msvmamba", FIRST, {**_SHARED, **_FIRST}, own, (40, 52), seed=9)
    own = {**_SHARED, "version": "v3", "ssm_ratio": 2.0, "gate": True, "ffn_ratio": 3, "full_res_index": 2}
    write(folder / "v3", "msvmamba", THIRD, {**_SHARED, **_THIRD}, own, (36, 28), seed=10)
