"""How many parameters a model has: honestly, and as papers of light medical networks count. Needs torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from torch import nn

from mambasdk.errors import InvalidArgumentError

Convention = Literal["true", "paper"]
_DECAYS = ("A_log", "A_logs")  # what a module of its own has that scans


def parameter_count(model: nn.Module, convention: Convention = "true") -> int:
    """Parameters of a model; one that stands under several names counts once.

    convention: "true" counts all. "paper" counts as the profiler did behind 1.09M and 1.87M of arXiv 2403.05246 (and
    behind figures of other Mamba networks): it adds up modules without submodules whose forward it sees run. A fused
    Mamba mixer runs none of its submodules, so all of the mixer is left out, and so are parameters that stand beside
    submodules, as skip_scale does. Use "true" to compare models. Raises InvalidArgumentError for another word.
    """
    if convention not in ("true", "paper"):
        raise InvalidArgumentError(
            "bad convention", where="parameter_count", expected="'true' or 'paper'", got=repr(convention)
        )
    if convention == "true":
        return sum(parameter.numel() for parameter in model.parameters())
    seen = {id(p): p.numel() for module in _profiled(model) for p in module.parameters()}
    return sum(seen.values())


def _profiled(module: nn.Module) -> Iterator[nn.Module]:
    """Modules without submodules that are no part of one that scans."""
    if any(name in module._parameters for name in _DECAYS):
        return
    children = list(module.children())
    if not children:
        yield module
    for child in children:
        yield from _profiled(child)
