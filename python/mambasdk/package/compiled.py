"""The compiled part of a package of the engine aoti: `model.pt2`, and tensors that are no weights of the model."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from mambasdk.errors import LoweringError, require_core, require_module
from mambasdk.package.manifest import COMPILED_FILE, CONSTANTS_FILE, Manifest

if TYPE_CHECKING:
    from torch import nn


def write_compiled(twin: nn.Module, manifest: Manifest, work: Path, isa: str | None) -> None:
    """Compile `twin` into the folder `work` and say so in the manifest: its engine, inputs, outputs and states.

    isa: instruction set; None for the default of this machine. Raises LoweringError.
    """
    exported = importlib.import_module("mambasdk.lowering.exported")
    inductor = importlib.import_module("mambasdk.lowering.aot_inductor")
    detected = _detected_isa()
    model = exported.export_model(twin)
    if any("grows" in port for port in model.states):
        raise LoweringError(
            "a compiled model cannot have a state that grows",
            where="engine aoti",
            way_out='save it with engine="native"',
        )
    about = inductor.compile_model(
        model, work / COMPILED_FILE, isa or inductor.default_instruction_set(detected), detected
    )
    manifest.engine.update(name="aoti", file=COMPILED_FILE, executes_code=True, **about)
    if model.states:
        manifest.engine["states"] = model.states
    if model.aliases:
        manifest.engine["aliases"] = model.aliases
    if model.constants:
        safetensors = require_module("safetensors.torch", "saving a package", "pip install safetensors")
        safetensors.save_file(
            {name: tensor.contiguous() for name, tensor in model.constants.items()}, work / CONSTANTS_FILE
        )
        manifest.engine["constants"] = CONSTANTS_FILE
    manifest.inputs.extend(model.inputs)
    manifest.outputs.extend(model.outputs)


def _detected_isa() -> str:
    core = require_core("exporting for the engine aoti")
    return str(core.cpu_info()["isa_detected"])
