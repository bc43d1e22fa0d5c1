"""`mambasdk doctor`: the environment, the native module, torch and the plugins, with a way out for what is wrong."""

from __future__ import annotations

import argparse
import ctypes
import importlib
import platform
import sys
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from mambasdk._version import __version__
from mambasdk.cli.plugins import describe
from mambasdk.errors import TORCH_COMMAND
from mambasdk.installation import library_path
from mambasdk.plugins.host import SLOW_SECONDS, get_host

OLDEST_TORCH = (2, 10)


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
            "platform": platform.platform(),
            "machine": platform.machine(),
            "native": _native(problems),
            "torch": _torch(problems),
            "engines": _engines(),
            "plugins": plugins,
            "problems": problems,
            "exit_code": 1 if problems else 0,
        }
        if not args.json:
            _print(report)
        return report


def _native(problems: list[dict[str, str]]) -> dict[str, Any]:
    try:
        core = importlib.import_module("mambasdk._core")
        abi = core.abi_version()
        return {
            "available": True,
            "abi": list(abi) if isinstance(abi, (tuple, list)) else abi,
            "cpu": dict(core.cpu_info()),
            "operations": len(core.list_ops()),
        }
    except Exception as error:  # whatever is broken in a native module is what doctor reports
        problems.append(
            _problem("native module", f"{type(error).__name__}: {error}", "pip install --force-reinstall mambasdk")
        )
        return {"available": False}


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
    """What runs packages without Python here: native always; aoti with the libtorch that this process has."""
    library = library_path("mambasdk_aoti")
    if not library.is_file():
        return {"aoti": {"available": False, "reason": "this mambasdk was built with MAMBASDK_TORCH=OFF"}}
    try:
        probe = ctypes.CDLL(str(library)).mambasdk_aoti_torch
        probe.argtypes, probe.restype = [ctypes.POINTER(ctypes.c_char_p)], ctypes.c_int32
        text = ctypes.c_char_p()
        found = probe(ctypes.byref(text)) == 0
    except OSError as error:
        return {"aoti": {"available": False, "reason": str(error)}}
    answer = (text.value or b"").decode()
    return {"aoti": {"available": True, "torch": answer} if found else {"available": False, "reason": answer}}


def _plugins(problems: list[dict[str, str]]) -> list[dict[str, Any]]:
    host = get_host()
    for record in host.records:
        where = f"plugin {record.name}"
        if record.status == "quarantined":
            problems.append(_problem(where, record.reason, record.advice))
            continue
        if record.slow:
            reason = f"takes {record.seconds:.1f} s to import, more than {SLOW_SECONDS} s"
            problems.append(_problem(where, reason, "its author should import heavy modules lazily"))
        if record.imported_torch:
            problems.append(
                _problem(where, "imports torch while it is listed", "its author should import model code lazily")
            )
        try:
            host.activate(record)
        except Exception as error:
            problems.append(_problem(where, str(error), f"pip install --force-reinstall {record.distribution}"))
    return [describe(record) for record in host.records]


def _problem(where: str, reason: str, way_out: str) -> dict[str, str]:
    return {"where": where, "reason": reason, "way_out": way_out}


def _print(report: Mapping[str, Any]) -> None:
    print(f"mambasdk {report['mambasdk']}, Python {report['python']}, {report['platform']}")
    native, torch = report["native"], report["torch"]
    if native["available"]:
        cpu = ", ".join(f"{key} {value}" for key, value in native["cpu"].items())
        print(f"native module: ABI {native['abi']}, {native['operations']} operations; CPU: {cpu}")
    if torch["available"]:
        print(f"torch {torch['version']}, operations {torch.get('operations', 'not loaded')}")
    else:
        print(f"torch: not installed; {torch['note']}")
    aoti = report["engines"]["aoti"]
    if aoti["available"]:
        print(f"engine aoti: runs packages that were compiled for torch {aoti['torch']}")
    else:
        print(f"engine aoti: cannot run here: {aoti['reason']}")
    for plugin in report["plugins"]:
        print(f"plugin {plugin['name']} ({plugin['distribution']} {plugin['version']}): {plugin['status']}")
    if not report["plugins"]:
        print("plugins: none; pip install mambasdk-language brings the Mamba language models")
    for problem in report["problems"]:
        print(f"\nproblem: {problem['where']}: {problem['reason']}\n  way out: {problem['way_out']}")
    if not report["problems"]:
        print("no problems found")
