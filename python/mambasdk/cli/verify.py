"""`mambasdk verify PACKAGE`: files, and outputs of PyTorch and the native engine. Executes no code of the package."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from mambasdk.command_line.arguments import check_package
from mambasdk.package import verify
from mambasdk.package.verification import RELATIVE_TOLERANCE, ROUNDED_TOLERANCE


class VerifyCommand:
    """Exit code 1 where an engine's outputs differ from the golden ones."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Package and tolerance."""
        parser.add_argument("package", help="a model package")
        parser.add_argument(
            "--tolerance",
            type=float,
            help="largest difference, as a part of the output's largest magnitude (default: "
            f"{RELATIVE_TOLERANCE:g}, {ROUNDED_TOLERANCE:g} for native programs with products of bfloat16)",
        )

    def run(self, args: argparse.Namespace) -> Mapping[str, Any]:
        """Verify and print one line per engine and output."""
        check_package(args.package, "verify")
        report = verify(args.package, tolerance=args.tolerance)
        if not args.json:
            print(f"{report.files} files: sizes and hashes are right")
            for engine, errors in report.errors.items():
                for name, error in errors.items():
                    print(
                        f"{engine}: {name} differs by at most {error:.3g} (largest magnitude {report.scales[name]:.3g})"
                    )
            for engine, reason in report.skipped.items():
                print(f"{engine}: not run: {reason}")
            if not report.golden:
                print("no golden outputs in the package: engines not compared")
            print("passed" if report.passed else "FAILED")
        return {
            "passed": report.passed,
            "files": report.files,
            "golden": report.golden,
            "errors": report.errors,
            "scales": report.scales,
            "skipped": report.skipped,
            "exit_code": 0 if report.passed else 1,
        }
