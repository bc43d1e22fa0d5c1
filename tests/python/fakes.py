"""Fake plugin distributions, written as pip would install them, and a small model family in one of them."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mambasdk.plugins import reset_host

FAMILY = "toy"

FAMILY_PLUGIN = """
from mambasdk.plugins import CommandSpec, FamilySpec, HeadSpec, ProcessorSpec, hookimpl

@hookimpl
def mambasdk_families():
    return [FamilySpec(
        name="toy", summary="a small Mamba language model", config="toy_model:ToyConfig", factory="toy_model:build",
        importer="toy_model:import_upstream", head="toy_head", processors={"shout": {"kind": "upper"}},
        variants={"toy-2": {"n_layer": 2}, "toy-mlp": {"d_intermediate": 48, "tie_embeddings": False}},
        tiny={"n_layer": 1})]

@hookimpl
def mambasdk_heads():
    return [HeadSpec(name="toy_head", summary="echoes", implementation="toy_model:ToyHead")]

@hookimpl
def mambasdk_processors():
    return [ProcessorSpec(slot="shout", kind="upper", summary="upper case", factory="toy_model:processor")]

@hookimpl
def mambasdk_commands():
    return [CommandSpec(name="toy-hello", summary="greets", implementation="toy_model:Hello")]
"""

FAMILY_MODEL = """
from dataclasses import dataclass
from mambasdk import nn

@dataclass
class ToyConfig:
    d_model: int = 32
    n_layer: int = 2
    vocab_size: int = 61
    d_intermediate: int = 0
    tie_embeddings: bool = True
    norm: str = "rms"

def build(config):
    norm = nn.RMSNorm if config.norm == "rms" else nn.LayerNorm
    def block():
        mlp = nn.GatedMLP(config.d_model, config.d_intermediate, multiple_of=16) if config.d_intermediate else None
        return nn.Block(nn.Mamba(config.d_model), norm(config.d_model), mlp=mlp,
                        norm2=norm(config.d_model) if mlp else None)
    backbone = nn.MixerModel([block() for _ in range(config.n_layer)], norm(config.d_model), config.d_model,
                             vocab_size=-(-config.vocab_size // 8) * 8)
    return nn.CausalLM(backbone, config.vocab_size, tie_embeddings=config.tie_embeddings)

def import_upstream(config, weights):
    settings = {name: config[name] for name in ("d_model", "n_layer", "vocab_size")}
    return settings, weights.rename({"backbone.embeddings.weight": "backbone.embedding.weight"})

def processor(entry, directory):
    return str.upper

class ToyHead:
    def add_train_arguments(self, parser):
        parser.add_argument("--steps", type=int, required=True)
    def train(self, args):
        return {"model": args.model, "out": args.out, "steps": args.steps, "overrides": args.overrides}
    def add_generate_arguments(self, parser):
        parser.add_argument("--prompt", default="")
    def generate(self, args):
        return {"text": args.prompt.upper()}

class Hello:
    def add_arguments(self, parser):
        parser.add_argument("name")
    def run(self, args):
        return {"hello": args.name, "exit_code": 0}
"""


class Site:
    """A folder on sys.path into which fake distributions are installed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def install(self, distribution: str, entry: str, module: str, source: str | None, version: str = "1.0") -> None:
        """A distribution with one entry point; source None leaves the module out."""
        info = self.folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[mambasdk.plugins]\n{entry} = {module}\n")
        if source is not None:
            (self.folder / f"{module}.py").write_text(source)

    def install_toy(self) -> None:
        """The toy family."""
        (self.folder / "toy_model.py").write_text(FAMILY_MODEL)
        self.install("mambasdk-toy", "toy", "toy_plugin", FAMILY_PLUGIN)


@contextmanager
def site(folder: Path) -> Iterator[Site]:
    """A Site that is on sys.path while the context lasts; its modules are forgotten afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    reset_host()
    try:
        yield Site(folder)
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            file = getattr(sys.modules[name], "__file__", None)
            if file and Path(file).is_relative_to(folder):
                del sys.modules[name]
        importlib.invalidate_caches()
        reset_host()
