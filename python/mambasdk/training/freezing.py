"""Weights that a run leaves as they are. Needs torch."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mambasdk.errors import InvalidArgumentError


def freeze(model: nn.Module, names: Sequence[str]) -> int:
    """Let the named parameters keep their values; how many numbers these are.

    names: beginnings of parameter names at a dot ("backbone", "model.0"); a number n stands for the first n entries of
    the model's first list of layers. Raises InvalidArgumentError for a name without a parameter, and where nothing is
    left to train.
    """
    frozen = 0
    for name in names:
        beginnings = _first_layers(model, int(name)) if name.isdecimal() else [name]
        found = [
            parameter
            for own, parameter in model.named_parameters()
            if any(own == beginning or own.startswith(f"{beginning}.") for beginning in beginnings)
        ]
        if not found:
            known = ", ".join(dict.fromkeys(own.partition(".")[0] for own, _ in model.named_parameters()))
            raise InvalidArgumentError(
                "no such part of the model", where=f"--freeze {name}", expected=f"a number, or a name below {known}"
            )
        for parameter in found:
            frozen += parameter.numel() * parameter.requires_grad
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise InvalidArgumentError("nothing is left to train", where=f"--freeze {' '.join(names)}")
    return frozen


def frozen_norms(model: nn.Module) -> list[nn.Module]:
    """Batch norms none of whose weights are trained: they keep their statistics, and use them."""
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    return [norm for norm in norms if list(norm.parameters()) and not any(p.requires_grad for p in norm.parameters())]


def _first_layers(model: nn.Module, count: int) -> list[str]:
    lists = [
        (name, module) for name, module in model.named_modules() if isinstance(module, (nn.ModuleList, nn.Sequential))
    ]
    if not lists:
        raise InvalidArgumentError(
            "the model has no list of layers", where=f"--freeze {count}", way_out="name its parts instead"
        )
    name, layers = lists[0]
    return [f"{name}.{index}" if name else str(index) for index in range(min(count, len(layers)))]
