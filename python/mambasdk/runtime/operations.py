"""Operations by name on arrays."""

from __future__ import annotations

from mambasdk._core import list_ops
from mambasdk.errors import UnknownNameError, closest


def describe(name: str) -> str:
    """Signature, documentation and origin of an operation; raises UnknownNameError.

    The notation of signatures: docs/architecture.md. An operation of a plugin is there once its library is loaded.
    """
    operations = {operation["name"]: operation for operation in list_ops()}
    if name not in operations:
        raise UnknownNameError(f"there is no operation {name!r}", where="describe", way_out=closest(name, operations))
    found = operations[name]
    return f"{found['signature']}\n\n{found['doc']}\n\nFrom: {found['origin']}"
