"""A plugin that `mambasdk new-plugin` wrote, outside the tree: built and installed against the installed wheel alone,
then listed, trained, exported, verified, and run from C++. Its own tests do the first half.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import wave
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mambasdk.plugins import get_host

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
    pytest.param(("vision", False), id="vision"),
    pytest.param(("vision", True), id="vision-native", marks=pytest.mark.slow),
    pytest.param(("audio", False), id="audio", marks=pytest.mark.slow),
    pytest.param(("audio", True), id="audio-native"),
    pytest.param(("series", False), id="series", marks=pytest.mark.slow),
    pytest.param(("series", True), id="series-native"),
]


# Of the domains whose head is another plugin's.
HEADS = {"language": "causal_lm", "vision": "image_classification", "audio": "audio_classification"}


@pytest.fixture(scope="module", params=CASES)
def plugin(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Installed, str, bool]:
    """(where it is, domain, whether it has native code)."""
    pytest.importorskip("torch")
    domain, native = request.param
    head = HEADS.get(domain)
    if head is not None and head not in get_host().registrations.heads:
        pytest.skip(f"no installed plugin brings the head {head} that plugins for {domain} build on")
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
    listed = installed.run(*mambasdk, "models", "acme*").stdout
    assert re.search(r"^acme-small +[\d.]+ [KM] +acme: ", listed, re.MULTILINE), listed
    data = tmp_path / "data"
    more = _data(domain, data)
    package = str(tmp_path / "package")
    size = ["--set", "d_model=16", "--set", "n_layer=1", "--set", "d_mlp=16"]
    installed.run(*mambasdk, "train", "acme", "--data", str(data), "--out", package, "--steps", "3", *size, *more)
    own = next(installed.site.glob("mambasdk_acme/lib*.so"), None)
    assert (own is not None) == native
    libraries = [str(own)] if native else []
    if domain == "language":
        load = ["--plugin", *libraries] if native else []
        expected = installed.run(*mambasdk, "generate", package, "--prompt", "a q", "--max-new-tokens", "8").stdout
        arguments = ["--prompt", "a q", "--max-new-tokens", "8"]
        found = installed.run(str(prefix / "bin" / "mambasdk-run"), package, *load, *arguments)
        assert "a q" + found.stdout == expected
        return
    if domain == "series" and not native:
        return  # its packages have no processor
    program = build_program(_pipeline_host(tmp_path), prefix / "lib" / "cmake" / "mambasdk") / "host"
    if domain == "series":
        expected = installed.run(*mambasdk, "generate", package, "--data", str(data), "--length", "1").stdout
        found = installed.run(str(program), package, "series", str(data), *libraries)
        value = float(found.stdout.removeprefix('{"next": [').removesuffix("]}\n"))
        assert value == pytest.approx(float(expected), rel=1e-4, abs=1e-5)
        return
    file = next(path for path in data.rglob("*") if path.is_file())
    host = get_host()
    libraries += [str(path) for path in host.owner("head", HEADS[domain]).registrations.libraries]
    printed = json.loads(installed.run(*mambasdk, "predict", package, str(file), "--json").stdout)["results"][0]
    found = installed.run(str(program), package, {"vision": "image"}.get(domain, domain), str(file), *libraries)
    assert json.loads(found.stdout)["labels"] == printed["labels"]
    assert {row["label"] for row in printed["labels"]} == {"a", "b"}


@pytest.mark.parametrize(
    ("domain", "native"),
    [("series", False), pytest.param("series", True, marks=pytest.mark.slow), ("language", True)],
)
def test_printed_next_steps_work_as_they_stand(domain: str, native: bool, tmp_path: Path) -> None:
    """Typed into a shell, in an environment that has what this one has, beside the repository that was written."""
    pytest.importorskip("torch")
    if domain in HEADS and HEADS[domain] not in get_host().registrations.heads:
        pytest.skip(f"no installed plugin brings the head {HEADS[domain]}")
    venv.create(tmp_path / "env", with_pip=False, symlinks=True)
    site = next((tmp_path / "env" / "lib").glob("python3*/site-packages"))
    here = sysconfig.get_paths()["purelib"]
    (site / "parent.pth").write_text(f"import site; site.addsitedir({here!r})\n")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MAMBASDK_", "PYTHON"))}
    environment |= {"PATH": f"{tmp_path / 'env' / 'bin'}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8"}
    work = tmp_path / "work folder"
    work.mkdir()

    def type_in(line: str) -> str:
        done = subprocess.run(
            ["bash", "-c", line], cwd=work, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    flags = "--native" if native else ""
    shown = type_in(f"python -m mambasdk new-plugin mambasdk-acme --domain {domain} {flags}")
    steps = [line[2:] for line in shown.splitlines() if line.startswith("  ")]
    assert len(steps) == 4
    said = [type_in(step) for step in steps]
    assert "acme  mambasdk-acme 0.1.0  good" in said[2]
    assert "passed" in said[3]
    assert "failed" not in said[3]
    # In the repository's own folder too, whose package has no built library.
    done = type_in("cd mambasdk-acme && python -m mambasdk plugins && python -m pytest -q tests")
    assert "acme  mambasdk-acme 0.1.0  good" in done


def _data(domain: str, data: Path) -> list[str]:
    """Write something to train on; more arguments of `mambasdk train`."""
    chance = np.random.default_rng(0)
    if domain == "series":
        np.savetxt(data, np.sin(np.arange(100) * 0.3), delimiter=",", fmt="%.6g")
        return ["--context", "16"]
    if domain == "language":
        data.mkdir()
        for index in range(30):
            (data / f"{index}.txt").write_text(f"a quick brown fox jumps over {index} dogs\n" * 8)
        return ["--context", "16"]
    for label in ("a", "b"):
        (data / label).mkdir(parents=True)
        for index in range(4):
            if domain == "vision":
                pixels = chance.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(data / label / f"{index}.png")
                continue
            with wave.open(str(data / label / f"{index}.wav"), "wb") as file:
                file.setparams((1, 2, 16000, 0, "NONE", ""))
                file.writeframes(chance.integers(-9000, 9000, 5120).astype("<i2").tobytes())
    return ["--batch", "4", "--held-out", "0.25"]


def _pipeline_host(folder: Path) -> Path:
    """A C++ program, PACKAGE SLOT FILE LIBRARY…: what the pipeline says of the file. It links the runtime alone."""
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
  for (char** library = argv + 4; *library != nullptr; ++library) mambasdk::load_plugin(*library);
  const mambasdk::Model model(argv[1]);
  mambasdk::Pipeline pipeline(model);
  std::ifstream file(argv[3], std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(file), {}};
  std::cout << pipeline.run({{argv[2], mambasdk::TensorRef::bytes(bytes)}}).json() << "\\n";
}
"""
    )
    return source
