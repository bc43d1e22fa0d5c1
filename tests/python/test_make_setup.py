"""What `make setup` and `make dev` do, as `make -n` says: nothing twice, and all instruction sets where CI builds."""

from __future__ import annotations

import json
import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLUGINS = sorted(path.parent.name for path in (ROOT / "plugins").glob("*/pyproject.toml"))


def commands(target: str, folder: Path) -> str:
    """What the target would run in an environment that does not exist."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    done = subprocess.run(
        ["make", "-n", "-C", ROOT, f"VENV={folder / 'venv'}", "ISAS=", target],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("target", "group", "sets", "tests"), [("setup", "setup", "native", "OFF"), ("dev", "dev", "all", "ON")]
)
def test_each_part_is_built_once(target: str, group: str, sets: str, tests: str, tmp_path: Path) -> None:
    said = commands(target, tmp_path)
    assert re.findall(r"--group (\w+)", said) == [group]
    assert set(re.findall(r"MAMBASDK_ISAS=([\w;]+)", said)) == {sets}
    assert set(re.findall(r"MAMBASDK_TESTS=(\w+)", said)) == {tests}
    assert set(re.findall(r"MAMBASDK_WERROR=(\w+)", said)) == {tests}, "a warning of another compiler stops no user"
    assert len(re.findall(r"pip --no-input wheel \. ", said)) == 1
    assert sorted(re.findall(r"pip --no-input wheel \./plugins/(\w+)", said)) == PLUGINS


def test_what_only_developers_need_is_not_for_users(tmp_path: Path) -> None:
    system = next(line for line in commands("setup", tmp_path).splitlines() if line.startswith(".ci/system"))
    assert not {"gtest", "benchmark", "abidw", "httplib", "clang"} & set(system.split())


@pytest.mark.parametrize("target", ["test", "test-all", "wheels", "bench"])
def test_what_tests_and_ships_has_every_instruction_set(target: str, tmp_path: Path) -> None:
    assert "MAMBASDK_ISAS=all" in commands(target, tmp_path)
    assert "make dev" in (ROOT / ".ci" / "run").read_text()


@pytest.mark.parametrize("sets", ["baseline;avx512_bf16;avx512_amx", "baseline;avx512;avx512_bf16;avx512_amx"])
def test_kernels_stand_on_no_instruction_set_that_is_not_built(sets: str, tmp_path: Path) -> None:
    """AVX512_BF16 leaves what is not bfloat16 to AVX-512, where that is built; `native` on such a processor is not."""
    if shutil.which("cmake") is None or platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("needs cmake on x86-64")
    options = [f"-DMAMBASDK_ISAS={sets}", "-DMAMBASDK_TESTS=OFF", "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON"]
    done = subprocess.run(["cmake", "-S", ROOT, "-B", tmp_path, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    entries = json.loads((tmp_path / "compile_commands.json").read_text())
    alone = "avx512" not in sets.split(";")
    for variant in ("avx512_bf16", "avx512_amx"):
        kernels = [entry["command"] for entry in entries if f"-DMAMBASDK_ISA={variant} " in entry["command"]]
        assert kernels
        assert all(("-DMAMBASDK_WITHOUT_AVX512 " in command) == alone for command in kernels)
