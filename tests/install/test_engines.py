"""A C++ program without Python runs compiled and native packages through the same calls, as PyTorch does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
TOKENS = [3, 1, 4, 1, 5, 9, 2, 6]

pytestmark = [pytest.mark.install, pytest.mark.usefixtures("convolution_plugin")]


@pytest.fixture(scope="module")
def program(prefix: Path, build_program: Callable[[Path, Path], Path]) -> Path:
    return build_program(ROOT / "examples" / "embed_engines", prefix / "lib" / "cmake" / "mambasdk") / "embed_engines"


def run(program: Path, *packages: Path, libtorch: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MAMBASDK", "LD_", "PYTHON"))}
    if libtorch is not None:
        environment["MAMBASDK_LIBTORCH"] = str(libtorch)
    command = [str(program), *map(str, packages)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def libtorch_folder() -> Path:
    torch = pytest.importorskip("torch")
    return Path(torch.__file__).parent / "lib"


def values(lines: list[str], name: str) -> list[np.ndarray[Any, Any]]:
    return [np.array(line.split()[1:], np.float32) for line in lines if line.startswith(name + " ")]


def image() -> Any:
    torch = pytest.importorskip("torch")
    return ((torch.arange(3 * 20 * 14) * 7 % 11 - 5) / 5.0).float().reshape(1, 3, 20, 14)


def expected_logits(package: Path) -> list[Any]:
    """The stream of the example, in PyTorch: the state goes from call to call."""
    torch = pytest.importorskip("torch")
    import mambasdk

    model = mambasdk.load(package)
    found = []
    with torch.inference_mode():
        out = model(torch.tensor([TOKENS[:5]]))
        found.append(out.logits[0, -1].numpy())
        for token in TOKENS[5:]:
            out = model(torch.tensor([[token]]), state=out.state)
            found.append(out.logits[0, -1].numpy())
    return found


def test_both_engines_in_one_program(program: Path, compiled_package: Path, tiny_package: Path) -> None:
    torch = pytest.importorskip("torch")
    import mambasdk

    done = run(program, compiled_package, tiny_package, libtorch=libtorch_folder())
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    engines = [json.loads(line)["engine"] for line in lines if line.startswith("{")]
    assert engines == ["aoti", "native"]
    with torch.no_grad():
        scores = mambasdk.load(compiled_package)(image())[0][0].numpy()
    np.testing.assert_allclose(values(lines, "scores")[0], scores, rtol=1e-4, atol=1e-5)
    for found, wanted in zip(values(lines, "last_logits"), expected_logits(tiny_package), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)


def test_the_program_links_no_torch_and_no_python(program: Path) -> None:
    needed = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=True).stdout
    assert "libmambasdk.so.1" in needed
    assert "libtorch" not in needed
    assert "libpython" not in needed


def test_the_engine_links_no_torch_and_exports_its_entry_points_only(prefix: Path) -> None:
    library = str(prefix / "lib" / "libmambasdk_aoti.so")
    symbols = subprocess.run(["nm", "-D", "--defined-only", library], capture_output=True, text=True, check=True).stdout
    assert {line.split()[-1] for line in symbols.splitlines()} == {"mambasdk_plugin", "mambasdk_aoti_torch"}
    dynamic = subprocess.run(["readelf", "-d", library], capture_output=True, text=True, check=True).stdout
    needed = {line.split("[")[1].rstrip("]") for line in dynamic.splitlines() if "(NEEDED)" in line}
    assert needed <= {"libstdc++.so.6", "libm.so.6", "libgcc_s.so.1", "libc.so.6", "ld-linux-x86-64.so.2"}


def test_doctor_shows_the_torch_that_compiled_packages_run_on() -> None:
    torch = pytest.importorskip("torch")
    command = [sys.executable, "-m", "mambasdk", "doctor", "--json"]
    report = json.loads(subprocess.run(command, capture_output=True, text=True, check=False).stdout)
    assert report["engines"]["aoti"] == {"available": True, "torch": torch.__version__.split("+")[0]}


def test_the_libtorch_of_the_same_environment_is_found(program: Path, compiled_package: Path) -> None:
    pytest.importorskip("torch")
    assert run(program, compiled_package).returncode == 0


def test_without_libtorch_the_error_says_what_to_do(program: Path, compiled_package: Path, tmp_path: Path) -> None:
    done = run(program, compiled_package, libtorch=tmp_path)
    assert done.returncode == 1
    assert "libtorch" in done.stderr
    assert "MAMBASDK_LIBTORCH" in done.stderr


@pytest.mark.slow
def test_a_language_model_streams_the_same_from_either_engine(
    program: Path, tiny_package: Path, tmp_path: Path
) -> None:
    import mambasdk

    model = mambasdk.load(tiny_package)
    mambasdk.save_package(model, tmp_path / "compiled", engine="aoti")
    done = run(program, tmp_path / "compiled", libtorch=libtorch_folder())
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    description = json.loads(lines[0])
    assert description["engine"] == "aoti"
    assert [state["name"] for state in description["states"]][-1] == "tokens_seen"
    for found, wanted in zip(values(lines, "last_logits"), expected_logits(tiny_package), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)
