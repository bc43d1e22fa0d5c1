"""Parameter groups for an optimizer: weight decay where it belongs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from mambasdk.nn.precision import own_parameters


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups for an optimizer: matrices with `weight_decay`; biases, norms and exempt ones (A_log, D) without.

    Exempt are the parameters that the class of their module names in `no_weight_decay`, so copies, averaged models,
    loaded and sharded ones have the same groups; and those with a true attribute `_no_weight_decay`.
    Example: `torch.optim.AdamW(parameter_groups(model, 0.1), lr=1e-3)`. Source: arXiv 2312.00752, appendix E.
    """
    declared = {id(parameter) for module in model.modules() for parameter in _declared(module)}
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for parameter in model.parameters():
        if parameter.requires_grad:
            exempt = (
                parameter.ndim < 2 or id(parameter) in declared or bool(getattr(parameter, "_no_weight_decay", False))
            )
            (plain if exempt else decayed).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]


def _declared(module: nn.Module) -> Iterator[nn.Parameter]:
    """The parameters that the module's class exempts, also where a parametrization computes them from others."""
    names = getattr(type(module), "no_weight_decay", ())
    if callable(names):  # timm's models: a method that gives names with the path to them
        names = names(module)
    inner = dict(module.named_modules()) if any("." in name for name in names) else {"": module}
    for name in names:
        owner, _, leaf = name.rpartition(".")
        if owner in inner:
            yield from own_parameters(inner[owner], (leaf,))
