"""`mambasdk export PACKAGE --out DIR`: the same model as a package with another weight type."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mambasdk.cli.arguments import DTYPES
from mambasdk.package import Manifest, load, save_package


class ExportCommand:
    """Re-writes weights, program, golden outputs and model card; processors stay."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Package, target and weight type."""
        parser.add_argument("package", help="a model package")
        parser.add_argument("--out", required=True, metavar="DIR", help="where the new package goes")
        parser.add_argument("--dtype", choices=DTYPES, help="of the stored weights (default: as they are)")
        parser.add_argument("--overwrite", action="store_true", help="replace a package that is there")

    def run(self, args: argparse.Namespace) -> Mapping[str, Any]:
        """Load and save."""
        folder = Path(args.package)
        manifest = Manifest.read(folder)
        model = load(folder)
        processors = {
            slot: {**entry, "file": str(folder / entry["file"])} if "file" in entry else entry
            for slot, entry in manifest.processors.items()
        }
        written = save_package(model, args.out, processors=processors, dtype=args.dtype, overwrite=args.overwrite)
        size = sum(entry.size for entry in written.files.values())
        if not args.json:
            print(f"{args.out}: {size / 1e6:.1f} MB")
        return {"package": args.out, "bytes": size, "files": sorted(written.files)}
