"""The wheel: its contents, its tag, and what it does in an environment that has nothing else."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.install

CONTENTS = {
    "mambasdk/_core.pyi",
    "mambasdk/py.typed",
    "mambasdk/bin/mambasdk-run",
    "mambasdk/include/mambasdk/mambasdk.h",
    "mambasdk/include/mambasdk/mambasdk.hpp",
    "mambasdk/include/mambasdk/plugin.hpp",
    "mambasdk/lib/libmambasdk.so.1",
    "mambasdk/lib/libmambasdk_torch.so",
    "mambasdk/lib/cmake/mambasdk/mambasdk-config.cmake",
    "mambasdk/lib/cmake/mambasdk/mambasdk-config-version.cmake",
    "mambasdk/lib/cmake/mambasdk/mambasdk-targets.cmake",
    "mambasdk/lib/cmake/mambasdk/MambasdkPlugin.cmake",
}


def test_contents(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        modes = {info.filename: info.external_attr >> 16 for info in archive.infolist()}
    assert CONTENTS - names == set()
    assert any(re.fullmatch(r"mambasdk/_core\.[\w-]+\.so", name) for name in names)
    licences = {Path(name).name for name in names if ".dist-info/licenses/" in name}
    assert licences == {"LICENSE", "NOTICE", "nlohmann_json.txt", "pybind11.txt", "unicode.txt"}
    assert modes["mambasdk/bin/mambasdk-run"] & 0o111, "mambasdk-run is not executable"
    foreign = [name for name in names if not name.startswith(("mambasdk/", "mambasdk-"))]
    sources = [name for name in names if name.endswith((".cpp", ".c", ".pyc"))]
    assert foreign == []
    assert sources == []


def test_manylinux(wheel: Path) -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "auditwheel", "show", str(wheel)], capture_output=True, text=True, check=False
    )
    assert shown.returncode == 0, shown.stderr
    said = " ".join(shown.stdout.split())  # it wraps its lines
    assert re.search(r'is consistent with the following platform tag: "manylinux_\d+_\d+_', said), said


def test_import_is_quick_and_leaves_torch_alone() -> None:
    """Best of five: others use the machine too."""
    script = (
        "import sys, time; start = time.perf_counter(); import mambasdk, mambasdk._core; "
        "seconds = time.perf_counter() - start; import json; "
        "print(json.dumps([seconds, sorted({'torch', 'matplotlib', 'transformers'} & set(sys.modules))]))"
    )
    seconds = []
    for _ in range(5):
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        elapsed, heavy = json.loads(done.stdout)
        assert heavy == []
        seconds.append(elapsed)
    assert min(seconds) < 0.3


def test_empty_environment(wheel: Path, tiny_package: Path, tmp_path: Path) -> None:
    """No torch, no plugin, no compiler: import, doctor and generation work, and what needs torch says so."""
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    pip = [
        str(python),
        "-m",
        "pip",
        "--no-input",
        "install",
        "--quiet",
        "-c",
        str(Path(__file__).parents[2] / "constraints.txt"),
    ]
    installed = subprocess.run([*pip, str(wheel)], capture_output=True, text=True, check=False)
    assert installed.returncode == 0, installed.stderr

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": str(python.parent), "LC_ALL": "C.UTF-8"}
        return subprocess.run(arguments, capture_output=True, text=True, check=False, env=environment, cwd=tmp_path)

    doctor = run(str(python.with_name("mambasdk")), "doctor", "--json")
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr
    report = json.loads(doctor.stdout)
    assert report["native"]["available"]
    assert not report["torch"]["available"]
    assert report["problems"] == []

    script = (
        f"from mambasdk import _core; session = _core.load_package({str(tiny_package)!r}).session(); "
        "print(session.generate('x', max_new_tokens=4)['new_tokens'])"
    )
    generated = run(str(python), "-c", script)
    assert generated.stdout.strip() == "4", generated.stderr
    native = run(str(python.with_name("mambasdk-run")), str(tiny_package), "--prompt", "x", "--max-new-tokens", "4")
    assert native.returncode == 0, native.stderr

    needs_torch = run(str(python), "-c", "import mambasdk; mambasdk.nn")
    assert needs_torch.returncode == 1
    assert "pip install" in needs_torch.stderr.splitlines()[-1]


def test_paths_command(prefix: Path) -> None:
    for flag, part in (
        ("--include", "include"),
        ("--library", "lib/libmambasdk.so.1"),
        ("--cmake-dir", "lib/cmake/mambasdk"),
    ):
        shown = subprocess.run(
            [sys.executable, "-m", "mambasdk", "paths", flag], capture_output=True, text=True, check=True
        )
        assert shown.stdout.strip() == str(prefix / part)
