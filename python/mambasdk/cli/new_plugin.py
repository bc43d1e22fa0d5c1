"""`mambasdk new-plugin NAME --domain D`: the repository of a new plugin, ready to install and to test."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mambasdk.plugins.new import DOMAINS, LICENSES, next_steps, write_plugin


class NewPluginCommand:
    """Writes files; runs and installs nothing."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Name, domain, target, licence."""
        parser.add_argument("name", help="of the pip package, such as mambasdk-acme")
        domains = "; ".join(f"{name}: {what}" for name, what in DOMAINS.items())
        parser.add_argument("--domain", required=True, choices=DOMAINS, help=domains)
        parser.add_argument("--native", action="store_true", help="with an operation and a processor in C++")
        parser.add_argument("--out", metavar="DIR", help="where it goes (default: ./NAME)")
        parser.add_argument("--license", default="apache-2.0", choices=LICENSES, help="(default: apache-2.0)")
        parser.add_argument("--author", default="", help="who holds the copyright (default: the authors of NAME)")

    def run(self, args: argparse.Namespace) -> Mapping[str, Any]:
        """Write the repository and say what comes next."""
        target = Path(args.out or args.name)
        files = write_plugin(
            args.name,
            target,
            domain=args.domain,
            native=args.native,
            license_name=args.license,
            author=args.author,
        )
        steps = next_steps(target, domain=args.domain, native=args.native)
        if not args.json:
            print(f"{target}: {len(files)} files; README.md says what is where. Next:")
            print("\n".join(f"  {step}" for step in steps))
        return {"directory": str(target), "files": [str(path.relative_to(target)) for path in files], "next": steps}
