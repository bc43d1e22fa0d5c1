"""`mambasdk doctor`: the environment, the native runtime, torch and the plugins, with a way out for what is wrong.

It must come to its end whatever is broken, so plugins are first imported, and native libraries first loaded, in a
process of their own.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from mambasdk._version import __version__
from mambasdk.cli.plugins import NONE_INSTALLED, contents, describe
from mambasdk.errors import TORCH_COMMAND, MissingDependencyError
from mambasdk.installation import get_native_command, library_path
from mambasdk.plugins.host import allow_list, get_host
from mambasdk.plugins.record import ALLOW_LIST_VARIABLE
from mambasdk.plugins.resolution import broken_imports
from mambasdk.threads import load_warnings

OLDEST_TORCH = (2, 10)
# Prints what the library argv[1] says of libtorch: 0 and its version, or -1 and the reason.
_AOTI_PROGRAM = """
import ctypes, sys
probe = ctypes.CDLL(sys.argv[1]).mambasdk_aoti_torch
probe.argtypes, probe.restype = [ctypes.POINTER(ctypes.c_char_p)], ctypes.c_int32
text = ctypes.c_char_p()
print(probe(ctypes.byref(text)), (text.value or b"").decode(errors="replace"), end="")
"""


class DoctorCommand:
    """Exit code 1 where something is wrong."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """None."""

    def run(self, args: argparse.Namespace) -> Mapping[str, Any]:
        """Print what is found, then the problems, each with its way out."""
        problems: list[dict[str, str]] = []
        plugins = _plugins(problems)  # before torch: who imports it is a finding
        report: dict[str, Any] = {
            "mambasdk": __version__,
            "python": platform.python_version(),
            "executable": sys.executable,
            "folder": os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
            "platform": platform.platform(),
            "machine": platform.machine(),
            "variables": {name: value for name, value in sorted(os.environ.items()) if name.startswith("MAMBASDK_")},
            "native": _native(problems),
            "torch": _torch(problems),
            "engines": _engines(),
            "plugins": plugins,
            "warnings": load_warnings(),
            "problems": problems,
            "exit_code": 1 if problems else 0,
        }
        if not args.json:
            _print(report)
        return report


def _native(problems: list[dict[str, str]]) -> dict[str, Any]:
    try:
        core = importlib.import_module("mambasdk._core")
        if core.version() != __version__:
            reason = f"it has version {core.version()}, the Python part {__version__}: two installations are mixed"
            problems.append(
                _problem("native runtime", reason, "pip uninstall mambasdk until none is left, then install")
            )
        return {
            "available": True,
            "abi": list(core.abi_version()),
            "cpu": dict(core.cpu_info()),
            "operations": len(core.list_ops()),
            "command": _command(),
        }
    except Exception as error:  # whatever is broken in a native module is what doctor reports
        problems.append(
            _problem("native runtime", f"{type(error).__name__}: {error}", "pip install --force-reinstall mambasdk")
        )
        return {"available": False}


def _command() -> str | None:
    try:
        return get_native_command()
    except MissingDependencyError:
        return None


def _torch(problems: list[dict[str, str]]) -> dict[str, Any]:
    try:
        version = metadata.version("torch")
    except metadata.PackageNotFoundError:
        return {"available": False, "note": f"packages still run natively; for training: {TORCH_COMMAND}"}
    numbers = tuple(int(part) for part in version.split("+")[0].split(".")[:2] if part.isdigit())
    if numbers < OLDEST_TORCH:
        oldest = ".".join(map(str, OLDEST_TORCH))
        problems.append(_problem("torch", f"{version} is older than {oldest}", TORCH_COMMAND))
        return {"available": True, "version": version, "supported": False}
    found: dict[str, Any] = {"available": True, "version": version, "supported": True}
    try:
        torch = importlib.import_module("torch")
        importlib.import_module("mambasdk.ops")
        found["threads"] = torch.get_num_threads()
        found["operations"] = "loaded"
    except Exception as error:
        problems.append(
            _problem("torch operations", f"{type(error).__name__}: {error}", "pip install --force-reinstall mambasdk")
        )
        found["operations"] = "broken"
    return found


def _engines() -> dict[str, Any]:
    """What runs compiled packages here: in Python, once torch is imported, and in a program that has no Python.

    A process that imports torch has its libtorch; any other must find one by itself, so both are tried apart.
    """
    if not library_path("mambasdk_aoti").is_file():
        reason = "this mambasdk was built with MAMBASDK_TORCH=OFF"
        missing = {"available": False, "reason": reason}
        return {"aoti": missing, "aoti_without_python": missing}
    return {"aoti": _aoti("import torch"), "aoti_without_python": _aoti("")}


def _aoti(first: str) -> dict[str, Any]:
    """Whether a fresh process, after it ran the Python statement `first`, has a libtorch for the engine aoti."""
    program = f"{first}\n{_AOTI_PROGRAM}"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", program, str(library_path("mambasdk_aoti"))]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=120, env=environment, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"available": False, "reason": str(error)}
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return {"available": False, "reason": last}
    found, _, text = done.stdout.partition(" ")
    return {"available": True, "torch": text} if found == "0" else {"available": False, "reason": text}


def _plugins(problems: list[dict[str, str]]) -> list[dict[str, Any]]:
    host = get_host(isolated=True)
    host.activate_all()
    for record in host.records:
        where = f"plugin {record.name}"
        if record.status == "quarantined":
            problems.append(_problem(where, record.reason, record.advice))
        problems += [_problem(where, what, way_out) for what, way_out in record.remarks()]
    distributions = {record.name: record.distribution for record in host.records}
    for name, what, why in broken_imports([record for record in host.records if record.status == "good"]):
        way_out = f"pip install --upgrade {distributions[name]}, or report it to its author"
        problems.append(_problem(f"plugin {name}", f"{what} cannot be imported: {why}", way_out))
    installed = {record.name for record in host.records}
    for name in allow_list() or []:
        if name not in installed:
            reason = f"it names {name}, which no installed package has"
            known = ", ".join(sorted(installed)) or "none"
            problems.append(
                _problem(ALLOW_LIST_VARIABLE, reason, f"install it or correct the name; there are: {known}")
            )
    return [describe(record) for record in host.records]


def _problem(where: str, reason: str, way_out: str) -> dict[str, str]:
    return {"where": where, "reason": reason, "way_out": way_out}


def _print(report: Mapping[str, Any]) -> None:
    print(f"mambasdk {report['mambasdk']}\n  {report['folder']}")
    print(f"  Python {report['python']}, {report['executable']}\n  {report['platform']}")
    for name, value in report["variables"].items():
        print(f"  {name}={value}")
    _print_native(report["native"])
    torch = report["torch"]
    print("torch")
    if torch["available"]:
        print(f"  {torch['version']}, operations {torch.get('operations', 'not loaded')}")
    else:
        print(f"  not installed; {torch['note']}")
    engines = report["engines"]
    print("engine aoti")
    for who, found in (("Python", engines["aoti"]), ("C, C++, mambasdk-run", engines["aoti_without_python"])):
        if found["available"]:
            print(f"  {who}: runs packages that were compiled for torch {found['torch']}")
        else:
            print(f"  {who}: cannot run: {found['reason']}")
    print("plugins")
    for plugin in report["plugins"]:
        print(f"  plugin {plugin['name']} ({plugin['distribution']} {plugin['version']}): {plugin['status']}")
        if plugin["status"] == "disabled":
            print(f"    {plugin['reason']}; {plugin['advice']}")
        for line in contents(plugin):
            print(f"    {line}")
    if not report["plugins"]:
        print(f"  {NONE_INSTALLED}")
    for warning in report["warnings"]:
        print(f"\nwarning: {warning}")
    for problem in report["problems"]:
        print(f"\nproblem: {problem['where']}: {problem['reason']}\n  way out: {problem['way_out']}")
    print(f"\n{len(report['problems']) or 'no'} problem{'s' * (len(report['problems']) != 1)} found")


def _print_native(native: Mapping[str, Any]) -> None:
    print("native runtime")
    if not native["available"]:
        print("  does not load")
        return
    cpu = native["cpu"]
    print(f"  ABI {'.'.join(map(str, native['abi']))}, {native['operations']} operations")
    print(f"  instruction set {cpu['isa_active']} (the processor has {cpu['isa_detected']})")
    print(f"  {cpu['num_threads']} threads")
    print(f"  mambasdk-run: {native['command'] or 'not in this build'}")
