"""The manifest of a model package, `mambasdk.json`: read with every field checked, never trusted. No torch.

Format: docs/architecture.md. Format [1, x] is read for every x; another major is refused.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mambasdk.errors import InvalidArgumentError, PackageError, PackageVersionError
from mambasdk.package import hash_cache
from mambasdk.package.regular_file import check_inside, open_regular, read_regular
from mambasdk.progress import track

MANIFEST_FILE = "mambasdk.json"
WEIGHTS_FILE = "model.safetensors"
PROGRAM_FILE = "program.json"
GOLDEN_FILE = "golden.safetensors"
COMPILED_FILE = "model.pt2"
CONSTANTS_FILE = "constants.safetensors"
FORMAT = (1, 2)
ABI = (1, 2)
NATIVE_ABI = (1, 0)  # the least that a package of the native engine needs
COMPILED_ABI = (1, 1)  # and one of the engine aoti
_MAX_MANIFEST_BYTES = 16 << 20
_MAX_DEPTH = 64
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\\:]")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class FileEntry:
    """Size in bytes and SHA-256 (lower-case hexadecimal) of a file of the package."""

    sha256: str
    size: int


def is_package(path: str | os.PathLike[str]) -> bool:
    """Whether `path` is a folder with a manifest. Nothing in it is read or checked."""
    return (Path(path) / MANIFEST_FILE).is_file()


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
            if os.path.lexists(path):
                check_inside(folder, MANIFEST_FILE)
            return cls.parse(read_regular(path, _MAX_MANIFEST_BYTES), str(path))
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
        for key in ("eos_token_id", "bos_token_id"):
            _check_token_ids(self.processors.get("text", {}).get(key), key, where)
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
        check.get("executes_code", bool)
        target = _Checker(check.get("target", dict, required=True), f"{where}: engine.target")
        for key in ("system", "machine", "isa"):
            target.get(key, str, required=True)
        _ports(check.get("states", list) or [], f"{where}: engine.states")

    @property
    def executes_code(self) -> bool:
        """Whether running the package's engine executes machine code from the package: aoti does, even unsaid."""
        return self.engine["name"] == "aoti" or self.engine.get("executes_code") is True

    def check_code(self, where: str, allow_code: bool) -> None:
        """Refuse a package whose engine executes code from it where the caller did not allow that."""
        if self.executes_code and not allow_code:
            raise PackageError(
                f"its engine {self.engine['name']!r} executes machine code that comes with the package",
                where=where,
                way_out="where you trust its origin, pass allow_code=True (--allow-code on the command line); "
                "or export it for the native engine or for torch",
            )

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

    def to_json(self, where: str = MANIFEST_FILE) -> bytes:
        """The bytes of `mambasdk.json`; raises InvalidArgumentError for what JSON cannot hold, such as infinity."""
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
        return json_text(present, where).encode()

    def check_sizes(self, directory: str | os.PathLike[str]) -> None:
        """Check that every listed file is there, is a regular file inside the package, and has its size."""
        folder = Path(directory)
        for name, entry in self.files.items():
            status = check_inside(folder, name)
            if status.st_size != entry.size:
                raise PackageError(
                    f"file {name} is damaged", where=str(folder), expected=f"{entry.size} bytes", got=status.st_size
                )

    def check_hashes(self, directory: str | os.PathLike[str], *, again: bool = True) -> None:
        """Check the SHA-256 of every listed file; raises PackageError that names the first one that differs.

        again: also of files that were checked before and have not changed since (`mambasdk.package.hash_cache`).
        """
        for name, entry in track(self.files.items(), "checking files", len(self.files)):
            path = Path(directory) / name
            status = check_inside(Path(directory), name)
            if not again and hash_cache.recall(path, status) == entry.sha256:
                continue
            found = sha256_file(path)
            if found != entry.sha256:
                raise PackageError(
                    f"file {name} is damaged", where=str(directory), expected=f"sha256 {entry.sha256}", got=found
                )
            hash_cache.remember(path, status, found)


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


def json_text(value: Any, where: str) -> str:
    """`value` as JSON; raises InvalidArgumentError that names the place of what JSON cannot hold."""
    try:
        return json.dumps(value, indent=1, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        place = _not_json(value)
        way_out = "use a finite number; null stands for no bound" if isinstance(place[1], float) else None
        raise InvalidArgumentError(
            f"{place[0] or 'a value'} is {str(place[1])[:80]}, which JSON cannot hold", where=where, way_out=way_out
        ) from error


def _not_json(value: Any, place: str = "") -> tuple[str, Any]:
    """(where, what) the first value is that JSON cannot hold; ("", None) where there is none."""
    if isinstance(value, dict):
        items = [(f"{place}.{key}".lstrip("."), entry) for key, entry in value.items()]
    elif isinstance(value, (list, tuple)):
        items = [(f"{place}[{index}]", entry) for index, entry in enumerate(value)]
    elif (isinstance(value, float) and math.isfinite(value)) or isinstance(value, (str, int, type(None))):
        return "", None
    else:
        return place, value
    return next((found for name, entry in items if (found := _not_json(entry, name))[0]), ("", None))


def parse_json(data: bytes, where: str) -> dict[str, Any]:
    """A JSON object from untrusted bytes: UTF-8, bounded depth, no duplicate keys, no NaN; raises PackageError."""

    def constant(text: str) -> Any:
        raise PackageError(f"{text} is no JSON number", where=where)

    def finite(text: str) -> float:
        number = float(text)
        if not math.isfinite(number):
            raise PackageError(f"{text[:40]} is too large a number", where=where)
        return number

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            raise PackageError("an object has a key twice", where=where)
        return result

    try:
        value = json.loads(data.decode("utf-8"), parse_constant=constant, parse_float=finite, object_pairs_hook=unique)
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


def _check_token_ids(value: Any, key: str, where: str) -> None:
    """An id, or, of end tokens, a list of ids; none is left out, not written as -1."""
    for item in value if key == "eos_token_id" and isinstance(value, list) else [value]:
        if item is None and value is None:
            continue
        if not isinstance(item, int) or isinstance(item, bool) or not 0 <= item < 1 << 31:
            raise PackageError(
                f"bad processors.text.{key}",
                where=where,
                expected="a token id of 0 or more" + (", or a list of them" if key == "eos_token_id" else ""),
                got=repr(value)[:80],
                way_out="leave it out where there is none",
            )


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
        with open_regular(path) as file:
            digest = hashlib.sha256()
            while block := file.read(1 << 20):
                digest.update(block)
            return digest.hexdigest()
    except OSError as error:
        raise PackageError(f"cannot be read: {error}", where=str(path)) from error
