"""Opening a model package: its manifest, its model, or its whole pipeline."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from mambasdk import _core, pipeline
from mambasdk.package import Manifest
from mambasdk.plugins import get_host


class Pipeline(Protocol):
    """Processors, model and head of a package. One thread at a time; the state carries over from run to run."""

    def run(
        self,
        inputs: Mapping[str, Any],
        options: Mapping[str, Any] | None = None,
        *,
        on_text: Callable[[str], bool | None] | None = None,
    ) -> dict[str, Any]:
        """Run raw inputs: bytes, texts or arrays, by the names of the package's processors ("text", "image", …).

        options: of the head, over those of the package. on_text: called with each new piece of text by a head that
        writes text; returning False ends it.
        Returns what the head makes by name: "json" (dicts and lists) and arrays; without a head the model's outputs.
        Raises InvalidArgumentError for inputs and options that do not fit; the state is then what it was.
        """

    def reset(self) -> None:
        """States of the model, the processors and the head back to the start."""


def read_manifest(directory: str | os.PathLike[str]) -> Manifest:
    """The manifest of a package; nothing else is read.

    Raises PackageError where there is none or it is damaged, PackageVersionError for a newer format.
    """
    return Manifest.read(directory)


def load_package(
    directory: str | os.PathLike[str],
    *,
    verify: bool | None = None,
    allow_code: bool = False,
    max_memory: int | None = None,
) -> _core.Model:
    """The model of a package, run by the engine that its manifest names, without torch.

    The native libraries of the plugins that it requires are loaded first.
    verify: None compares the SHA-256 of the files that changed since they were last compared, True of all, False of
    none. allow_code: machine code in the package may be executed, which the engine aoti does; allow it only for
    packages whose origin you trust. max_memory: bytes for prepared weights, and for states and activations of each
    session; None: three quarters of the memory that this process may use.
    Raises PackageError for a damaged package, UnsupportedError for one that runs in PyTorch alone, PackageVersionError
    for one of a newer SDK, PluginError where a plugin is not installed, MemoryError above max_memory.
    """
    manifest = Manifest.read(directory)
    manifest.check_abi(str(directory))
    get_host().activate_distributions(plugin["name"] for plugin in manifest.requires.get("plugins", []))
    return _core.load_package(directory, verify, allow_code=allow_code, max_memory=max_memory)


def load_pipeline(
    directory: str | os.PathLike[str], *, verify: bool | None = None, allow_code: bool = False
) -> Pipeline:
    """The pipeline of a package: raw inputs in, the head's answer out. Arguments and errors as of `load_package`.

    A package whose engine is torch, or whose compiled code is not allowed, has its model in PyTorch; raises
    MissingDependencyError or PackageError where torch is not installed.
    """
    opened: Pipeline = pipeline.load_pipeline(directory, verify=verify, allow_code=allow_code)
    return opened
