"""The manifest of a model package, `mambasdk.json`: read with every field checked, never trusted. No torch.

Format: docs/architecture.md. Format [1, x] is read for every x; another major is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mambasdk.errors import PackageError, PackageVersionError
from mambasdk.progress import track

MANIFEST_FILE = "mambasdk.json"
WEIGHTS_FILE = "model.safetensors"
PROGRAM_FILE = "program.json"
GOLDEN_FILE = "golden.safetensors"
COMPILED_FILE = "model.pt2"
CONSTANTS_FILE = "constants.safetensors"
FORMAT = (1, 1)
ABI = (1, 1)
NATIVE_ABI = (1, 0)  # the least that a package of the native engine needs
_MAX_MANIFEST_BYTES = 16 << 20
_MAX_DEPTH = 64
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\\:]")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class FileEntry:
    """Size in bytes and SHA-256 (lower-case hexadecimal) of a file of the package."""

    sha256: str
    size: int


@dataclass(frozen=True)
class Manifest:
    """The fields of `mambasdk.json`; `extra` keeps what a newer minor format added."""

    family: str
    config: dict[str, Any]
    engine: dict[str, Any]
    variant: str | None = None
    head: str | None = None
    head_options: dict[str, Any] | None = None
    inputs: list[dict[str, Any]] = field(default_factory=list)
    outputs: list[dict[str, Any]] = field(default_factory=list)
    processors: dict[str, dict[str, Any]] = field(default_factory=dict)
    requires: dict[str, Any] = field(default_factory=dict)
    files: dict[str, FileEntry] = field(default_factory=dict)
    format: tuple[int, int] = FORMAT
    extra: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, directory: str | os.PathLike[str]) -> Manifest:
        """Read and check the manifest of a package; raises PackageError or PackageVersionError."""
        folder = Path(directory)
        if not folder.is_dir():
            raise PackageError("no such package directory", where=str(folder))
        path = folder / MANIFEST_FILE
        try:
            if path.stat().st_size > _MAX_MANIFEST_BYTES:
                raise PackageError(f"larger than {_MAX_MANIFEST_BYTES} bytes", where=str(path))
            return cls.parse(path.read_bytes(), str(path))
        except FileNotFoundError:
            raise PackageError(f"no {MANIFEST_FILE}: not a model package", where=str(folder)) from None
        except OSError as error:
            raise PackageError(f"cannot be read: {error}", where=str(path)) from error

    @classmethod
    def parse(cls, data: bytes, where: str = MANIFEST_FILE) -> Manifest:
        """Check the bytes of a manifest; raises PackageError or PackageVersionError."""
        value = parse_json(data, where)
        check = _Checker(value, where)
        major, minor = _version(value.get("format"), where, "format")
        if major != FORMAT[0]:
            raise PackageVersionError(
                "unknown package format",
                where=where,
                expected=f"{FORMAT[0]}.x",
                got=f"{major}.{minor}",
                way_out="pip install --upgrade mambasdk" if major > FORMAT[0] else None,
            )
        manifest = cls(
            family=check.get("family", str, required=True),
            config=check.get("config", dict, required=True),
            variant=check.get("variant", str),
            head=check.get("head", str),
            head_options=check.get("head_options", dict),
            engine=check.get("engine", dict, required=True),
            inputs=_ports(check.get("inputs", list) or [], f"{where}: inputs"),
            outputs=_ports(check.get("outputs", list) or [], f"{where}: outputs"),
            processors=check.get("processors", dict) or {},
            requires=check.get("requires", dict) or {},
            files=_files(check.get("files", dict, required=True), where),
            format=(major, minor),
            extra={key: entry for key, entry in value.items() if key not in _FIELDS},
        )
        manifest._check_references(where)
        return manifest

    def _check_references(self, where: str) -> None:
        names: list[tuple[str, Any]] = []
        if not isinstance(self.engine.get("name"), str):
            raise PackageError("engine has no name", where=where)
        if self.engine["name"] == "native" and "program" not in self.engine:
            raise PackageError("the native engine needs a program", where=where)
        names.append(("engine.program", self.engine.get("program")))
        if self.engine["name"] == "aoti":
            self._check_compiled(where)
            names += [(f"engine.{key}", self.engine.get(key)) for key in ("file", "constants")]
        for slot, entry in self.processors.items():
            if not isinstance(entry, dict) or not isinstance(entry.get("kind"), str):
                raise PackageError(f"processor {slot!r} has no kind", where=where)
            names.append((f"processors.{slot}.file", entry.get("file")))
        for label, name in names:
            if name is not None and name not in self.files:
                raise PackageError(f"{label} is {name!r}, which `files` does not list", where=where)
        _version(self.requires.get("mambasdk_abi", list(ABI)), where, "requires.mambasdk_abi")
        plugins = self.requires.get("plugins", [])
        if not isinstance(plugins, list) or not all(
            isinstance(plugin, dict) and isinstance(plugin.get("name"), str) for plugin in plugins
        ):
            raise PackageError("bad requires.plugins", where=where, expected="objects with a name")

    def _check_compiled(self, where: str) -> None:
        """What the engine aoti needs to know before it loads machine code: from which torch, for which machine."""
        check = _Checker(self.engine, f"{where}: engine")
        check.get("file", str, required=True)
        check.get("torch", str, required=True)
        check.get("aliases", dict)
        target = _Checker(check.get("target", dict, required=True), f"{where}: engine.target")
        for key in ("system", "machine", "isa"):
            target.get(key, str, required=True)
        _ports(check.get("states", list) or [], f"{where}: engine.states")

    def check_abi(self, where: str) -> None:
        """Refuse a package that needs another major of the SDK's ABI; raises PackageVersionError."""
        needed = self.requires.get("mambasdk_abi", list(ABI))
        if needed[0] != ABI[0] or needed[1] > ABI[1]:
            raise PackageVersionError(
                "the package needs another SDK",
                where=where,
                expected=f"ABI {ABI[0]}.0 to {ABI[0]}.{ABI[1]}",
                got=f"{needed[0]}.{needed[1]}",
                way_out="pip install --upgrade mambasdk",
            )

    def to_json(self) -> bytes:
        """The bytes of `mambasdk.json`."""
        value = {
            "format": list(self.format),
            "family": self.family,
            "variant": self.variant,
            "config": self.config,
            "head": self.head,
            "head_options": self.head_options,
            "engine": self.engine,
            "inputs": self.inputs,
            "outputs": self.outputs,
            "processors": self.processors,
            "requires": self.requires,
            "files": {name: {"sha256": entry.sha256, "size": entry.size} for name, entry in self.files.items()},
            **self.extra,
        }
        present = {key: entry for key, entry in value.items() if entry is not None}
        return (json.dumps(present, indent=1, allow_nan=False) + "\n").encode()

    def check_sizes(self, directory: str | os.PathLike[str]) -> None:
        """Check that every listed file is there, is a regular file inside the package, and has its size."""
        folder = Path(directory)
        root = folder.resolve()
        for name, entry in self.files.items():
            path = folder / name
            try:
                status = path.stat()
                inside = path.resolve(strict=True).is_relative_to(root)
            except OSError:
                raise PackageError(f"file {name} is missing", where=str(folder)) from None
            if not inside or not stat.S_ISREG(status.st_mode):
                raise PackageError(f"file {name} is no regular file inside the package", where=str(folder))
            if status.st_size != entry.size:
                raise PackageError(
                    f"file {name} is damaged", where=str(folder), expected=f"{entry.size} bytes", got=status.st_size
                )

    def check_hashes(self, directory: str | os.PathLike[str]) -> None:
        """Check the SHA-256 of every listed file; raises PackageError that names the first one that differs."""
        for name, entry in track(self.files.items(), "checking files", len(self.files)):
            found = sha256_file(Path(directory) / name)
            if found != entry.sha256:
                raise PackageError(
                    f"file {name} is damaged", where=str(directory), expected=f"sha256 {entry.sha256}", got=found
                )


_FIELDS = {
    "format",
    "family",
    "variant",
    "config",
    "head",
    "head_options",
    "engine",
    "inputs",
    "outputs",
    "processors",
    "requires",
    "files",
}


def parse_json(data: bytes, where: str) -> dict[str, Any]:
    """A JSON object from untrusted bytes: UTF-8, bounded depth, no duplicate keys, no NaN; raises PackageError."""

    def constant(text: str) -> Any:
        raise PackageError(f"{text} is no JSON number", where=where)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            raise PackageError("an object has a key twice", where=where)
        return result

    try:
        value = json.loads(data.decode("utf-8"), parse_constant=constant, object_pairs_hook=unique)
    except RecursionError:
        raise PackageError("nested too deeply", where=where) from None
    except ValueError as error:
        if isinstance(error, PackageError):
            raise
        raise PackageError(f"not valid JSON: {error}", where=where) from error
    if not isinstance(value, dict):
        raise PackageError("not an object", where=where, expected="a JSON object", got=type(value).__name__)
    _check_depth(value, where)
    return value


def _check_depth(value: Any, where: str) -> None:
    level = [value]
    for _ in range(_MAX_DEPTH):
        level = [
            item
            for parent in level
            if isinstance(parent, (dict, list))
            for item in (parent.values() if isinstance(parent, dict) else parent)
        ]
        if not level:
            return
    raise PackageError(f"nested deeper than {_MAX_DEPTH}", where=where)


class _Checker:
    def __init__(self, value: Mapping[str, Any], where: str) -> None:
        self.value = value
        self.where = where

    def get(self, key: str, kind: type[Any], required: bool = False) -> Any:
        found = self.value.get(key)
        if found is None and not required:
            return None
        if not isinstance(found, kind):
            raise PackageError(f"bad {key}", where=self.where, expected=_JSON_NAMES[kind], got=type(found).__name__)
        return found


_JSON_NAMES: dict[type[Any], str] = {str: "a string", dict: "an object", list: "an array"}


def _version(value: Any, where: str, label: str) -> tuple[int, int]:
    if (
        not isinstance(value, list)
        or len(value) != 2
        or not all(isinstance(part, int) and not isinstance(part, bool) and 0 <= part < 1 << 31 for part in value)
    ):
        raise PackageError(f"bad {label}", where=where, expected="[major, minor]", got=repr(value)[:80])
    return value[0], value[1]


def _ports(value: list[Any], where: str) -> list[dict[str, Any]]:
    for port in value:
        good = (
            isinstance(port, dict)
            and isinstance(port.get("name"), str)
            and isinstance(port.get("dtype"), str)
            and isinstance(port.get("shape"), list)
            and all(isinstance(dim, (int, str)) and not isinstance(dim, bool) for dim in port["shape"])
        )
        if not good:
            raise PackageError("bad entry", where=where, expected="name, dtype and shape", got=repr(port)[:80])
    return value


def _files(value: dict[str, Any], where: str) -> dict[str, FileEntry]:
    result = {}
    for name, entry in value.items():
        parts = name.split("/")
        if len(name) > 1024 or _FORBIDDEN.search(name) or not parts or any(part in ("", ".", "..") for part in parts):
            raise PackageError(f"bad file name {name[:80]!r}", where=where, expected="a plain relative path")
        size = entry.get("size") if isinstance(entry, dict) else None
        digest = entry.get("sha256") if isinstance(entry, dict) else None
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 1 << 62:
            raise PackageError(f"bad size of {name}", where=where, got=repr(size)[:80])
        if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
            raise PackageError(f"bad sha256 of {name}", where=where, got=repr(digest)[:80])
        result[name] = FileEntry(digest, size)
    return result


def sha256_file(path: Path) -> str:
    """SHA-256 of a file in lower-case hexadecimal."""
    try:
        with path.open("rb") as file:
            digest = hashlib.sha256()
            while block := file.read(1 << 20):
                digest.update(block)
            return digest.hexdigest()
    except OSError as error:
        raise PackageError(f"cannot be read: {error}", where=str(path)) from error
