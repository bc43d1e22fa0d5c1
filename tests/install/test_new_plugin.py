"""A plugin that `mambasdk new-plugin` wrote, outside the tree: built and installed against the installed wheel alone,
then listed, trained, exported, verified, and run from C++. Its own tests do the first half.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.install


@dataclass
class Installed:
    """site: where it is installed; source: its repository."""

    site: Path
    source: Path
    path: str

    def run(self, *command: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run with the plugin installed and no source tree on any path."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("MAMBASDK_", "PYTHON"))}
        environment |= {"PYTHONPATH": str(self.site), "PATH": self.path, "LC_ALL": "C.UTF-8"}
        done = subprocess.run(
            command, cwd=cwd or self.site, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
        return done


def _install(folder: Path, domain: str, native: bool) -> Installed:
    """Generate, build a wheel of it without network, install the wheel into a folder of its own."""
    source, site, wheels = folder / "repository", folder / "site", folder / "wheels"
    # Without native code no compiler may be needed: none is to be found.
    path = os.environ["PATH"] if native else str(_tools(folder, ["uname"]))
    plugin = Installed(site, source, path)
    site.mkdir()
    mambasdk = [sys.executable, "-m", "mambasdk"]
    flags = ["--native"] if native else []
    plugin.run(*mambasdk, "new-plugin", "mambasdk-acme", "--domain", domain, *flags, "--out", str(source))
    pip = [sys.executable, "-m", "pip", "--no-input", "--disable-pip-version-check", "--quiet"]
    plugin.run(*pip, "wheel", str(source), "--no-deps", "--no-build-isolation", "-w", str(wheels))
    wheel = next(wheels.glob("*.whl"))
    assert wheel.name.startswith("mambasdk_acme-0.1.0-py3-none-")
    assert wheel.name.endswith("-any.whl") != native
    plugin.run(*pip, "install", "--no-deps", "--no-index", "--target", str(site), str(wheel))
    shutil.copytree(source / "tests", folder / "tests")
    return plugin


def _tools(folder: Path, names: list[str]) -> Path:
    """A PATH of these programs alone."""
    tools = folder / "bin"
    tools.mkdir()
    for name in names:
        if found := shutil.which(name):
            (tools / name).symlink_to(found)
    return tools


CASES = [
    pytest.param(("language", False), id="language"),
    pytest.param(("language", True), id="language-native"),
    pytest.param(("series", False), id="series", marks=pytest.mark.slow),
    pytest.param(("series", True), id="series-native"),
]


@pytest.fixture(scope="module", params=CASES)
def plugin(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Installed, str, bool]:
    """(where it is, domain, whether it has native code)."""
    pytest.importorskip("torch")
    domain, native = request.param
    return _install(tmp_path_factory.mktemp("plugin"), domain, native), domain, native


def test_its_own_tests_pass(plugin: tuple[Installed, str, bool]) -> None:
    """Accepted by the host, trains, state continues, exports, verifies; with native code, op and processor too."""
    installed, _, _ = plugin
    tests = installed.site.parent / "tests"
    done = installed.run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tests), cwd=tests)
    assert "passed" in done.stdout
    assert "skipped" not in done.stdout


def test_listed_trained_and_run_from_cpp(
    plugin: tuple[Installed, str, bool],
    tmp_path: Path,
    prefix: Path,
    build_program: Callable[[Path, Path], Path],
) -> None:
    installed, domain, native = plugin
    mambasdk = [sys.executable, "-m", "mambasdk"]
    assert "acme-small  acme: " in installed.run(*mambasdk, "models", "acme*").stdout
    data = tmp_path / "data"
    if domain == "language":
        data.mkdir()
        for index in range(30):
            (data / f"{index}.txt").write_text(f"a quick brown fox jumps over {index} dogs\n" * 8)
    else:
        np.savetxt(data, np.sin(np.arange(100) * 0.3), delimiter=",", fmt="%.6g")
    more = ["--context", "16"]
    package = str(tmp_path / "package")
    size = ["--set", "d_model=16", "--set", "n_layer=1", "--set", "d_mlp=16"]
    installed.run(*mambasdk, "train", "acme", "--data", str(data), "--out", package, "--steps", "3", *size, *more)
    library = next(installed.site.glob("mambasdk_acme/lib*.so"), None)
    assert (library is not None) == native
    load = ["--plugin", str(library)] if native else []
    if domain == "language":
        expected = installed.run(*mambasdk, "generate", package, "--prompt", "a q", "--max-new-tokens", "8").stdout
        arguments = ["--prompt", "a q", "--max-new-tokens", "8"]
        found = installed.run(str(prefix / "bin" / "mambasdk-run"), package, *load, *arguments)
        assert "a q" + found.stdout == expected
    elif native:
        expected = installed.run(*mambasdk, "generate", package, "--data", str(data), "--length", "1").stdout
        program = build_program(_pipeline_host(tmp_path), prefix / "lib" / "cmake" / "mambasdk") / "host"
        found = installed.run(str(program), str(library), package, str(data))
        value = float(found.stdout.removeprefix('{"next": [').removesuffix("]}\n"))
        assert value == pytest.approx(float(expected), rel=1e-4, abs=1e-5)


def _pipeline_host(folder: Path) -> Path:
    """A C++ program that links the runtime alone and gives a file to a package's pipeline."""
    source = folder / "host"
    source.mkdir()
    (source / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.24)\nproject(host LANGUAGES CXX)\nfind_package(mambasdk REQUIRED)\n"
        "add_executable(host main.cpp)\ntarget_link_libraries(host PRIVATE mambasdk::mambasdk)\n"
    )
    (source / "main.cpp").write_text(
        """
#include <fstream>
#include <iostream>
#include <iterator>
#include <mambasdk/mambasdk.hpp>
int main(int, char** argv) {
  mambasdk::load_plugin(argv[1]);
  const mambasdk::Model model(argv[2]);
  mambasdk::Pipeline pipeline(model);
  std::ifstream file(argv[3], std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(file), {}};
  std::cout << pipeline.run({{"series", mambasdk::TensorRef::bytes(bytes)}}).json() << "\\n";
}
"""
    )
    return source
