"""The fake device as a plugin, and as torch's device; both are compiled here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mambasdk

HERE = Path(__file__).parent


def _compile(output: Path, *arguments: str) -> Path:
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler here: c++, g++ and clang++ are absent")
    installed = Path(mambasdk.__file__).parent / "include"
    include = installed if installed.is_dir() else HERE.parents[1] / "cpp" / "include"
    command = [compiler, "-std=c++20", "-fPIC", "-shared", f"-I{include}", *arguments, "-o", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return output


@pytest.fixture(scope="session")
def fake_device(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plugin."""
    library = tmp_path_factory.mktemp("fake") / "libfake_device.so"
    return _compile(library, "-O1", "-Wall", str(HERE / "fake_device.cpp"))


@pytest.fixture(scope="session")
def fake_torch(fake_device: Path) -> Path:
    """The device for torch, linked to the plugin."""
    pytest.importorskip("torch")
    from torch.utils.cpp_extension import include_paths, library_paths

    headers = [f"-isystem{path}" for path in include_paths()]
    libraries = [*(f"-L{path}" for path in library_paths()), "-lc10", "-ltorch_cpu", "-ltorch", str(fake_device)]
    return _compile(fake_device.with_name("libfake_torch.so"), *headers, str(HERE / "fake_torch.cpp"), *libraries)


@pytest.fixture(scope="session")
def in_own_process() -> Callable[..., dict[str, Any]]:
    """Runs a script of this folder with arguments; returns the JSON that it prints last.

    A device stays in the process that it is loaded into, and for torch it is the process's accelerator.
    """

    def run(script: str, *arguments: object) -> dict[str, Any]:
        path = os.pathsep.join([str(HERE.parent / "ops"), os.environ.get("PYTHONPATH", "")])
        done = subprocess.run(
            [sys.executable, "-X", "faulthandler", str(HERE / script), *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": path},
        )
        assert done.returncode == 0, (
            f"{script} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-6000:]}"
        )
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found

    return run
