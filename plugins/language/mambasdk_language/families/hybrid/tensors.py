"""Tensors of another naming under ours: renamed, joined, cut. What is not taken stays, and the loader refuses it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mambasdk.errors import CheckpointError
from mambasdk.models import Checkpoint

Change = Callable[[Tensor], Tensor]
BACKBONE = "backbone.layers"
MAMBA2 = ("dt_bias", "A_log", "D", "norm.weight")
LINEAR = ("weight", "bias")


class Rewriting:
    """Names of ours, each with the tensors that it is made of.

    Nothing is read before the model asks. A tensor of ours whose sources are not all there is left out, so that the
    loader says which is missing.
    """

    def __init__(self, weights: Checkpoint) -> None:
        self._weights = weights
        self._taken: set[str] = set()
        self._made: dict[str, Callable[[], Tensor]] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._weights

    def names(self) -> set[str]:
        """Names of ours that are made so far."""
        return set(self._made)

    def take(self, ours: str, theirs: str, change: Change | None = None) -> None:
        """One tensor, changed where `change` says how."""
        self.join(ours, [theirs], (lambda tensors: tensors[0]) if change is None else (lambda t: change(t[0])))

    def join(self, ours: str, theirs: Sequence[str], how: Callable[[list[Tensor]], Tensor] = torch.cat) -> None:
        """Several tensors as one, by default one below the other."""
        weights, names = self._weights, list(theirs)
        if not all(name in weights for name in names):
            return
        self._taken.update(names)
        self._made[ours] = lambda: how([weights[name] for name in names])

    def drop(self, *endings: str) -> None:
        """Leave out every tensor whose name ends so: it is no weight."""
        self._taken.update(name for name in self._weights if name.endswith(endings))

    def repeats(self, prefix: str, first: str) -> None:
        """What stands under `prefix` is what stands under `first` once more; raises CheckpointError where it is not."""
        for name in [name for name in self._weights if name.startswith(prefix)]:
            other = first + name.removeprefix(prefix)
            if other not in self._weights or not torch.equal(self._weights[name], self._weights[other]):
                raise CheckpointError(f"{name} is not {other}, which it shares", where=self._weights.where)
            self._taken.add(name)

    def result(self) -> Checkpoint:
        """All of them, and under its own name what nothing took."""
        weights = self._weights
        rest = [name for name in weights if name not in self._taken and name not in self._made]
        kept: dict[str, Callable[[], Tensor]] = {name: _reading(weights, name) for name in rest}
        return weights.remade({**self._made, **kept})

    # ---- layers ----

    def linear(self, ours: str, theirs: str) -> None:
        """Weight and bias."""
        for part in LINEAR:
            self.take(f"{ours}.{part}", f"{theirs}.{part}")

    def mamba2(self, ours: str, theirs: str) -> None:
        """A Mamba-2 mixer, whose parts have the same names everywhere."""
        for name in MAMBA2:
            self.take(f"{ours}.{name}", f"{theirs}.{name}")
        for name in ("in_proj", "conv1d", "out_proj"):
            self.linear(f"{ours}.{name}", f"{theirs}.{name}")

    def mamba(self, ours: str, theirs: str) -> None:
        """A Mamba mixer, with norms of its parameters where there are."""
        for name in ("A_log", "D"):
            self.take(f"{ours}.{name}", f"{theirs}.{name}")
        for name in ("in_proj", "conv1d", "x_proj", "dt_proj", "out_proj"):
            self.linear(f"{ours}.{name}", f"{theirs}.{name}")
        for own, name in (("dt", "dt_layernorm"), ("B", "b_layernorm"), ("C", "c_layernorm")):
            self.take(f"{ours}.norms.{own}.weight", f"{theirs}.{name}.weight")

    def attention(self, ours: str, theirs: str) -> None:
        """Three projections as one."""
        for part in LINEAR:
            self.join(f"{ours}.in_proj.{part}", [f"{theirs}.{letter}_proj.{part}" for letter in "qkv"])
        self.linear(f"{ours}.out_proj", f"{theirs}.o_proj")

    def mlp(self, ours: str, theirs: str, *, gated: bool) -> None:
        """up_proj, down_proj and, where gated, gate_proj."""
        for part in LINEAR:
            if gated:
                self.join(f"{ours}.fc1.{part}", [f"{theirs}.up_proj.{part}", f"{theirs}.gate_proj.{part}"])
            else:
                self.take(f"{ours}.fc1.{part}", f"{theirs}.up_proj.{part}")
        self.linear(f"{ours}.fc2", f"{theirs}.down_proj")

    def experts(self, ours: str, theirs: str, count: int, *, gated: bool) -> None:
        """Experts under a number each, or in one tensor for all."""
        if f"{theirs}.down_proj" in self:
            first = "gate_up_proj" if gated else "up_proj"
            self.take(f"{ours}.fc1", f"{theirs}.{first}", swapped if gated else None)
            self.take(f"{ours}.fc2", f"{theirs}.down_proj")
            return
        parts = ("up_proj", "gate_proj") if gated else ("up_proj",)
        first_names = [f"{theirs}.{expert}.{part}.weight" for expert in range(count) for part in parts]
        self.join(f"{ours}.fc1", first_names, lambda tensors: _stacked(tensors, len(parts)))
        self.join(f"{ours}.fc2", [f"{theirs}.{expert}.down_proj.weight" for expert in range(count)], torch.stack)


def swapped(tensor: Tensor) -> Tensor:
    """[gate, value] rows as [value, gate]: (2F) or (2F, …), of experts (experts, 2F, …)."""
    dim = 1 if tensor.ndim == 3 else 0
    return torch.cat(list(reversed(tensor.chunk(2, dim))), dim)


def _stacked(tensors: list[Tensor], parts: int) -> Tensor:
    return torch.stack([torch.cat(tensors[i : i + parts]) for i in range(0, len(tensors), parts)])


def _reading(weights: Checkpoint, name: str) -> Callable[[], Tensor]:
    return lambda: weights[name]
