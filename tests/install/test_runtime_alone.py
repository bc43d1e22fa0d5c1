"""MAMBASDK_TORCH=OFF: the runtime from a plain CMake build, without Python and torch."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.install


@pytest.fixture(scope="module")
def configured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configured build folder."""
    folder = tmp_path_factory.mktemp("runtime")
    options = ["MAMBASDK_TORCH=OFF", "MAMBASDK_PYTHON=OFF", "MAMBASDK_TESTS=OFF"]
    command = ["cmake", "-S", str(ROOT), "-B", str(folder), "-G", "Ninja", *(f"-D{option}" for option in options)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_no_target_needs_torch_or_python(configured: Path) -> None:
    commands = (configured / "build.ninja").read_text()
    assert "mambasdk_torch" not in commands
    assert "mambasdk_core" not in commands
    assert "site-packages" not in commands
    assert "mambasdk-run" in commands


@pytest.mark.slow
def test_builds_and_installs(
    configured: Path, tmp_path: Path, tiny_package: Path, build_program: Callable[[Path, Path], Path]
) -> None:
    for command in (
        ["cmake", "--build", str(configured)],
        ["cmake", "--install", str(configured), "--prefix", str(tmp_path)],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    installed = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert {"bin/mambasdk-run", "include/mambasdk/mambasdk.h"} <= installed
    package = next(tmp_path.rglob("mambasdk-config.cmake")).parent
    program = build_program(ROOT / "examples" / "embed_c", package) / "embed_c"
    subprocess.run([str(program), str(tiny_package), "def ", "4"], check=True, capture_output=True)
    subprocess.run(
        [str(tmp_path / "bin" / "mambasdk-run"), str(tiny_package), "--prompt", "x", "--max-new-tokens", "2"],
        check=True,
    )
