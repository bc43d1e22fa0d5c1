"""Errors of the SDK: every one derives from MambaSDKError and from the builtin error a caller would expect."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType

TORCH_COMMAND = "pip install 'torch>=2.10'"


class MambaSDKError(Exception):
    """Base of all errors of the SDK.

    The message reads `where: message: expected X, got Y; way_out`; each part but the message may be absent.
    """

    def __init__(
        self,
        message: str,
        *,
        where: str | None = None,
        expected: object = None,
        got: object = None,
        way_out: str | None = None,
    ) -> None:
        text = f"{where}: {message}" if where else message
        facts = [f"{word} {value}" for word, value in (("expected", expected), ("got", got)) if value is not None]
        if facts:
            text += ": " + ", ".join(facts)
        if way_out:
            text += f"; {way_out}"
        super().__init__(text)
        self.way_out = way_out

    def __str__(self) -> str:
        # KeyError would print the repr of the message.
        return str(self.args[0])


class InvalidArgumentError(MambaSDKError, ValueError):
    """An argument has a value that cannot be used."""


class ShapeError(InvalidArgumentError):
    """A tensor has the wrong shape."""


class DtypeError(MambaSDKError, TypeError):
    """A tensor or an argument has the wrong type."""


class UnsupportedError(MambaSDKError, NotImplementedError):
    """A valid request that nothing here can do: a device without kernels, a derivative that an operation lacks."""


class UnknownNameError(MambaSDKError, KeyError):
    """A name that is looked up (a model, a family, a head, an option) is not registered."""


class MissingDependencyError(MambaSDKError, ImportError):
    """Something needs a package that is not installed."""


class PluginError(MambaSDKError, RuntimeError):
    """A plugin is broken, missing or quarantined."""


class CheckpointError(MambaSDKError, ValueError):
    """A checkpoint cannot be read or does not fit the model."""


class DownloadError(MambaSDKError, OSError):
    """A repository cannot be downloaded."""


class PackageError(MambaSDKError, ValueError):
    """A model package is damaged, hostile, incomplete or in the way."""


class PackageVersionError(PackageError):
    """A model package was written by a newer format or needs a newer SDK."""


class LoweringError(MambaSDKError, ValueError):
    """A module cannot be written as a native program, or the program is malformed."""


def require_torch(what: str) -> ModuleType:
    """Import torch for `what`; raises MissingDependencyError with the pip command where it is absent."""
    return require_module("torch", what, TORCH_COMMAND)


def require_module(name: str, what: str, command: str) -> ModuleType:
    """Import module `name` for `what`; `command` is the line that installs it."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != name.split(".", maxsplit=1)[0]:
            raise
        raise MissingDependencyError(f"{what} needs {name}, which is not installed", way_out=command) from None


def require_core(what: str) -> ModuleType:
    """Import the compiled module `mambasdk._core` for `what`; MissingDependencyError has the loader's reason."""
    try:
        return importlib.import_module("mambasdk._core")
    except ImportError as error:
        raise MissingDependencyError(
            f"{what} needs the compiled module, which cannot be imported ({error})",
            way_out="reinstall it (pip install --force-reinstall mambasdk); `mambasdk doctor` says more",
        ) from error


def closest(name: str, known: Iterable[str]) -> str:
    """A sentence that names the nearest of `known` names to `name`, or lists them all when none is near."""
    names = sorted(known)
    if not names:
        return "none is registered"
    near = difflib.get_close_matches(name, names, n=4, cutoff=0.5)
    if near:
        return "did you mean " + " or ".join(near) + "?"
    shown = ", ".join(names[:20])
    return f"known: {shown}" + (f" and {len(names) - 20} more" if len(names) > 20 else "")
