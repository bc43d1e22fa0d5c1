"""Which plugins are official: they are loaded first, so that no other plugin can take a name of theirs.

A distribution is official when the SDK reserves its name below, its entry point lies in the package of that name, and
it is the first of its name on `sys.path`, the one that Python imports. Nothing that a plugin says of itself counts.
"""

from __future__ import annotations

import re

RESERVED_DISTRIBUTIONS = (
    "mambasdk-audio",
    "mambasdk-graph",
    "mambasdk-language",
    "mambasdk-medical",
    "mambasdk-multimodal",
    "mambasdk-tracking",
    "mambasdk-vision",
)


def canonical(distribution: str) -> str:
    """A distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def is_reserved(distribution: str) -> bool:
    """Whether the SDK reserves a distribution's name for itself."""
    return canonical(distribution) in RESERVED_DISTRIBUTIONS


def is_official(distribution: str, value: str) -> bool:
    """Whether an entry point with this value is that of an official plugin, if it is the first of its name."""
    package = canonical(distribution).replace("-", "_")
    return is_reserved(distribution) and value.partition(":")[0].partition(".")[0] == package
