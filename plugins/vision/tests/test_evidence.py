"""Evidence for vim and vmamba: the authors' golden tensors, published counts and shapes, and what holds for all."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import mambasdk
from mambasdk.testing import families, golden
from mambasdk.testing.golden import Golden, Recorded, Tensors, Tolerance
from mambasdk_vision.families.vmamba import SS2D

# From the golden READMEs: relative to a tensor's root mean square. In float64 the difference is the goldens' rounding.
TOLERANCES: dict[str, Any] = {"tolerance": Tolerance(1e-4, "rms"), "gradient": Tolerance(1e-3, "rms")}
DOUBLE = Tolerance(1e-5, "rms")


def checkpoint(folder: Path, _: str) -> tuple[Any, Tensors]:
    return golden.config(folder)["kwargs"], load_file(folder / "weights.safetensors")


def recorded(folder: Path, _: str) -> Tensors:
    """The run's tensors, and the gradients of sum(logits * cotangent)."""
    gradients = load_file(folder / "grads.safetensors")
    cotangent = {"cotangent": gradients.pop("cotangent")}
    named = {f"grad.{name}": tensor for name, tensor in gradients.items()}
    return {**load_file(folder / "io.safetensors"), **cotangent, **named}


class Taps:
    """What goes into and comes out of modules, by the name of the tap: name -> (module, "in" or "out")."""

    def __init__(self, model: nn.Module, places: Mapping[str, tuple[str, str]]) -> None:
        self.seen: Tensors = {}
        for name, (module, side) in places.items():
            model.get_submodule(module).register_forward_hook(partial(self._keep, name, side))

    def _keep(self, name: str, side: str, module: nn.Module, arguments: Any, out: Any) -> None:
        self.seen[name] = arguments[0] if side == "in" else out


def _gradients(model: nn.Module, image: Tensor, logits: Tensor, given: Recorded, default: str) -> Tensors:
    """Those that are recorded; for a new set the input's and those of the parameters below `default`."""
    (logits * given["cotangent"]).sum().backward()
    parameters = {f"grad.{name}": p for name, p in model.named_parameters()}
    wanted = [name for name in given if name.startswith("grad.")]
    wanted = wanted or ["grad.input", *(name for name in parameters if name.startswith(f"grad.{default}"))]
    found: Tensors = {}
    for name in wanted:
        gradient = image.grad if name == "grad.input" else parameters[name].grad
        assert gradient is not None, name
        found[name] = gradient
    return found


# ---- vim ----


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
    return {**taps.seen, **found, **_gradients(model, image, found["logits"], given, "layers.0.")}


# ---- vmamba ----


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
    return {**found, **_gradients(model, image, logits, given, "layers.0.blocks.0.")}


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


def pyramid(folder: Path, _: str) -> tuple[Any, Tensors]:
    """The classifier's weights under the pyramid's norms, which its own file holds."""
    arguments, weights = checkpoint(folder, "")
    io = load_file(folder / "backbone_io.safetensors")
    stages = sorted(int(name.removeprefix("feat")) for name in io if name.startswith("feat"))
    norms = {name: tensor for name, tensor in io.items() if name.startswith("outnorm")}
    return {**arguments, "out_indices": stages}, {**weights, **norms}


def recorded_pyramid(folder: Path, _: str) -> Tensors:
    io = load_file(folder / "backbone_io.safetensors")
    return {name: tensor for name, tensor in io.items() if not name.startswith("outnorm")}


def run_pyramid(model: Any, given: Recorded) -> Tensors:
    maps = model(given["input"])
    return {f"feat{index}": found for index, found in zip(model.config.out_indices, maps, strict=True)}


def _vmamba(system: str) -> Golden:
    return Golden(system=system, checkpoint=checkpoint, recorded=recorded, run=run_vmamba, double=DOUBLE, **TOLERANCES)


VIM = Golden(system="vim", checkpoint=checkpoint, recorded=recorded, run=run_vim, double=DOUBLE, **TOLERANCES)
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
PYRAMID = Golden(
    system="vmamba-ss2d",
    part="pyramid",
    checkpoint=pyramid,
    recorded=recorded_pyramid,
    run=run_pyramid,
    **TOLERANCES,
)


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
globals().update(families.suite(*EVIDENCE, distribution="mambasdk-vision", slow=True))


# ---- another set of the same layout ----

_VIM = {"img_size": [24, 32], "patch_size": 8, "stride": 4, "depth": 2, "embed_dim": 24, "d_state": 6, "num_classes": 7}
_OPTIONS = {"if_cls_token": True, "use_middle_cls_token": True, "if_abs_pos_embed": True, "if_divide_out": True}
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
    """Folders `vim` and `vmamba-ss2d` of other sizes, from our own models."""
    arguments = {**_VIM, **_OPTIONS, "rms_norm": True, "residual_in_fp32": True, "bimamba_type": "v2"}
    _write(root / "vim", "vim", VIM, arguments, {**_VIM, "class_token": "middle"}, (24, 32), seed=3)
    folder = root / "vmamba-ss2d"
    own = {name: value for name, value in _VMAMBA.items() if name != "norm_layer"}
    _write(folder, "vmamba", VMAMBA, _VMAMBA, own, (40, 52), seed=4)
    _write(folder / "v0", "vmamba", VANILLA, _V0, {n: v for n, v in _V0.items() if n != "norm_layer"}, (36, 28), seed=5)
    torch.manual_seed(6)
    backbone: Any = golden.scatter(mambasdk.create_model("vmamba", **own, out_indices=[0, 2]), 6)
    backbone.load_state_dict(load_file(folder / "weights.safetensors"), strict=False)
    io = golden.record(PYRAMID, backbone, {"input": torch.randn(1, 3, 45, 37)})
    norms = {name: tensor.float() for name, tensor in backbone.state_dict().items() if name.startswith("outnorm")}
    golden.write(folder, "backbone_io.safetensors", {**io, **norms})
    golden.write(folder, "ss2d_blocks.json", _BLOCKS)
    for index, (name, options) in enumerate(_BLOCKS.items()):
        torch.manual_seed(index)
        made = golden.scatter(Block(**options), index)
        weights = {f"{name}.w.{key.removeprefix('mixer.')}": w for key, w in made.state_dict().items()}
        size = (2, 6, 4, 7) if options.get("channel_first") else (2, 4, 7, 6)
        found = golden.record(BLOCKS, made, {"in": torch.randn(size)})
        golden.write(folder, "ss2d_blocks.safetensors", {**weights, **{f"{name}.{k}": t for k, t in found.items()}})


def _write(
    folder: Path,
    family: str,
    which: Golden,
    arguments: dict[str, Any],
    own: dict[str, Any],
    size: tuple[int, int],
    *,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    model: Any = golden.scatter(mambasdk.create_model(family, **own), seed, 0.05)
    config = {"kwargs": arguments}
    golden.write(folder, "config.json", config)
    golden.write(folder, "weights.safetensors", model.state_dict())
    inputs = {"input": torch.randn(2, 3, *size), "cotangent": torch.randn(2, own["num_classes"])}
    io = golden.record(which, model, inputs, config)
    gradients = {name.removeprefix("grad."): t for name, t in io.items() if name.startswith("grad.")}
    golden.write(folder, "grads.safetensors", {**gradients, "cotangent": io.pop("cotangent")})
    golden.write(folder, "io.safetensors", {name: t for name, t in io.items() if not name.startswith("grad.")})
