"""`mambasdk paths`: where the headers, the library and the CMake package are, for build scripts."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from mambasdk.installation import get_cmake_dir, get_include, get_library

_PATHS = {"include": get_include, "library": get_library, "cmake_dir": get_cmake_dir}


class PathsCommand:
    """Prints one path, or all with their names."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """One flag for each path; none prints them all."""
        choice = parser.add_mutually_exclusive_group()
        choice.add_argument(
            "--include", dest="which", action="store_const", const="include", help="folder of the headers"
        )
        choice.add_argument("--library", dest="which", action="store_const", const="library", help="libmambasdk itself")
        choice.add_argument(
            "--cmake-dir", dest="which", action="store_const", const="cmake_dir", help="mambasdk_DIR for find_package"
        )

    def run(self, args: argparse.Namespace) -> Mapping[str, Any]:
        """Print what was asked for."""
        names = [args.which] if args.which else list(_PATHS)
        found = {name: _PATHS[name]() for name in names}
        if not args.json:
            print("\n".join(found.values() if args.which else (f"{name} {path}" for name, path in found.items())))
        return found
