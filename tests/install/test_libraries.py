"""What the shipped libraries need, export and contain."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerDefSection, GNUVerSymSection

pytestmark = pytest.mark.install

SYSTEM = {"libc.so.6", "libm.so.6", "libstdc++.so.6", "libgcc_s.so.1", "libdl.so.2", "libpthread.so.0"}
LIBRARY = "lib/libmambasdk.so.1"
ADAPTER = "lib/libmambasdk_torch.so"
COMMAND = "bin/mambasdk-run"


def _dynamic(path: Path) -> dict[str, list[str]]:
    """DT_NEEDED, DT_SONAME and DT_RUNPATH of a file."""
    found: dict[str, list[str]] = {"needed": [], "soname": [], "runpath": [], "rpath": []}
    with path.open("rb") as file:
        for section in ELFFile(file).iter_sections():
            if isinstance(section, DynamicSection):
                for tag in section.iter_tags():
                    kind = tag.entry.d_tag.removeprefix("DT_").lower()
                    if kind in found:
                        found[kind].append(getattr(tag, kind))
    return found


def _exports(path: Path) -> set[str]:
    """Defined dynamic symbols with their versions, as `nm -D` prints them."""
    with path.open("rb") as file:
        elf: Any = ELFFile(file)
        symbols = elf.get_section_by_name(".dynsym")
        versions = next((s for s in elf.iter_sections() if isinstance(s, GNUVerSymSection)), None)
        definitions = next((s for s in elf.iter_sections() if isinstance(s, GNUVerDefSection)), None)
        names = {}
        if definitions is not None:
            names = {v.entry.vd_ndx: next(iter(aux)).name for v, aux in definitions.iter_versions()}
        found = set()
        for index, symbol in enumerate(symbols.iter_symbols()):
            if symbol.entry.st_shndx in ("SHN_UNDEF", "SHN_ABS") or not symbol.name:
                continue
            version = versions.get_symbol(index).entry["ndx"] if versions is not None else 1
            found.add(f"{symbol.name}@@{names[version]}" if version in names else symbol.name)
        return found


def _core(prefix: Path) -> str:
    return next(prefix.glob("_core.*.so")).name


def test_the_library_exports_one_symbol(prefix: Path) -> None:
    assert _exports(prefix / LIBRARY) == {"mambasdk_get_api@@MAMBASDK_1"}


def test_the_adapter_exports_its_entry_points_only(prefix: Path) -> None:
    assert {name for name in _exports(prefix / ADAPTER) if not name.startswith("mambasdk_torch_")} == set()


def test_the_extension_exports_its_init_function_only(prefix: Path) -> None:
    assert _exports(prefix / _core(prefix)) == {"PyInit__core"}


@pytest.mark.parametrize(
    ("part", "own", "runpath"),
    [
        (LIBRARY, set(), []),
        (ADAPTER, {"libmambasdk.so.1"}, ["$ORIGIN"]),
        (COMMAND, {"libmambasdk.so.1"}, ["$ORIGIN/../lib"]),
        ("_core", {"libmambasdk.so.1"}, ["$ORIGIN/lib"]),
    ],
)
def test_needs_and_search_paths(prefix: Path, part: str, own: set[str], runpath: list[str]) -> None:
    """System libraries and libmambasdk beside it: neither torch, nor Python, nor an OpenMP runtime."""
    found = _dynamic(prefix / (_core(prefix) if part == "_core" else part))
    needed = {name for name in found["needed"] if not name.startswith("ld-linux")}
    assert needed - SYSTEM == own
    assert [*found["rpath"], *found["runpath"]] == runpath


def test_the_soname_carries_the_abi_major(prefix: Path) -> None:
    from mambasdk import _core

    assert _dynamic(prefix / LIBRARY)["soname"] == [f"libmambasdk.so.{_core.abi_version()[0]}"]


@pytest.mark.parametrize("isa", ["avx2", "avx512", "avx512_bf16", "avx512_amx"])
def test_no_symbol_of_an_instruction_set_leaks(build_tree: Path, isa: str) -> None:
    """A linkable symbol outside the set's namespace could be picked by the linker for every machine."""
    objects = sorted((build_tree / "CMakeFiles" / f"mambasdk_isa_{isa}.dir").rglob("*.o"))
    if not objects:
        pytest.skip("this processor family has the baseline alone")
    namespace = f"8mambasdk{len(isa)}{isa}"
    listing = subprocess.run(
        ["nm", "-A", "--defined-only", "--extern-only", *map(str, objects)], capture_output=True, text=True, check=True
    )
    leaks = []
    for line in listing.stdout.splitlines():
        path, _, kind, symbol = re.match(r"(.*\.o):(\S*) (\S) (\S+)", line).groups()  # type: ignore[union-attr]
        if namespace not in symbol:
            leaks.append(f"{Path(path).name}: {kind} {symbol}")
    assert leaks == []


def test_no_build_path_is_left_in_what_ships(prefix: Path) -> None:
    root = str(Path(__file__).parents[2]).encode()
    parts = [path for path in prefix.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert [str(path) for path in parts if root in path.read_bytes()] == []
