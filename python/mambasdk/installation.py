"""Where the parts of the installed package lie: headers, library, CMake package, native command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from mambasdk.errors import MissingDependencyError

_PREFIX = Path(__file__).resolve().parent


def get_include() -> str:
    """The folder to add to a compiler's include path, for `#include <mambasdk/mambasdk.h>`."""
    return str(_existing("include"))


def get_library() -> str:
    """The path of the shared library libmambasdk."""
    return str(_existing("lib/libmambasdk.1.dylib" if sys.platform == "darwin" else "lib/libmambasdk.so.1"))


def get_cmake_dir() -> str:
    """The folder to hand to CMake as mambasdk_DIR, for `find_package(mambasdk)`."""
    return str(_existing("lib/cmake/mambasdk"))


def get_native_command() -> str:
    """The path of the C++ program mambasdk-run."""
    return str(_existing("bin/mambasdk-run"))


def library_path(name: str) -> Path:
    """Where the bundled library of that name ("mambasdk_aoti") lies; it may be absent."""
    suffix = {"darwin": "dylib", "win32": "dll"}.get(sys.platform, "so")
    return _PREFIX / "lib" / f"lib{name}.{suffix}"


def run_native_command() -> int:
    """The command `mambasdk-run`: becomes the C++ program of that name, which links no Python."""
    program = get_native_command()
    if sys.platform == "win32":
        return subprocess.call([program, *sys.argv[1:]])
    os.execv(program, ["mambasdk-run", *sys.argv[1:]])


def _existing(relative: str) -> Path:
    path = _PREFIX / relative
    if not path.exists():
        raise MissingDependencyError(
            f"there is no {path}",
            way_out="install the wheel (pip install mambasdk); a source folder has no built parts",
        )
    return path
