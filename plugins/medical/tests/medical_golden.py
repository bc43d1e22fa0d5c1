"""Golden sets of segmenters: where their tensors lie, taps, gradients, and writing another set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn

from mambasdk.testing.golden import Recorded, Tensors


class Taps:
    """What goes into and comes out of modules, by the name of the tap: name -> (module, "in" or "out")."""

    def __init__(self, model: nn.Module, places: Mapping[str, tuple[str, str]]) -> None:
        self.seen: Tensors = {}
        for name, (module, side) in places.items():
            model.get_submodule(module).register_forward_hook(partial(self._keep, name, side))

    def _keep(self, name: str, side: str, module: nn.Module, arguments: Any, out: Any) -> None:
        self.seen[name] = arguments[0] if side == "in" else out


def gradients(
    model: nn.Module,
    image: Tensor,
    logits: Tensor,
    given: Recorded,
    wanted: Callable[[str], bool],
    prefix: str = "",
) -> Tensors:
    """Gradients of sum(logits * cotangent) of those that are recorded; for a new set of the wanted parameters.

    prefix: what the recorded names of parameters begin with.
    """
    (logits * given["cotangent"]).sum().backward()
    parameters = {f"grad.{prefix}{name}": p for name, p in model.named_parameters()}
    names = [name for name in given if name.startswith("grad.")]
    names = names or ["grad.input", *(f"grad.{prefix}{name}" for name, _ in model.named_parameters() if wanted(name))]
    found: Tensors = {}
    for name in names:
        gradient = image.grad if name == "grad.input" else parameters[name].grad
        assert gradient is not None, name
        found[name] = gradient
    return found
