"""What a plugin registers: plain data with dotted import strings (`package.module:name`), resolved when first needed.

Making or listing these imports neither torch nor model code.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mambasdk.errors import PluginError

RESERVED_COMMANDS = (
    "doctor",
    "models",
    "plugins",
    "new-plugin",
    "train",
    "generate",
    "evaluate",
    "predict",
    "import",
    "export",
    "verify",
    "bench",
    "paths",
)
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
_DOTTED = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def resolve(path: str) -> Any:
    """Import what a dotted string `package.module:name` names."""
    module_name, _, attribute = path.partition(":")
    try:
        value: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and module_name.split(".")[0] == error.name.split(".")[0]:
            raise PluginError(f"no module {error.name}", where=f"import string {path!r}") from error
        raise
    for part in attribute.split("."):
        if not hasattr(value, part):
            raise PluginError(f"module {module_name} has no attribute {attribute}", where=f"import string {path!r}")
        value = getattr(value, part)
    return value


def _check_name(kind: str, name: object) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise PluginError("bad name", where=kind, expected="lower-case letters, digits, '.', '_', '-'", got=repr(name))


def _check_dotted(where: str, path: object) -> None:
    if not isinstance(path, str) or not _DOTTED.fullmatch(path):
        raise PluginError("bad import string", where=where, expected="'package.module:name'", got=repr(path))


def _check_mapping(where: str, value: object) -> None:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise PluginError("bad mapping", where=where, expected="a mapping with string keys", got=repr(value))


@dataclass(frozen=True, kw_only=True)
class FamilySpec:
    """A model family: how to configure, build and import its models.

    name: the family's name, for example "mamba".
    summary: one line for `mambasdk models`.
    config: import string of a dataclass; its fields are the valid overrides of `create_model`.
    factory: import string of a callable `(config) -> torch.nn.Module`; must work on the meta device.
    variants: name of a published model -> config overrides; the name alone is what `create_model` takes.
    default_variant: the variant that the family's bare name means: one that trains on an ordinary machine. None: the
        configuration's own defaults are that.
    importer: import string of a callable `(config: dict, weights: mambasdk.models.Checkpoint) ->
        (overrides: dict, tensors: Mapping[str, Tensor])` that maps an upstream checkpoint's config and names to ours.
    head: name of a registered head ("causal_lm"), or None.
    processors: default `processors` entry of a package's manifest, for example {"text": {"kind": "bytes"}}.
        Where the models of a family differ, a model says what its packages have instead: `package_head` and
        `package_processors` of `mambasdk.nn.Model`.
    hub: variant -> repository id on the Hugging Face hub.
    fields: what heads call a setting -> the configuration's field, where that has another name. Heads say which
        settings they make: `image_classification` for example `num_classes` and `image_size`.
    tiny: overrides that make a model of a few thousand parameters; tests over the registry and quick benches use it.
    causal: whether models keep the state contract (`out = model(x, state=None)`).
    """

    name: str
    summary: str
    config: str
    factory: str
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    default_variant: str | None = None
    importer: str | None = None
    head: str | None = None
    processors: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    hub: Mapping[str, str] = field(default_factory=dict)
    tiny: Mapping[str, Any] = field(default_factory=dict)
    causal: bool = True
    fields: Mapping[str, str] = field(default_factory=dict)

    def field(self, setting: str) -> str:
        """The configuration's field for what heads call `setting`."""
        return self.fields.get(setting, setting)

    def validate(self) -> None:
        """Check the types and names of all fields; raises PluginError."""
        _check_name("family", self.name)
        where = f"family {self.name}"
        _check_dotted(f"{where}: config", self.config)
        _check_dotted(f"{where}: factory", self.factory)
        if self.importer is not None:
            _check_dotted(f"{where}: importer", self.importer)
        for label in ("variants", "processors", "hub", "fields", "tiny"):
            _check_mapping(f"{where}: {label}", getattr(self, label))
        for variant, overrides in self.variants.items():
            _check_name(f"{where}: variant", variant)
            _check_mapping(f"{where}: variant {variant}", overrides)
        if self.default_variant is not None and self.default_variant not in self.variants:
            raise PluginError(f"default_variant {self.default_variant!r} is no variant", where=where)
        if stray := set(self.hub) - set(self.variants):
            raise PluginError(f"hub names unknown variants {sorted(stray)}", where=where)


@dataclass(frozen=True, kw_only=True)
class HeadSpec:
    """A head: what a family's models are trained and used for.

    implementation: import string of a class or factory without arguments that makes a `mambasdk.plugins.Head`:
        any of TrainingHead, GeneratingHead, EvaluatingHead, DrawingHead, PredictingHead.
    """

    name: str
    summary: str
    implementation: str

    def validate(self) -> None:
        """Check the types and names of all fields; raises PluginError."""
        _check_name("head", self.name)
        _check_dotted(f"head {self.name}: implementation", self.implementation)


@dataclass(frozen=True, kw_only=True)
class ProcessorSpec:
    """A processor: turns what users have (text, an image, …) into model inputs and back.

    slot and kind: the manifest entry `"processors": {slot: {"kind": kind, …}}` that it reads.
    factory: import string of a callable `(entry: Mapping, directory: Path) -> processor object`; `entry` is the
        manifest entry and `directory` the package, where the entry's files lie.
    reader: import string of a callable `(path: Path) -> bytes` that reads a file as the native processor takes it,
        where it takes fewer formats than users have; None: the file's bytes.
    patterns: names of the files that it reads, for example ("*.png", "*.jpg"), whatever their case: what
        `mambasdk predict` takes of a folder. Empty: any file.
    frames: import string of a callable `(path: Path) -> Iterator` of what the native processor takes, for files that
        hold many inputs, as videos do; None: there are none.
    frame_patterns: names of these files.
    """

    slot: str
    kind: str
    summary: str
    factory: str
    reader: str | None = None
    patterns: tuple[str, ...] = ()
    frames: str | None = None
    frame_patterns: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """`slot.kind`, unique among all processors."""
        return f"{self.slot}.{self.kind}"

    def validate(self) -> None:
        """Check the types and names of all fields; raises PluginError."""
        _check_name("processor slot", self.slot)
        _check_name("processor kind", self.kind)
        _check_dotted(f"processor {self.name}: factory", self.factory)
        if self.reader is not None:
            _check_dotted(f"processor {self.name}: reader", self.reader)
        if self.frames is not None:
            _check_dotted(f"processor {self.name}: frames", self.frames)
        for patterns in (self.patterns, self.frame_patterns):
            if not isinstance(patterns, tuple) or not all(isinstance(pattern, str) for pattern in patterns):
                raise PluginError(
                    "bad patterns",
                    where=f"processor {self.name}",
                    expected='a tuple of names as "*.png"',
                    got=repr(patterns),
                )


@dataclass(frozen=True, kw_only=True)
class CommandSpec:
    """A subcommand of `mambasdk`.

    implementation: import string of a class or factory without arguments that makes a `mambasdk.plugins.Command`.
    """

    name: str
    summary: str
    implementation: str

    def validate(self) -> None:
        """Check the types and names of all fields; raises PluginError."""
        _check_name("command", self.name)
        if self.name in RESERVED_COMMANDS:
            raise PluginError(f"command {self.name!r} is one of mambasdk's own", way_out="give it another name")
        _check_dotted(f"command {self.name}: implementation", self.implementation)


def check_library(path: object) -> Path:
    """The path of a native library; it must be absolute and exist."""
    if not isinstance(path, (str, Path)):
        raise PluginError("bad path", where="native library", expected="str or pathlib.Path", got=repr(path))
    result = Path(path)
    if not result.is_absolute():
        raise PluginError(
            f"path {str(path)!r} is relative", where="native library", way_out="give Path(__file__).parent / name"
        )
    if not result.is_file():
        raise PluginError(f"no file {str(path)!r}", where="native library", way_out="reinstall the plugin")
    return result
