"""Every golden tensor of vim and vmamba-ss2d: imported weights, logits, taps, features, gradients."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import mambasdk
from mambasdk.models import identity
from mambasdk_vision.vmamba import SS2D

ACTIVATION = 1e-4  # of the tensor's root mean square; both from the golden READMEs
GRADIENT = 1e-3

Golden = Callable[[str], Path]
Tensors = dict[str, Tensor]
MODELS = {"vim": ("vim", "."), "vmamba": ("vmamba-ss2d", "."), "vmamba-v0": ("vmamba-ss2d", "v0")}
BLOCKS = [
    "v0",
    "v05_noz",
    "v05_noz_cf",
    "v05",
    "v051d",
    "v052d",
    "v052dc_cf",
    "v05_onnone",
    "v05_nozact",
    "v05_onsigmoid",
    "v05_onsoftmax",
    "v05_ondwconv3",
    "v05_noz_oact",
    "v05_noconv",
]


def load(golden: Golden, name: str) -> tuple[Any, dict[str, Any], Path]:
    """(model in eval mode, upstream's arguments, the golden folder)."""
    system, part = MODELS[name]
    folder = golden(system) / part
    arguments: dict[str, Any] = json.loads((folder / "config.json").read_text())["kwargs"]
    family = name.split("-", maxsplit=1)[0]
    model = mambasdk.import_checkpoint(family, arguments, load_file(folder / "weights.safetensors"))
    return model.eval(), arguments, folder


def near(found: Tensor, expected: Tensor, name: str, tolerance: float = ACTIVATION) -> None:
    assert found.shape == expected.shape, name
    error = (found.detach() - expected).abs().max() / expected.square().mean().sqrt()
    assert error < tolerance, f"{name}: {error}"


def watch(model: nn.Module, taps: dict[str, tuple[str, str]], seen: Tensors) -> None:
    """taps: name -> (module, "in" or "out")."""

    def hook(tap: str, side: str) -> Any:
        def keep(module: nn.Module, arguments: Any, out: Any) -> None:
            seen[tap] = arguments[0] if side == "in" else out

        return keep

    for tap, (module, side) in taps.items():
        model.get_submodule(module).register_forward_hook(hook(tap, side))


@pytest.mark.parametrize("name", MODELS)
def test_equals_the_golden(name: str, golden: Golden) -> None:
    """Logits, all taps, and every gradient that is given."""
    model, arguments, folder = load(golden, name)
    io, gradients = load_file(folder / "io.safetensors"), load_file(folder / "grads.safetensors")
    image = io["input"].requires_grad_()
    seen: Tensors = {}
    if name == "vim":
        last = arguments["depth"] - 1
        watch(
            model,
            {
                "tap.patch_embed": ("patch_embed", "out"),
                "tap.layers0.mixer_in": ("layers.0.mixer", "in"),
                "tap.layers0.mixer_out": ("layers.0.mixer", "out"),
            },
            seen,
        )
        _, seen["tap.last_layer.hidden"], seen["tap.last_layer.residual"] = model.encode(image)
        assert last + 1 == len(model.layers)
        seen["features"] = model.features(image)
        assert model.config.class_position == json.loads((folder / "config.json").read_text())["cls_position"]
    else:
        stages = {f"tap.stage{index}_out": (f"layers.{index}", "out") for index in range(4)}
        block = "layers.0.blocks.0"
        watch(
            model,
            {
                "tap.stem": ("patch_embed", "out"),
                "tap.l0b0.op_in": (f"{block}.op", "in"),
                "tap.l0b0.op_out": (f"{block}.op", "out"),
                "tap.l0b0.out": (block, "out"),
                **{tap: (f"{module}.downsample", "out") for tap, (module, _) in stages.items()},
            },
            seen,
        )
    seen["logits"] = model(image)
    channel_first = arguments.get("norm_layer") == "ln2d"
    assert set(seen) == set(io) - {"input"}
    for tap, tensor in seen.items():
        near(tensor.permute(0, 3, 1, 2) if channel_first and tensor.ndim == 4 else tensor, io[tap], tap)

    (seen["logits"] * gradients.pop("cotangent")).sum().backward()
    parameters = dict(model.named_parameters())
    assert len(gradients) > 15
    for key, expected in gradients.items():
        found = image.grad if key == "input" else parameters[key].grad
        assert found is not None
        near(found, expected, key, GRADIENT)


@pytest.mark.parametrize(("family", "case"), [("vmamba", case) for case in BLOCKS])
def test_blocks_equal_the_golden(family: str, case: str, golden: Golden) -> None:
    folder = golden("vmamba-ss2d")
    arguments = json.loads((folder / "ss2d_blocks.json").read_text())
    assert set(arguments) == set(BLOCKS)
    options = dict(arguments[case])
    channel_first = options.pop("channel_first", False)
    tensors = load_file(folder / "ss2d_blocks.safetensors")
    prefix = f"{case}.w."
    weights = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    mixer = SS2D(**options)
    mixer.load_state_dict(weights)
    x = tensors[f"{case}.in"]
    y = mixer(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) if channel_first else mixer(x)
    near(y, tensors[f"{case}.out"], case)


def test_feature_maps_equal_the_golden(golden: Golden) -> None:
    """The pyramid on an image of odd maps; weights of the classifier's file, norms of the backbone's."""
    _, arguments, folder = load(golden, "vmamba")
    io = load_file(folder / "backbone_io.safetensors")
    norms = {key: value for key, value in io.items() if key.startswith("outnorm")}
    weights = {**load_file(folder / "weights.safetensors"), **norms}
    model: Any = mambasdk.import_checkpoint("vmamba", {**arguments, "out_indices": [0, 1, 2, 3]}, weights).eval()
    maps = model(io["input"])
    assert len(maps) == 4
    for index, found in enumerate(maps):
        near(found, io[f"feat{index}"], f"feat{index}")


@pytest.mark.parametrize("name", MODELS)
def test_float64_shows_no_more_than_rounding(name: str, golden: Golden) -> None:
    """The goldens are float32: the model in float64 is as close to them as float32 can say."""
    model, _, folder = load(golden, name)
    io = load_file(folder / "io.safetensors")
    near(model.double()(io["input"].double()).float(), io["logits"], "logits", 1e-5)


@pytest.mark.parametrize("family", ["vim", "vmamba"])
def test_original_format_round_trip(family: str, golden: Golden, tmp_path: Path) -> None:
    """Upstream's file and arguments, saved as a package and loaded again: the same configuration, tensors, logits."""
    model, arguments, folder = load(golden, family)
    mambasdk.save_package(model, tmp_path / "package", engine="torch")
    again: Any = mambasdk.load(tmp_path / "package")
    assert identity(again) == identity(model)
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in model.state_dict().items())
    # A trainer's container around it, and names and values as upstream has them.
    torch.save({"model": model.state_dict(), "epoch": 3}, tmp_path / "weights.pt")
    third = mambasdk.import_checkpoint(family, arguments, tmp_path / "weights.pt").eval()
    upstream = load_file(folder / "weights.safetensors")
    assert third.state_dict().keys() == upstream.keys()
    image = load_file(folder / "io.safetensors")["input"]
    with torch.no_grad():
        assert torch.equal(again(image), model(image))
        assert torch.equal(third(image), model(image))
