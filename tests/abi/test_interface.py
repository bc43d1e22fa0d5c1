"""The interface of the built library against the baselines of the released minors, as abidiff sees it.

`make abi-baseline` writes the baseline of the minor that is in work. That of a released minor is never written again.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BASELINES = ROOT / "tests" / "abi" / "baseline"
HEADER = ROOT / "cpp" / "include" / "mambasdk" / "mambasdk.h"
OLDER = ["1.0", "1.1"]
# The structs that carry their size. Not every one can be reached from the exported function (a plugin's descriptor
# cannot): cpp/abi/layout_test.cpp holds them all.
GROWS = {
    "mambasdk_api",
    "mambasdk_context",
    "mambasdk_op_call",
    "mambasdk_load_options",
    "mambasdk_sampler_options",
    "mambasdk_generate_options",
    "mambasdk_generate_result",
    "mambasdk_op_definition",
    "mambasdk_package",
    "mambasdk_engine_definition",
    "mambasdk_processor_definition",
    "mambasdk_head_model",
    "mambasdk_head_run",
    "mambasdk_pipeline_options",
}
SUMMARY = ("Leaf changes summary: ", "Changed leaf types summary: ", "Removed/Changed/Added ")

pytestmark = [
    pytest.mark.install,
    pytest.mark.skipif(
        shutil.which("abidiff") is None or shutil.which("abidw") is None,
        reason="abidiff and abidw are not here; Debian: apt-get install abigail-tools",
    ),
]


def _current() -> str:
    text = HEADER.read_text()
    numbers = [re.search(rf"#define MAMBASDK_ABI_{part} (\d+)", text) for part in ("MAJOR", "MINOR")]
    return ".".join(number.group(1) for number in numbers if number is not None)


def _interface(library: Path, to: Path) -> Path:
    written = subprocess.run([BASELINES / "write.sh", library], capture_output=True, text=True, check=False)
    assert written.returncode == 0, written.stderr
    to.write_text(written.stdout)
    return to


def _compare(old: Path, new: Path, *options: str) -> tuple[int, str]:
    done = subprocess.run(["abidiff", *options, old, new], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def _breaks(old: Path, new: Path) -> list[str]:
    """The lines of the report that say more than that a struct which carries its size grew at its end."""
    _, report = _compare(old, new, "--leaf-changes-only")
    found = []
    old_size = 0
    for line in report.splitlines():
        text = line.strip()
        struct = re.fullmatch(r"'struct (mambasdk_\w+)' changed:", text)
        size = re.fullmatch(r"type size changed from (\d+) to \d+ \(in bits\)", text)
        member = re.fullmatch(r"'.*', at offset (\d+) \(in bits\)", text)
        if struct is not None:
            old_size = 1 << 62 if struct.group(1) not in GROWS else 0
            fine = struct.group(1) in GROWS
        elif size is not None:
            old_size = max(old_size, int(size.group(1)))
            fine = True
        elif member is not None:
            fine = int(member.group(1)) >= old_size > 0
        else:
            fine = (
                not text or text.startswith(SUMMARY) or re.fullmatch(r"\d+ data member insertions?:", text) is not None
            )
        if not fine:
            found.append(text)
    return found


def _from_header(header: str, folder: Path) -> Path:
    """The interface that a library built with this header would have."""
    (folder / "mambasdk").mkdir()
    (folder / "mambasdk" / "mambasdk.h").write_text(header)
    library = folder / "libmambasdk.so.1"
    compiler = shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        pytest.skip("there is no C++ compiler")
    source, exports = ROOT / "cpp" / "abi" / "entry.cpp", ROOT / "cmake" / "mambasdk.map"
    flags = ["-std=c++20", "-g", "-shared", "-fPIC", f"-I{folder}", f"-Wl,--version-script={exports}"]
    subprocess.run([compiler, *flags, "-Wl,-soname,libmambasdk.so.1", source, "-o", library], check=True)
    return _interface(library, folder / "interface.abixml")


@pytest.fixture(scope="module")
def built(build_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interface of the library in the build tree; the installed one has no debug information."""
    return _interface(build_tree / "libmambasdk.so.1", tmp_path_factory.mktemp("abi") / "built.abixml")


def test_the_library_has_the_interface_of_the_baseline(built: Path) -> None:
    code, report = _compare(BASELINES / f"{_current()}.abixml", built)
    assert code == 0, f"{report}\nif the change is meant, and this minor is not released: make abi-baseline"


@pytest.mark.parametrize("minor", OLDER)
def test_it_only_grew_at_the_end_since(minor: str, built: Path) -> None:
    assert _breaks(BASELINES / f"{minor}.abixml", built) == []


@pytest.mark.parametrize("minor", OLDER)
def test_a_baseline_is_that_of_its_frozen_header(minor: str, tmp_path: Path) -> None:
    header = (ROOT / "tests" / "abi" / "headers" / minor / "mambasdk.h").read_text()
    code, report = _compare(BASELINES / f"{minor}.abixml", _from_header(header, tmp_path))
    assert code == 0, report


THREADS = "  int32_t (*num_threads)(void);"
STREAM = "  void* stream;"
OFFSET = "  uint64_t byte_offset;"


@pytest.mark.parametrize(
    ("what", "line", "instead"),
    [
        ("a slot in the middle", THREADS, f"  int32_t (*new_slot)(void);\n{THREADS}"),
        ("a slot that is gone", THREADS, ""),
        ("another result", THREADS, "  int64_t (*num_threads)(void);"),
        ("another member", "  int64_t top_k;", "  int32_t top_k;"),
        ("a member in the middle", STREAM, f"{STREAM}\n  void* queue;"),
        ("a DLPack struct that grew", OFFSET, f"{OFFSET}\n  uint64_t more;"),
    ],
)
def test_a_break_is_seen(what: str, line: str, instead: str, tmp_path: Path) -> None:
    header = HEADER.read_text()
    assert header.count(line) == 1, f"{what}: the header has no {line}"
    interface = _from_header(header.replace(line, instead), tmp_path)
    assert _breaks(BASELINES / "1.0.abixml", interface) != [], what
