"""The wheels of the core and of every plugin: installed alone, with no compiler; what of others they contain."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
WHEELS = Path(os.environ.get("MAMBASDK_WHEELS", ROOT / "build" / "wheels"))
SMOKE = Path(__file__).with_name("smoke.py")
PLUGINS = sorted(path.parent.name for path in ROOT.glob("plugins/*/pyproject.toml"))

pytestmark = pytest.mark.install


@pytest.fixture(scope="module")
def wheels() -> list[Path]:
    found = sorted(WHEELS.glob("*.whl"))
    if not found:
        pytest.skip(f"no wheels in {WHEELS}; `make dev` builds them, and MAMBASDK_WHEELS names another folder")
    names = {path.name.split("-")[0] for path in found}
    assert names == {"mambasdk"} | {f"mambasdk_{name}" for name in PLUGINS}
    return found


@pytest.fixture(scope="module")
def environment(wheels: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that has the wheels and what they depend on."""
    folder = tmp_path_factory.mktemp("wheels") / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    pip = [str(python), "-m", "pip", "--no-input", "install", "--quiet", "-c", str(ROOT / "constraints.txt")]
    installed = subprocess.run([*pip, *map(str, wheels)], capture_output=True, text=True, check=False)
    assert installed.returncode == 0, installed.stderr
    return python


def _smoke(python: Path, folder: Path, *packages: Path) -> dict[str, Any]:
    """What smoke.py says there, with the environment's own commands on PATH and nothing else: no compiler."""
    clean = {"PATH": str(python.parent), "LC_ALL": "C.UTF-8", "HOME": str(folder)}
    done = subprocess.run(
        [str(python), "-I", str(SMOKE), *map(str, packages)],
        capture_output=True,
        text=True,
        check=False,
        env=clean,
        cwd=folder,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_without_torch(environment: Path, tmp_path: Path, tiny_package: Path) -> None:
    report = _smoke(environment, tmp_path, tiny_package)
    assert report["torch"] is None
    assert report["packages"] == ["mamba"]
    assert sorted(report["plugins"]) == PLUGINS


def test_every_plugin_with_this_torch(environment: Path, tmp_path: Path) -> None:
    """The torch of the environment that runs the tests: `make test-torch` runs this beside other releases."""
    torch = pytest.importorskip("torch")
    site = next((environment.parent.parent / "lib").glob("python3*/site-packages"))
    alone = tmp_path / "torch"
    alone.mkdir()
    for path in _files_of("torch", set()):
        if not (alone / path.name).exists() and not (site / path.name).exists():
            (alone / path.name).symlink_to(path)
    (site / "torch-alone.pth").write_text(f"{alone}\n")
    try:
        report = _smoke(environment, tmp_path)
    finally:
        (site / "torch-alone.pth").unlink()
    assert report["torch"] == torch.__version__
    assert sorted(report["plugins"]) == PLUGINS
    families = {name: engines for plugin in report["plugins"].values() for name, engines in plugin["families"].items()}
    assert {"mamba", "mamba2"} <= set(families)
    assert all("torch" in engines for engines in families.values()), families
    assert families["mamba"] == ["native", "torch"]


def _files_of(distribution: str, seen: set[str]) -> Iterator[Path]:
    """Top-level files and folders in site-packages of a distribution and of everything that it needs."""
    if distribution.lower() in seen:
        return
    seen.add(distribution.lower())
    try:
        found = metadata.distribution(distribution)
    except metadata.PackageNotFoundError:
        return  # not installed here, so torch does without it
    for file in found.files or []:
        if file.parts[0] not in ("..", "__pycache__"):
            yield Path(str(found.locate_file(file.parts[0])))
    for text in found.requires or []:
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield from _files_of(requirement.name, seen)


def test_licences_and_bill_of_materials(wheels: list[Path]) -> None:
    """PEP 639 and PEP 770: every wheel carries its licence; one with binaries, a CycloneDX list of what is in them."""
    for wheel in wheels:
        package = wheel.name.split("-")[0]
        with zipfile.ZipFile(wheel) as archive:
            names = archive.namelist()
            files = [name for name in names if not name.endswith("/")]  # auditwheel adds entries for folders
            info = {name.split(".dist-info/", 1)[1] for name in files if ".dist-info/" in name}
            assert "licenses/LICENSE" in info or wheel.name.endswith("-none-any.whl"), wheel.name
            listed = {name for name in info if name.startswith("sboms/")} - {"sboms/auditwheel.cdx.json"}
            if not any(re.search(r"\.so(\.|$)", name) for name in files):
                assert listed == set()
                continue
            assert listed == {f"sboms/{package}.cdx.json"}
            sbom = json.loads(archive.read(next(name for name in names if name.endswith(f"sboms/{package}.cdx.json"))))
            meta = archive.read(next(name for name in names if name.endswith(".dist-info/METADATA"))).decode()
        assert sbom["bomFormat"] == "CycloneDX"
        field = dict(re.findall(r"^(Name|Version|License-Expression): (.*)$", meta, re.MULTILINE))
        about = sbom["metadata"]["component"]
        assert (about["name"], about["version"]) == (field["Name"], field["Version"])
        required = [component for component in sbom["components"] if component["scope"] == "required"]
        licences = {part for component in required for part in _licences(component)}
        assert {"Apache-2.0"} | licences == set(field["License-Expression"].split(" AND "))
        texts = {name.removeprefix("licenses/licenses/") for name in info if name.startswith("licenses/licenses/")}
        assert texts == {f"{TEXTS.get(c['name'], c['name'])}.txt" for c in required if c["name"] != "mambasdk"}
        assert all(c.get("version") for c in sbom["components"] if c["name"] != "unicode-character-database")


TEXTS = {"unicode-character-database": "unicode"}


def _licences(component: dict[str, Any]) -> list[str]:
    """SPDX identifiers of a component."""
    [entry] = component["licenses"]
    expression: str = entry["expression"] if "expression" in entry else entry["license"]["id"]
    return expression.split(" AND ")


ORIGINS = {  # part of a header's path -> component; None: the system's, or the platform's interface
    "/nlohmann/": "nlohmann_json",
    "/pybind11/": "pybind11",
    "/torch/include/": "torch",
    "/mambasdk/include/": "mambasdk",
    "/png.h": "libpng",
    "/pngconf.h": "libpng",
    "/pnglibconf.h": "libpng",
    "/jpeglib.h": "libjpeg-turbo",
    "/zlib.h": "zlib",
    "/zconf.h": "zlib",
    "/include/python3": None,
    "/usr/include/": None,
    "/usr/lib/": None,
}


def _compiled(build: Path, shipped: str, own: list[Path]) -> tuple[set[str], int]:
    """(components whose headers the compiler read for the objects that `shipped` matches, number of these objects)."""
    own = [*own, build / "generated", build / "CMakeFiles"]
    listing = subprocess.run(
        ["ninja", "-C", str(build), "-t", "deps"], capture_output=True, text=True, check=True
    ).stdout
    found, unknown, count = set(), set(), 0
    for block in listing.split("\n\n"):
        target, *headers = block.strip().splitlines() or [""]
        if not re.match(shipped, target):
            continue
        count += 1
        for header in headers:
            path = Path(os.path.normpath(build / header.strip()))
            if any(path.is_relative_to(folder) for folder in own):
                continue
            origin = next((key for key in ORIGINS if key in str(path)), None)
            if origin is None:
                unknown.add(str(path))
            elif ORIGINS[origin] is not None:
                found.add(str(ORIGINS[origin]))
    assert unknown == set()
    return found, count


def test_bill_of_materials_is_what_was_compiled(build_tree: Path) -> None:
    """Every header that the compiler read for what ships belongs to a component, or to the system."""
    objects = r"CMakeFiles/(mambasdk_(objects|isa_\w+|core|torch|run))\.dir/"
    found, count = _compiled(build_tree, objects, [ROOT / "cpp", ROOT / "python"])
    assert count > 50, "ninja knows no dependencies of the shipped objects"
    sbom = json.loads((build_tree / "mambasdk.cdx.json").read_text())
    assert {component["name"] for component in sbom["components"]} == found | {"unicode-character-database"}


@pytest.mark.parametrize("plugin", [name for name in PLUGINS if (ROOT / "plugins" / name / "CMakeLists.txt").is_file()])
def test_plugins_bill_of_materials_is_what_was_compiled(plugin: str) -> None:
    build = ROOT / "build" / "plugins" / plugin
    if not (build / "build.ninja").is_file():
        pytest.skip(f"no build at {build}; `make dev` makes it")
    found, count = _compiled(build, rf"CMakeFiles/mambasdk_{plugin}\.dir/", [ROOT / "plugins" / plugin])
    assert count > 3, "ninja knows no dependencies of the plugin's objects"
    sbom = json.loads((build / f"mambasdk_{plugin}.cdx.json").read_text())
    assert {component["name"] for component in sbom["components"]} == found
