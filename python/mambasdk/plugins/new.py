"""Writes the repository of a new plugin from the template files that lie in `template/`.

A template file ends in `.in`; `$word` in it is replaced (string.Template), and lines between `%if NAME` (or `%if not
NAME`), `%else` and `%endif` stay where they apply. A folder of `template/` is laid over the ones before it.
"""

from __future__ import annotations

import keyword
import os
import re
import shlex
import shutil
import string
import sys
from importlib import metadata
from pathlib import Path

from mambasdk._version import __version__
from mambasdk.errors import InvalidArgumentError, MissingDependencyError
from mambasdk.plugins.host import get_host
from mambasdk.plugins.official import is_reserved

TEMPLATE = Path(__file__).with_name("template")
DOMAINS = {
    "language": "a language model",
    "vision": "labels of images",
    "audio": "labels of sounds",
    "series": "forecasts of time series, motion or sensor readings",
}
LICENSES = {"apache-2.0": "Apache-2.0", "mit": "MIT", "bsd-3-clause": "BSD-3-Clause"}
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_LONGEST = 40


def write_plugin(
    name: str, target: Path, *, domain: str, native: bool = False, license_name: str = "apache-2.0", author: str = ""
) -> list[Path]:
    """Write the repository of plugin `name` (a distribution name, such as "mambasdk-acme") into `target`.

    domain: a key of DOMAINS. native: with an operation and a processor in C++. license_name: a key of LICENSES.
    author: who holds the copyright. Returns the files. Raises InvalidArgumentError for a bad name or a target that is
    there and not empty; then nothing is written.
    """
    values = _values(name, domain, license_name, author)
    if target.is_symlink() or (target.exists() and (not target.is_dir() or any(target.iterdir()))):
        raise InvalidArgumentError(
            "the target exists and is not empty", where=str(target), way_out="give another --out"
        )
    switches = {domain, *(["native"] if native else [])}
    layers = ["common", domain, *(["native", f"{domain}_native"] if native else [])]
    files = {
        _place(path.relative_to(TEMPLATE / layer), values): path
        for layer in layers
        for path in sorted((TEMPLATE / layer).rglob("*.in"))
    }
    texts = {place: _fill(path, values, switches) for place, path in files.items()}
    texts[Path("LICENSE")] = _license(license_name, values)
    for place, text in texts.items():
        (target / place).parent.mkdir(parents=True, exist_ok=True)
        (target / place).write_text(text, "utf-8")
    return sorted(target / place for place in texts)


def next_steps(target: Path, *, domain: str, native: bool) -> list[str]:
    """The shell commands that install, list and test a plugin's repository, to be typed where `target` is named from.

    Building without isolation takes the tools and the mambasdk of this environment, which is the one that will load it.
    """
    tools = ["scikit-build-core>=0.10", "cmake>=3.24", "ninja"] if native else ["setuptools>=77"]
    tests = ["pytest>=8", *(["pillow>=10"] if domain == "vision" else [])]
    place = shlex.quote(str(target) if target.is_absolute() else f"./{target.as_posix()}")
    python = shlex.quote(_python())
    needed = " ".join(shlex.quote(name) for name in [*tools, *tests])
    return [
        f"{python} -m pip install {needed}",
        f"{python} -m pip install --no-build-isolation {place}",
        f"{python} -m mambasdk plugins",
        f"{python} -m pytest {place}/tests",
    ]


def _python() -> str:
    """How to call this Python: by the name that the PATH leads from to it, else by its path."""
    for name in ("python", "python3"):
        found = shutil.which(name)
        if found and os.path.realpath(found) == os.path.realpath(sys.executable) and _prefix(found) == sys.prefix:
            return name
    return sys.executable


def _prefix(python: str) -> str:
    """The environment whose `bin` a Python lies in."""
    return os.path.dirname(os.path.dirname(os.path.abspath(python)))


def check_name(name: str) -> None:
    """Raise InvalidArgumentError unless a plugin may have this name."""
    where = "plugin name"
    if not _NAME.fullmatch(name) or len(name) > _LONGEST:
        expected = (
            f"small letters, digits and single hyphens, a letter first, at most {_LONGEST}; such as mambasdk-acme"
        )
        raise InvalidArgumentError("bad name", where=where, expected=expected, got=repr(name))
    package, short = name.replace("-", "_"), _short(name)
    if is_reserved(name) or is_reserved(f"mambasdk-{short}"):
        raise InvalidArgumentError(
            f"{name} is reserved for mambasdk's own plugins", where=where, way_out="give another"
        )
    taken = {"mambasdk": "mambasdk itself", "torch": "PyTorch", "numpy": "NumPy", "tests": "the folder of the tests"}
    if package in taken:
        raise InvalidArgumentError(f"{name} is the name of {taken[package]}", where=where, way_out="give another")
    if package in sys.stdlib_module_names or keyword.iskeyword(package):
        raise InvalidArgumentError(
            f"{name} is a word or a module of Python's own", where=where, way_out=f"try mambasdk-{name}"
        )
    if keyword.iskeyword(short) or not _NAME.fullmatch(short):
        raise InvalidArgumentError(f"{short!r} cannot name a family", where=where, way_out="give another")
    for record in get_host().records:
        if record.distribution != name and (record.name == short or short in record.registrations.models()):
            raise InvalidArgumentError(
                f"{short!r} is taken by plugin {record.name} of {record.distribution}",
                where=where,
                way_out="give another",
            )


def _short(name: str) -> str:
    """The entry point and the family: the name without `mambasdk-`."""
    return name.removeprefix("mambasdk-")


def _values(name: str, domain: str, license_name: str, author: str) -> dict[str, str]:
    check_name(name)
    for what, value, known in (("domain", domain, DOMAINS), ("license", license_name, LICENSES)):
        if value not in known:
            raise InvalidArgumentError(f"bad {what}", expected=" or ".join(known), got=repr(value))
    package, short = name.replace("-", "_"), _short(name)
    major, minor = __version__.split(".")[:2]
    return {
        "distribution": name,
        "package": package,
        "library": f"{package}_native",
        "name": short,
        "identifier": short.replace("-", "_"),
        "Name": "".join(part.capitalize() for part in short.split("-")),
        "summary": f"{short}: {DOMAINS[domain]}",
        "sdk": f"{major}.{minor}",
        "sdk_next": f"{major}.{int(minor) + 1}",
        "license": LICENSES[license_name],
        "license_name": LICENSES[license_name],
        "author": author or f"the authors of {name}",
    }


def _place(path: Path, values: dict[str, str]) -> Path:
    """Where a template file goes: `package` is the Python package, `family` the family's folder, `dot_x` is `.x`."""
    names = {"package": values["package"], "family": values["identifier"]}
    parts = [names.get(part, re.sub(r"^dot_", ".", part)) for part in path.parts]
    return Path(*parts).with_suffix("")


def _fill(path: Path, values: dict[str, str], switches: set[str]) -> str:
    lines: list[str] = []
    shown = [True]
    for line in path.read_text("utf-8").splitlines(keepends=True):
        match line.split():
            case ["%if", "not", switch]:
                shown.append(switch not in switches)
            case ["%if", switch]:
                shown.append(switch in switches)
            case ["%else"]:
                shown[-1] = not shown[-1]
            case ["%endif"]:
                shown.pop()
            case _ if all(shown):
                lines.append(line)
    return string.Template("".join(lines)).substitute(values)


def _license(license_name: str, values: dict[str, str]) -> str:
    if license_name != "apache-2.0":
        return _fill(TEMPLATE / "licenses" / f"{license_name}.txt", values, set())
    for file in metadata.files("mambasdk") or []:  # mambasdk's own licence, which its wheel carries
        if file.name == "LICENSE":
            return file.read_text("utf-8")
    raise MissingDependencyError(
        "the text of Apache-2.0 is not in this installation",
        way_out="install the wheel of mambasdk, or take --license mit",
    )
