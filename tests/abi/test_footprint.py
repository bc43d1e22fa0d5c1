"""What an application takes on: size of the library, what it needs of the system, time to the first token."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.install

# The toolchain's own set: the C++ library and libc, and what these are made of.
SYSTEM = {"libstdc++.so.6", "libc.so.6", "libm.so.6", "libgcc_s.so.1"}


def test_the_library_is_under_16_mb(prefix: Path, tmp_path: Path) -> None:
    stripped = tmp_path / "libmambasdk.so"
    subprocess.run(["strip", "-o", stripped, prefix / "lib" / "libmambasdk.so.1"], check=True)
    assert stripped.stat().st_size < 16_000_000


@pytest.fixture(scope="module")
def host(prefix: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """examples/embed_cpp, built against the wheel."""
    cmake = shutil.which("cmake")
    if cmake is None:
        pytest.skip("there is no cmake")
    build = tmp_path_factory.mktemp("host")
    source = ROOT / "examples" / "embed_cpp"
    for command in (
        [cmake, "-S", source, "-B", build, f"-Dmambasdk_DIR={prefix}/lib/cmake/mambasdk", "-DCMAKE_BUILD_TYPE=Release"],
        [cmake, "--build", build],
    ):
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return build / "embed_cpp"


def test_a_host_program_needs_the_cpp_library_and_libc_only(host: Path) -> None:
    listed = subprocess.run(["ldd", host], capture_output=True, text=True, check=True).stdout
    needed = {line.split()[0] for line in listed.splitlines()}
    own = {name for name in needed if name.startswith("libmambasdk.so.1")}
    loader = {name for name in needed if re.search(r"ld-linux|linux-vdso|linux-gate", name)}
    assert len(own) == 1
    assert needed - own - loader - SYSTEM == set()


FIRST_TOKEN = """
#include <chrono>
#include <cstdio>
#include <mambasdk/mambasdk.hpp>
int main(int, char** argv) {
  const auto start = std::chrono::steady_clock::now();
  const mambasdk::Model model(argv[1]);
  mambasdk::Session session(model);
  session.generate("def scan(", {.max_new_tokens = 1});
  const std::chrono::duration<double, std::milli> passed = std::chrono::steady_clock::now() - start;
  std::printf("%.3f\\n", passed.count());
}
"""


def test_load_to_first_token(prefix: Path, tmp_path: Path) -> None:
    """The quickstart's model in a fresh process each time, its package in the page cache; the best of seven."""
    torch = pytest.importorskip("torch")
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        pytest.skip("there is no C++ compiler")
    quickstart = pytest.importorskip("mambasdk_language.quickstart")
    import mambasdk

    torch.manual_seed(0)
    package = tmp_path / "package"
    mambasdk.save_package(mambasdk.create_model("mamba", **quickstart.MODEL), package)
    source, program = tmp_path / "first.cpp", tmp_path / "first"
    source.write_text(FIRST_TOKEN)
    library = prefix / "lib" / "libmambasdk.so.1"
    flags = ["-std=c++20", "-O2", f"-I{prefix}/include", f"-Wl,-rpath,{library.parent}"]
    subprocess.run([compiler, *flags, source, library, "-o", program], check=True)
    environment = {**os.environ, "LC_ALL": "C"}
    times = [
        float(subprocess.run([program, package], capture_output=True, text=True, check=True, env=environment).stdout)
        for _ in range(7)
    ]
    assert min(times) < 50, f"milliseconds: {times}"
