"""`mambasdk paths`: where headers, library, CMake package and plugins' libraries are, for build scripts."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from mambasdk.installation import get_cmake_dir, get_include, get_library
from mambasdk.plugins.host import get_host

_PATHS = {"include": get_include, "library": get_library, "cmake_dir": get_cmake_dir}


def plugin_libraries() -> list[str]:
    """Absolute paths of the native libraries of all usable plugins, for `mambasdk-run --plugin`."""
    good = (record for record in get_host().records if record.status == "good")
    return [str(library.path) for record in good for library in record.libraries]


class PathsCommand:
    """Prints one path, or all with their names; with --plugins the native library of each plugin, one a line."""

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
        choice.add_argument(
            "--plugins",
            dest="which",
            action="store_const",
            const="plugins",
            help="native libraries of the plugins, one a line, for `mambasdk-run --plugin PATH`",
        )

    def run(self, args: argparse.Namespace) -> Mapping[str, Any]:
        """Print what was asked for."""
        if args.which == "plugins":
            libraries = plugin_libraries()
            if not args.json and libraries:
                print("\n".join(libraries))
            return {"plugins": libraries}
        names = [args.which] if args.which else list(_PATHS)
        found = {name: _PATHS[name]() for name in names}
        if not args.json:
            print("\n".join(found.values() if args.which else (f"{name} {path}" for name, path in found.items())))
        return found
