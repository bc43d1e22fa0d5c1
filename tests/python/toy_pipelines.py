"""Toy native packages with processors and a head, and the C++ program that runs them; for the plugins' tests."""

from __future__ import annotations

import functools
import json
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file

from mambasdk.installation import get_cmake_dir
from mambasdk.lowering import Program
from mambasdk.package.manifest import FileEntry, Manifest, sha256_file

ROOT = Path(__file__).parents[2]


def write_package(
    folder: Path,
    program: Program,
    weights: Mapping[str, npt.NDArray[Any]],
    *,
    processors: Mapping[str, Mapping[str, Any]],
    head: str,
    head_options: Mapping[str, Any],
    plugin: str,
) -> Path:
    """A package of `program`; its manifest names everything else."""
    folder.mkdir()
    save_file(dict(weights), folder / "model.safetensors")
    (folder / "program.json").write_text(json.dumps(program.to_json()))
    files = {
        name: FileEntry(sha256_file(folder / name), (folder / name).stat().st_size)
        for name in ("model.safetensors", "program.json")
    }
    manifest = Manifest(
        family="toy",
        config={},
        engine={"name": "native", "program": "program.json"},
        head=head,
        head_options=dict(head_options),
        inputs=program.inputs,
        outputs=program.outputs,
        processors={slot: dict(entry) for slot, entry in processors.items()},
        requires={"mambasdk_abi": [1, 1], "plugins": [{"name": plugin}]},
        files=files,
    )
    (folder / "mambasdk.json").write_bytes(manifest.to_json())
    return folder


def linear_classifier(name: str, shape: list[int], classes: int) -> tuple[Program, dict[str, npt.NDArray[Any]]]:
    """Logits as a linear function of input `name`, flattened; fixed random weights."""
    program = Program()
    x = program.input(name, "f32", list(shape))
    size = int(np.prod(shape))
    logits = program.linear(program.reshape(x, [1, size]), "head", bias=True)
    program.output("logits", logits, "f32", [1, classes])
    chance = np.random.default_rng(0)
    weights = {
        "head.weight": chance.normal(size=(classes, size)).astype(np.float32) / np.sqrt(size, dtype=np.float32),
        "head.bias": chance.normal(size=classes).astype(np.float32),
    }
    return program, weights


@functools.cache
def build_example(name: str) -> Path:
    """The program of examples/NAME, built against the installed wheel."""
    build = Path(tempfile.mkdtemp(prefix=f"{name}-"))
    source = ROOT / "examples" / name
    for command in (
        ["cmake", "-S", str(source), "-B", str(build), f"-Dmambasdk_DIR={get_cmake_dir()}"],
        ["cmake", "--build", str(build)],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return build / name


def run_cpp(package: Path, slot: str, files: list[Path], library: Path) -> list[Any]:
    """The C++ program's result of each file."""
    command = [
        str(build_example("predict_cpp")),
        str(package),
        slot,
        *map(str, files),
        "--plugin",
        str(library),
        "--allow-code",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]
