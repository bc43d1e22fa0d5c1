"""`mambasdk import FAMILY SOURCE --out DIR`: an upstream checkpoint becomes a package."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mambasdk.command_line.arguments import DTYPES, add_products
from mambasdk.errors import InvalidArgumentError
from mambasdk.lowering import as_model
from mambasdk.models.create import import_checkpoint, local_config
from mambasdk.models.imported import imported_settings
from mambasdk.models.registry import find_model
from mambasdk.models.source import resolve_source
from mambasdk.package import save_package

_TOKENIZER = "tokenizer.json"


class ImportCommand:
    """From a directory, a weight file, or a hub repository."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Family or variant, source, and what the package gets."""
        parser.add_argument("model", help="a family or variant, for example mamba-130m")
        parser.add_argument(
            "source", nargs="?", help="directory, weight file or hub repository (default: the variant's own repository)"
        )
        parser.add_argument("--config", help="the upstream config.json (default: the one beside the weights)")
        parser.add_argument("--out", required=True, metavar="DIR", help="where the package goes")
        parser.add_argument("--tokenizer", metavar="FILE", help="tokenizer.json (default: the one in the source)")
        parser.add_argument("--dtype", choices=DTYPES, help="of the stored weights (default: float32)")
        add_products(parser)
        parser.add_argument("--overwrite", action="store_true", help="replace a package that is there")

    def run(self, args: argparse.Namespace) -> Mapping[str, Any]:
        """Import and save."""
        family, variant = find_model(args.model)
        source = args.source or (family.hub.get(variant) if variant else None)
        if source is None:
            raise InvalidArgumentError(f"{args.model} has no hub repository of its own", way_out="give a SOURCE")
        path = resolve_source(source)
        model = import_checkpoint(args.model, args.config or path, path)
        folder = path if path.is_dir() else path.parent
        contract = as_model(model)
        processors, options = imported_settings(
            contract.package_head,
            folder,
            local_config(args.config or path),
            _processors(contract.package_processors(), args.tokenizer, folder),
        )
        manifest = save_package(
            model,
            args.out,
            processors=processors,
            head_options=options or None,
            dtype=args.dtype,
            products=args.products,
            overwrite=args.overwrite,
        )
        count = sum(parameter.numel() for parameter in model.parameters())
        if not args.json:
            print(f"{args.out}: {manifest.variant or manifest.family}, {count:,} parameters")
            if processors.get("text", {}).get("kind") == "bytes":
                print(f"no {_TOKENIZER} found: the package reads raw bytes; --tokenizer FILE gives it one")
        return {"package": args.out, "family": manifest.family, "variant": manifest.variant, "parameters": count}


def _processors(
    defaults: Mapping[str, Mapping[str, Any]], tokenizer: str | None, folder: Path
) -> dict[str, Mapping[str, Any]]:
    """The model's processors, with the checkpoint's tokenizer where there is one."""
    result = dict(defaults)
    file = Path(tokenizer) if tokenizer else folder / _TOKENIZER
    if tokenizer or file.is_file():
        result["text"] = {"kind": "tokenizer", "file": str(file)}
    return result
