"""The repository itself: nothing in it names one machine, and the documentation is true."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MACHINE_PATH = re.compile(r"(?<![\w.$}/])/(home|root|work|Users)/\w")
LANGUAGES = {"python": "Python", "cpp": "C++"}


def _tracked() -> list[Path]:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode != 0:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listing.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_machine_paths() -> None:
    found = []
    for path in _tracked():
        text = path.read_bytes()
        if b"\0" in text[:4096]:
            continue
        lines = enumerate(text.decode("utf-8", "replace").splitlines(), 1)
        found += [
            f"{path.relative_to(ROOT)}:{number}: {line.strip()}" for number, line in lines if MACHINE_PATH.search(line)
        ]
    assert found == []


def test_generated_pages_are_current() -> None:
    """docs/operations.md comes from the registry, the tables of docs/performance.md from the committed run."""
    done = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _readme_block(language: str) -> str:
    blocks = re.findall(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 1, f"README.md has {len(blocks)} examples in {LANGUAGES[language]}, expected 1"
    return str(blocks[0])


@pytest.mark.install
def test_readme_examples(tmp_path: Path, prefix: Path, build_program: Callable[[Path, Path], Path]) -> None:
    """The Python example trains and saves a package; the C++ example runs it."""
    python = subprocess.run(
        [sys.executable, "-c", _readme_block("python")], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert python.returncode == 0, python.stderr
    source = tmp_path / "readme"
    source.mkdir()
    (source / "main.cpp").write_text(_readme_block("cpp"))
    (source / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.24)\nproject(readme LANGUAGES CXX)\nfind_package(mambasdk REQUIRED)\n"
        "add_executable(readme main.cpp)\ntarget_link_libraries(readme PRIVATE mambasdk::mambasdk)\n"
    )
    program = build_program(source, prefix / "lib" / "cmake" / "mambasdk") / "readme"
    native = subprocess.run([str(program)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert native.returncode == 0, native.stderr
    assert native.stdout
