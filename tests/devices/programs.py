"""Script: every registered family that has a native program, on the CPU and on the fake device: LIBRARY FOLDER.

Prints what differs, how many kernels ran, and how many of them on the default stream.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from counts import FakeDevice

import mambasdk
from mambasdk import _core
from mambasdk.models import build
from mambasdk.plugins import get_host


def _package(name: str, folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """A package of the family's tiny model, and inputs; None where it has no native program."""
    torch.manual_seed(0)
    family = get_host().family(name)
    model = build(family, family.tiny).eval()
    mambasdk.save_package(model, folder)
    if not (folder / "program.json").is_file():
        return None
    return folder, {k: v.numpy() for k, v in model.example_inputs().items()}


def _runs(session: Any, inputs: dict[str, Any], outputs: list[str]) -> list[Any]:
    """Three runs, the later ones from a state where there is one; the last after a saved state was restored."""
    made = [session.run(inputs, outputs)]
    state = session.state()
    made.append(session.run(inputs, outputs))
    session.restore(state)
    made.append(session.clone().run(inputs, outputs))
    return made


def main(library: Path, folder: Path) -> dict[str, Any]:
    """Compare them all."""
    _core.load_native_plugin(str(library))
    device = FakeDevice(library)
    before = device.counts()
    families, different = [], []
    for name in sorted(get_host().registrations.families):
        made = _package(name, folder / name)
        if made is None:
            continue
        path, inputs = made
        model = _core.load_package(path)
        outputs = [output["name"] for output in model.outputs]
        on_cpu, on_device = (_runs(model.session(where), inputs, outputs) for where in ("cpu", "fake:1"))
        for run, (a, b) in enumerate(zip(on_cpu, on_device, strict=True)):
            different += [[name, run, o] for o in outputs if a[o].tobytes() != b[o].tobytes()]
        if not np.array_equal(on_device[1][outputs[0]], on_device[2][outputs[0]]):
            different.append([name, "restored", outputs[0]])
        families.append(name)
        del model  # its weights leave the device with it
    after = device.counts()
    counted = {key: after[key] - before[key] for key in after}
    return {"families": families, "different": different, **counted}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), Path(sys.argv[2]))))
