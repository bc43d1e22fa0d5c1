"""Processors and heads from Python, and the pipeline of a package.

Torch is imported only for a package that needs it.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mambasdk.errors import PluginError, require_core
from mambasdk.package.manifest import Manifest
from mambasdk.plugins.host import get_host
from mambasdk.plugins.interfaces import ModelHead, PipelineHead
from mambasdk.plugins.specs import resolve

if TYPE_CHECKING:
    from typing_extensions import Self

    from mambasdk._core import Emitter, HeadModel


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
        model: Any = None,
    ) -> None:
        """plugin: name of the entry point that brings the library; kind and options: as in a package's manifest.

        directory: the package that the options' file names are in. model: what `load_model` gives, for a head, which
        runs it as often as it likes and keeps a session of it. Raises PluginError where the plugin is absent or its
        library does not load, and the errors of the kind's options.
        """
        _activate(plugin)
        core = require_core("mambasdk.pipeline")
        self._processor = core.Processor(kind, dict(options or {}), directory=directory, head=head, model=model)

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


class OneRun(ModelHead):
    """The head of packages without one: the outputs of one run are the result."""

    def run(self, model: HeadModel, inputs: Mapping[str, Any], emit: Emitter) -> None:
        """Emit each output under its name."""
        for name, value in model.run_once(dict(inputs)).items():
            emit(name, value)


def load_model(directory: str | os.PathLike[str], *, verify: bool | None = None, allow_code: bool = False) -> Any:
    """The model of a package, a `_core.Model`, whatever runs it: an engine, or PyTorch.

    PyTorch runs the packages without a native program (engine `torch`), and the compiled ones (engine `aoti`) whose
    code is not allowed. Arguments and errors as of `load_pipeline`.
    """
    manifest = Manifest.read(directory)
    manifest.check_abi(str(directory))
    refused = manifest.executes_code and not allow_code
    if refused and importlib.util.find_spec("torch") is None:
        manifest.check_code(str(directory), allow_code)
    get_host().activate_distributions(plugin["name"] for plugin in manifest.requires.get("plugins", []))
    core = require_core("mambasdk.pipeline")
    if not refused and manifest.engine["name"] != "torch":
        return core.load_package(directory, verify, allow_code=allow_code)
    torch_engine = importlib.import_module("mambasdk.torch_engine")
    if verify:
        manifest.check_sizes(directory)
        manifest.check_hashes(directory)
    model = torch_engine.TorchModel(directory, manifest, verify=verify is None)
    return core.load_package(directory, False, model=model)  # checked already


def load_pipeline(directory: str | os.PathLike[str], *, verify: bool | None = None, allow_code: bool = False) -> Any:
    """The pipeline of a package: processors, model and head as its manifest says.

    A `_core.Pipeline`, whatever runs the model (`load_model`). The head is the native one of that name, else that of a
    plugin's `PipelineHead`, else the model's outputs are the result.

    verify: None checks the SHA-256 of the files that changed since they were last checked, True of all of them, False
    of none. allow_code: machine code in the package may be executed, which the engine aoti does; allow it only for
    packages whose origin you trust. The native libraries of the plugins that the package requires are loaded. Raises
    PluginError where one is not installed, PackageError for a damaged package, and for a compiled one without
    allow_code where torch is not there.
    """
    model = load_model(directory, verify=verify, allow_code=allow_code)
    core = require_core("mambasdk.pipeline")
    manifest = Manifest.read(directory)
    return core.Pipeline(model, head=_python_head(core, manifest))


def _python_head(core: Any, manifest: Manifest) -> Callable[[Mapping[str, Any], str], ModelHead] | None:
    """What makes the package's head, where no native library brings it; None where one does, or should."""
    if not manifest.head or any(head["kind"] == manifest.head for head in core.runtime_describe()["heads"]):
        return None
    spec = get_host().registrations.heads.get(manifest.head)
    implementation = None if spec is None else resolve(spec.implementation)()
    if isinstance(implementation, PipelineHead):
        return lambda options, directory: implementation.pipeline_head(options, Path(directory))
    known = spec is not None or manifest.engine["name"] in ("torch", "aoti")
    return (lambda options, directory: OneRun()) if known else None


def _activate(plugin: str) -> None:
    host = get_host()
    record = next((record for record in host.records if record.name == plugin), None)
    if record is None:
        raise PluginError(f"there is no plugin {plugin!r} here", way_out=f"pip install mambasdk-{plugin}")
    if record.status == "disabled":
        raise PluginError(f"plugin {plugin} is {record.reason}", way_out=record.advice)
    host.activate(record)
