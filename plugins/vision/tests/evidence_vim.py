"""Vim: the authors' golden tensors, published counts and shapes, and what holds for all."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

from vision_golden import DOUBLE, TOLERANCES, Taps, checkpoint, gradients, recorded, write

from mambasdk.testing import families, golden
from mambasdk.testing.golden import Golden, Recorded, Tensors


def run_vim(model: Any, given: Recorded) -> Tensors:
    image = given["input"].requires_grad_()
    names = [name for name in given if name.startswith("tap.layers")]
    found: Tensors = {}
    places = {"tap.patch_embed": ("patch_embed", "out")}
    for name in names or ["tap.layers0.mixer_in", "tap.layers0.mixer_out"]:
        match = re.fullmatch(r"tap\.layers(\d+)\.mixer_(in|out)", name)
        assert match is not None, f"no place is known for {name}"
        places[name] = (f"layers.{match[1]}.mixer", match[2])
    taps = Taps(model, places)
    _, found["tap.last_layer.hidden"], found["tap.last_layer.residual"] = model.encode(image)
    found["features"] = model.features(image)
    found["logits"] = model(image)
    if "cls_position" in given.config:
        assert model.config.class_position == given.config["cls_position"]
    return {**taps.seen, **found, **gradients(model, image, found["logits"], given, "layers.0.")}


VIM = Golden(system="vim", checkpoint=checkpoint, recorded=recorded, run=run_vim, double=DOUBLE, **TOLERANCES)

EVIDENCE = (
    families.Evidence(
        "vim",
        goldens=[VIM],
        forms={
            "first class token": {"class_token": "first"},
            "mean": {"class_token": "none"},
            "last": {"class_token": "none", "pool": "last"},
            "overlapping patches": {"img_size": [33, 50], "stride": 4},
            "one patch": {"img_size": 8},
            "layer norm": {"rms_norm": False, "divide_out": False, "init_layer_scale": 0.3},
            "maps": {"task": "segmentation", "out_layers": [0, 1, 2, 3], "depth": 4},
        },
        counts={  # arXiv 2401.09417 and the published files
            "vim-tiny": 7_148_008,
            "vim-tiny-plus": 7_250_344,
            "vim-small": 25_796_584,
            "vim-small-plus": 26_001_256,
            "vim-base": 97_598_440,
        },
        shapes={"vim-tiny": partial(golden.facts, "vim/state_dict_shapes.json")},
    ),
)


# ---- another set of the same layout ----

_VIM = {"img_size": [24, 32], "patch_size": 8, "stride": 4, "depth": 2, "embed_dim": 24, "d_state": 6, "num_classes": 7}
_OPTIONS = {"if_cls_token": True, "use_middle_cls_token": True, "if_abs_pos_embed": True, "if_divide_out": True}


def write_golden(root: Path) -> None:
    """The folder `vim` of other sizes, from our own model."""
    arguments = {**_VIM, **_OPTIONS, "rms_norm": True, "residual_in_fp32": True, "bimamba_type": "v2"}
    write(root / "vim", "vim", VIM, arguments, {**_VIM, "class_token": "middle"}, (24, 32), seed=3)
