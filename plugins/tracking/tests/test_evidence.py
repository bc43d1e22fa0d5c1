"""Evidence for mambatrack: golden tensors, published counts and shapes, and what holds for every family."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

import mambasdk
from mambasdk.testing import families, golden
from mambasdk.testing.golden import Golden, Recorded, Tensors, Tolerance
from mambasdk_tracking.families.mambatrack import motion_loss

SYSTEM = "mambatrack"
ABSOLUTE = Tolerance(1e-4)  # of the golden


def systems(folder: Path) -> Sequence[str]:
    """Names of the models whose outputs the folder holds."""
    names = load_file(folder / "io.safetensors")
    return sorted({match[1] for name in names if (match := re.fullmatch(r"\w+\.(\w+)\.out", name))})


def _weights(folder: Path, system: str) -> Tensors:
    """Of a model that the configuration gives a file of its own, and else the common one."""
    described = golden.config(folder).get(system)
    file = described["weights"] if isinstance(described, dict) else "weights.safetensors"
    return load_file(folder / file)


def checkpoint(folder: Path, system: str) -> tuple[Any, Tensors]:
    norm = {"preln": {"norm": "pre"}, "postln": {"norm": "post"}}.get(system.rpartition("_")[2], {})
    return {**golden.config(folder), **norm}, _weights(folder, system)


def recorded(folder: Path, system: str) -> Tensors:
    """Inputs, and what the system gives for them; a label where there is a loss."""
    io = load_file(folder / "io.safetensors")
    found = {name.replace(f".{system}.", "."): tensor for name, tensor in io.items() if f".{system}." in name}
    inputs = {name: tensor for name, tensor in io.items() if name.endswith(".input")}
    labels = {
        name: t for name, t in io.items() if name.endswith(".label") and any("loss" in n or "l1" in n for n in found)
    }
    return {**found, **inputs, **labels}


def run(model: Any, given: Recorded) -> Tensors:
    """Outputs of every input, tokens after every block, and the loss, as far as they are recorded."""
    found: Tensors = {}
    for case in [name.removesuffix(".input") for name in given if name.endswith(".input")]:
        x = given[f"{case}.input"]
        found[f"{case}.out"] = model(x)
        if f"{case}.tokens0" in given or f"{case}.out" not in given:
            x = model.proj_embedding_layer(x)
            found[f"{case}.tokens0"] = x
            for index, one in enumerate(model.bi_mamba_blocks):
                x = one(x)
                found[f"{case}.tokens{index + 1}"] = x
        if f"{case}.label" in given:
            found[f"{case}.smooth_l1"] = motion_loss(found[f"{case}.out"], given[f"{case}.label"]).reshape(1)
    return found


# ---- rollout ----


def rollout_checkpoint(folder: Path, _: str) -> Any:
    return mambasdk.import_checkpoint(SYSTEM, *checkpoint(folder, golden.config(folder)["rollout"]["variant"]))


def recorded_rollout(folder: Path, _: str) -> Tensors:
    io = golden.read_io(folder, "rollout")
    return {**io, "steps": torch.tensor(len(io["pred_cxcywh"]))}


def run_rollout(model: Any, given: Recorded) -> Tensors:
    width, height = given.config["rollout"]["img_wh"]
    history = given["history_cxcywh"]
    return {"pred_cxcywh": model.rollout(history[None], (width, height), int(given["steps"]))[0]}


# ---- published facts ----


def _counts(model: str) -> dict[str, int]:
    """Of the model, of a block, and of one direction of a block."""
    published = golden.facts(f"{SYSTEM}/param_counts.json")
    block, mixer = published["one_bimamba_block"], published["one_mamba_d512"]
    return {"": published[model], "bi_mamba_blocks.0": block, "bi_mamba_blocks.0.forward_mamba": mixer}


PREDICTORS = Golden(system=SYSTEM, cases=systems, checkpoint=checkpoint, recorded=recorded, run=run, tolerance=ABSOLUTE)
ROLLOUT = Golden(
    system=SYSTEM,
    part="rollout",
    model=rollout_checkpoint,
    recorded=recorded_rollout,
    run=run_rollout,
    tolerance=Tolerance(1e-3),  # pixels: 2000 * 2^-24 a step
)
EVIDENCE = families.Evidence(
    SYSTEM,
    goldens=[PREDICTORS, ROLLOUT],
    forms={"post": {"norm": "post"}},
    counts={
        "mambatrack-mtp": partial(_counts, "d512_L3_pool_tokens_only_head64"),
        "mambatrack-mtp-unofficial": partial(_counts, "unofficial_d512_L3_pool128_head64"),
    },
    shapes={"mambatrack-mtp-unofficial": partial(golden.facts, f"{SYSTEM}/state_dict_shapes.json")},
)
globals().update(families.suite(EVIDENCE, distribution="mambasdk-tracking", slow=True))


# ---- another set of the same layout ----


def write_golden(root: Path) -> None:
    """Predictors of other sizes, for the folder `mambatrack`."""
    folder = root / SYSTEM
    config: dict[str, Any] = {
        "q": 7,
        "unofficial": {"weights": "weights_unofficial.safetensors"},
        "rollout": {"img_wh": [1280, 720], "variant": "paper_postln"},
    }
    golden.write(folder, "config.json", config)
    sizes = {"d_model": 24, "n_layer": 3, "d_state": 6, "head_hidden": 12, "window": 7}
    inputs = {f"{name}.input": 0.4 * torch.randn(4, length, 4) for name, length in (("q", 7), ("short", 3))}
    golden.write(folder, "io.safetensors", inputs)
    flags = {"paper_preln": {"norm": "pre"}, "paper_postln": {"norm": "post"}}
    other = {"backward_flip": False, "pool_channels": 6}
    torch.manual_seed(11)
    weights = golden.scatter(mambasdk.create_model(SYSTEM, **sizes), 11, 0.05).state_dict()
    golden.write(folder, "weights.safetensors", weights)
    unofficial = golden.scatter(mambasdk.create_model(SYSTEM, **sizes, **other), 12, 0.05)
    golden.write(folder, "weights_unofficial.safetensors", unofficial.state_dict())
    label = {"q.label": 0.1 * torch.randn(4, 4)}
    golden.write(folder, "io.safetensors", label)
    for system in ("paper_preln", "paper_postln", "unofficial"):
        model: Any = mambasdk.create_model(SYSTEM, **sizes, **flags.get(system, other)).eval()
        model.load_state_dict(_weights(folder, system))
        given = {**inputs, **(label if system == "paper_preln" else {})}
        io = golden.record(PREDICTORS, model, given, config)
        kept = {name: t for name, t in io.items() if name not in given and (system != "unofficial" or ".out" in name)}
        named = {name.replace(".", f".{system}.", 1): tensor for name, tensor in kept.items()}
        golden.write(folder, "io.safetensors", named)
    model = rollout_checkpoint(folder, "")
    history = torch.tensor([600.0, 300, 60, 150]) + torch.arange(9)[:, None] * torch.tensor([4.0, -2, 0.5, 1])
    io = golden.record(ROLLOUT, model, {"history_cxcywh": history, "steps": torch.tensor(5)}, config)
    io.pop("steps")
    golden.write(folder, "io.safetensors", {f"rollout.{name}": tensor for name, tensor in io.items()})
