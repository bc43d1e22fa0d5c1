"""Evidence for each family, declared in evidence_*.py: golden tensors, exact counts, and what holds for all."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from mambasdk.testing import families

MODULES = [import_module(path.stem) for path in sorted(Path(__file__).parent.glob("evidence_*.py"))]
EVIDENCE = [one for module in MODULES for one in module.EVIDENCE]
globals().update(families.suite(*EVIDENCE, distribution="mambasdk-multimodal", slow=True))


def write_golden(root: Path) -> None:
    """A second set of golden tensors, each family's by its module."""
    for module in MODULES:
        module.write_golden(root)
