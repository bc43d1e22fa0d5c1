"""mambasdk.pc: what a program built with make, meson or a compiler line finds, also after the prefix was moved."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

PROGRAM = """
#include <mambasdk/mambasdk.h>
#include <stdio.h>
int main(void) {
  const mambasdk_api* api = mambasdk_get_api(MAMBASDK_ABI_MAJOR, MAMBASDK_ABI_MINOR);
  if (api == 0) return 1;
  const mambasdk_string version = api->version();
  return printf("%.*s\\n", (int)version.size, version.data) < 0;
}
"""

pytestmark = pytest.mark.install


@pytest.fixture(scope="module")
def prefix() -> Path:
    import mambasdk

    folder = Path(mambasdk.__file__).parent
    if not (folder / "lib" / "pkgconfig").is_dir():
        pytest.skip(f"{folder} is a source folder, not an installed wheel; run `make dev`")
    return folder


def _variables(file: Path) -> dict[str, str]:
    """The file read by hand: as pkg-config does it, with ${pcfiledir} where the file lies."""
    found = {"pcfiledir": str(file.parent)}
    for line in file.read_text().splitlines():
        key, separator, value = line.partition("=" if "=" in line.split(":")[0] else ":")
        if line.startswith("#") or not separator:
            continue
        for name, known in found.items():
            value = value.replace("${" + name + "}", known)
        found[key.strip()] = value.strip()
    return found


def test_every_path_follows_from_the_place_of_the_file(prefix: Path, tmp_path: Path) -> None:
    moved = tmp_path / "else where"
    shutil.copytree(prefix / "lib", moved / "lib")
    shutil.copytree(prefix / "include", moved / "include")
    found = _variables(moved / "lib" / "pkgconfig" / "mambasdk.pc")
    assert Path(found["Libs"]).is_file()
    assert (Path(found["Cflags"].removeprefix("-I")) / "mambasdk" / "mambasdk.h").is_file()
    assert str(prefix) not in (moved / "lib" / "pkgconfig" / "mambasdk.pc").read_text()
    from mambasdk import _core

    assert found["Version"] == _core.version()


@pytest.mark.skipif(shutil.which("pkg-config") is None or shutil.which("cc") is None, reason="no pkg-config or cc")
def test_a_program_builds_and_runs(prefix: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(prefix / "lib", moved / "lib")
    shutil.copytree(prefix / "include", moved / "include")
    environment = {**os.environ, "PKG_CONFIG_PATH": str(moved / "lib" / "pkgconfig")}

    def ask(*what: str) -> list[str]:
        done = subprocess.run(
            ["pkg-config", *what, "mambasdk"], env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout.split()

    source = tmp_path / "program.c"
    source.write_text(PROGRAM)
    rpath = f"-Wl,-rpath,{ask('--variable=libdir')[0]}"
    program = tmp_path / "program"
    subprocess.run(["cc", source, *ask("--cflags", "--libs"), rpath, "-o", program], check=True)
    from mambasdk import _core

    assert subprocess.run([program], capture_output=True, text=True, check=True).stdout.strip() == _core.version()
