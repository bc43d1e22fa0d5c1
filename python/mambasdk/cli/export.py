"""`mambasdk export PACKAGE|MODEL --out DIR`: a package with another weight type or for another engine."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mambasdk.command_line.arguments import DTYPES, add_overrides, add_products
from mambasdk.errors import InvalidArgumentError
from mambasdk.models import create_model
from mambasdk.package import Manifest, is_package, load, save_package
from mambasdk.package.writer import ENGINES

if TYPE_CHECKING:
    from torch import nn


class ExportCommand:
    """Writes weights, engine part, golden outputs and model card; a package's processors stay."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Model, target, weight type and engine."""
        parser.add_argument("model", help="a model package, or a model's name for fresh weights")
        parser.add_argument("--out", required=True, metavar="DIR", help="where the new package goes")
        parser.add_argument("--dtype", choices=DTYPES, help="of the stored weights (default: as they are)")
        add_products(parser)
        parser.add_argument(
            "--engine",
            choices=ENGINES,
            help="what runs it without Python (default: the package's own; native where the model can, else torch)",
        )
        parser.add_argument(
            "--isa",
            metavar="SET",
            help="instruction set of compiled code: baseline, avx2 or avx512 (default: avx2 where this machine has it)",
        )
        parser.add_argument(
            "--prepared",
            action="store_true",
            help="store weights as products read them too: with MAMBASDK_WEIGHTS=map the package starts sooner",
        )
        parser.add_argument("--overwrite", action="store_true", help="replace a package that is there")
        add_overrides(parser)

    def run(self, args: argparse.Namespace) -> Mapping[str, Any]:
        """Load and save."""
        model, processors, engine = _source(args)
        written = save_package(
            model,
            args.out,
            processors=processors,
            dtype=args.dtype,
            products=args.products,
            engine=args.engine or engine,
            isa=args.isa,
            prepared=args.prepared,
            overwrite=args.overwrite,
        )
        size = sum(entry.size for entry in written.files.values())
        name = written.engine["name"]
        if not args.json:
            print(f"{args.out}: {size / 1e6:.1f} MB, engine {name}")
        return {"package": args.out, "bytes": size, "engine": name, "files": sorted(written.files)}


def _source(args: argparse.Namespace) -> tuple[nn.Module, dict[str, Any] | None, str | None]:
    """The model, its processors (None: the family's) and the engine it has now (None: it has none yet)."""
    if not is_package(args.model):
        return create_model(args.model, **args.overrides), None, None
    if args.overrides:
        raise InvalidArgumentError("--set does not change a package's model", where=args.model)
    folder = Path(args.model)
    manifest = Manifest.read(folder)
    processors = {
        slot: {**entry, "file": str(folder / entry["file"])} if "file" in entry else entry
        for slot, entry in manifest.processors.items()
    }
    return load(folder), processors, manifest.engine["name"]
