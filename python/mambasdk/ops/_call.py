"""Calls by name, the list of operations, and the switch to the reference kernels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from mambasdk.errors import InvalidArgumentError, closest
from mambasdk.ops._failure import typed
from mambasdk.ops._library import adapter

_REFERENCE = 1


@typed
def call(name: str, **arguments: Any) -> torch.Tensor | tuple[torch.Tensor, ...]:
    """Call any registered operation, of a plugin too, by name.

    Args:
        name: the operation, as in `list_ops()`.
        arguments: by the names of its signature (`describe(name)`); optional ones may be left out.

    Returns:
        Its output, or a tuple of its outputs; one that its condition switches off is an empty tensor of shape (0).

    Raises:
        UnknownNameError: no such operation. InvalidArgumentError: an argument that the signature does not have.
        ValueError: a wrong shape, dtype or device, named.

    """
    signature = adapter.signature(name)
    known = [a.name for a in signature.inputs]
    for argument in arguments:
        if argument not in known:
            raise InvalidArgumentError(f"it has no argument {argument!r}", where=name, way_out=closest(argument, known))
    missing = [a.name for a in signature.inputs if not (a.name in arguments or a.optional or a.has_default)]
    if missing:
        raise InvalidArgumentError(
            f"{', '.join(missing)} must be given", where=name, got=", ".join(arguments) or "nothing"
        )
    values = [arguments.get(a.name, a.default) for a in signature.inputs]
    result: torch.Tensor | tuple[torch.Tensor, ...] = getattr(torch.ops.mambasdk, name).default(*values)
    return result


def list_ops() -> list[str]:
    """Names of all registered operations, those of loaded plugins too, sorted."""
    adapter.refresh()
    return sorted(adapter.signatures)


def describe(name: str) -> str:
    """The signature and the documentation of an operation; raises UnknownNameError."""
    signature = adapter.signature(name)
    return f"{signature.text}\n\n{signature.doc}\n\nFrom: {signature.origin}"


@contextmanager
def use_reference() -> Iterator[None]:
    """Run this thread's operations on their reference kernels: scalar, accumulating in float64, slow.

    A backward pass inside the context runs on the reference too.
    """
    before = adapter.choose_kernel(_REFERENCE)
    try:
        yield
    finally:
        adapter.choose_kernel(before)
