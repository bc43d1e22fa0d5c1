"""Processors and heads of native plugins from Python, and the pipeline of a package. No torch is imported."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mambasdk.errors import PluginError
from mambasdk.package.manifest import Manifest
from mambasdk.plugins.host import get_host

if TYPE_CHECKING:
    from typing_extensions import Self


class NativeProcessor:
    """One processor or head of a native plugin, by itself. One thread at a time; may keep state from run to run."""

    def __init__(
        self,
        plugin: str,
        kind: str,
        options: Mapping[str, Any] | None = None,
        *,
        directory: str | os.PathLike[str] | None = None,
        head: bool = False,
    ) -> None:
        """plugin: name of the entry point that brings the library; kind and options: as in a package's manifest.

        directory: the package that the options' file names are in. Raises PluginError where the plugin is absent or
        its library does not load, and the errors of the kind's options.
        """
        _activate(plugin)
        core = importlib.import_module("mambasdk._core")
        self._processor = core.Processor(kind, dict(options or {}), directory=directory, head=head)

    def run(self, **inputs: Any) -> dict[str, Any]:
        """Run on arrays, tensors, bytes or text; returns what it makes, by name, "json" already parsed.

        The results are NumPy arrays; torch tensors on the CPU where an input was a torch tensor.
        """
        return self.run_named(inputs)

    def run_named(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """As `run`, for names that are no identifiers, as "audio.rate"."""
        made: dict[str, Any] = self._processor.run(dict(inputs))
        torch = sys.modules.get("torch")
        if torch is None or not any(isinstance(value, torch.Tensor) for value in inputs.values()):
            return made
        return {name: value if name == "json" else torch.from_dlpack(value) for name, value in made.items()}

    def reset(self) -> None:
        """Forget earlier runs."""
        self._processor.reset()


class PluginProcessor(NativeProcessor):
    """Base of a native plugin's own classes: class attributes name the processor, its options are keywords."""

    plugin: ClassVar[str]
    kind: ClassVar[str]
    head: ClassVar[bool] = False

    def __init__(self, **options: Any) -> None:
        super().__init__(self.plugin, self.kind, options, head=self.head)

    @classmethod
    def from_manifest(cls, entry: Mapping[str, Any], directory: Path) -> Self:
        """The processor of a package's manifest entry: a factory for ProcessorSpec."""
        return cls(**{name: value for name, value in entry.items() if name != "kind"})


class Classification(PluginProcessor):
    """Logits to the best labels: the head of `mambasdk/plugin/classification.hpp` under a plugin's own kind.

    Options: labels (names by index), top_k (5), activation ("softmax", "sigmoid" or "none"), input ("logits").
    """

    head = True

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._input = str(options.get("input", "logits"))

    def __call__(self, logits: Any) -> list[dict[str, Any]]:
        """logits: float32 (C) or (1, C). Returns {"label", "index", "score"} of each, best first."""
        labels: list[dict[str, Any]] = self.run_named({self._input: logits})["json"]["labels"]
        return labels


def raw_input(source: Any) -> Any:
    """The bytes of a file where `source` is a path, else `source`."""
    return Path(source).read_bytes() if isinstance(source, (str, os.PathLike)) else source


def load_pipeline(directory: str | os.PathLike[str], *, verify: bool = False) -> Any:
    """The pipeline of a package (`_core.Pipeline`): processors, model and head as its manifest says.

    verify: check every file's SHA-256 first. The native libraries of the plugins that the package requires are loaded;
    raises PluginError where one is not installed, PackageError for a damaged package.
    """
    manifest = Manifest.read(directory)
    manifest.check_abi(str(directory))
    get_host().activate_distributions(plugin["name"] for plugin in manifest.requires.get("plugins", []))
    core = importlib.import_module("mambasdk._core")
    return core.Pipeline(core.load_package(directory, verify=verify))


def _activate(plugin: str) -> None:
    host = get_host()
    record = next((record for record in host.records if record.name == plugin), None)
    if record is None:
        raise PluginError(f"there is no plugin {plugin!r} here", way_out=f"pip install mambasdk-{plugin}")
    if record.status == "disabled":
        raise PluginError(f"plugin {plugin} is {record.reason}", way_out=record.advice)
    host.activate(record)
