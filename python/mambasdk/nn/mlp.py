"""MLPs that may follow a mixer: gated and plain."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from mambasdk.errors import InvalidArgumentError
from mambasdk.nn.precision import scaled

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": functional.gelu,  # exact, by erf
    "gelu_tanh": partial(functional.gelu, approximate="tanh"),
    "relu": functional.relu,
    "silu": functional.silu,
    "squared_relu": lambda x: functional.relu(x).square(),
}


def activation_of(name: str, where: str) -> Callable[[Tensor], Tensor]:
    """The function of that name; raises InvalidArgumentError."""
    if name not in ACTIVATIONS:
        raise InvalidArgumentError("bad activation", where=where, expected=" or ".join(ACTIVATIONS), got=repr(name))
    return ACTIVATIONS[name]


class GatedMLP(nn.Module):
    """`fc2(value * act(gate))` with `value, gate = split(fc1(x))`; no biases by default (arXiv 2405.21060).

    fc1.weight: (2F, D), rows [value, gate]; fc2.weight: (D, F); F is `hidden` rounded up to `multiple_of`.
    gate_multiplier: of what the activation is given; out_multiplier: of the output.
    """

    def __init__(
        self,
        dim: int,
        hidden: int,
        *,
        bias: bool = False,
        multiple_of: int = 128,
        activation: str = "silu",
        gate_multiplier: float = 1.0,
        out_multiplier: float = 1.0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.hidden = -(-hidden // multiple_of) * multiple_of
        self.activation = activation
        self._act = activation_of(activation, "GatedMLP")
        self.gate_multiplier = gate_multiplier
        self.out_multiplier = out_multiplier
        self.fc1 = nn.Linear(dim, 2 * self.hidden, bias=bias, device=device, dtype=dtype)
        self.fc2 = nn.Linear(self.hidden, dim, bias=bias, device=device, dtype=dtype)

    def forward(self, x: Tensor, added: Tensor | None = None) -> Tensor:
        """Map x (…, D) to (…, D); added: (…, 2F) to the output of fc1, as an adapter gives it."""
        projected = self.fc1(x)
        value, gate = (projected if added is None else projected + added).chunk(2, dim=-1)
        y: Tensor = self.fc2(value * self._act(scaled(gate, self.gate_multiplier)))
        return scaled(y, self.out_multiplier)


class MLP(nn.Module):
    """`fc2(act(fc1(x)))`. fc1.weight: (F, D); fc2.weight: (D, F)."""

    def __init__(
        self,
        dim: int,
        hidden: int,
        *,
        activation: str = "gelu",
        bias: bool = False,
        out_multiplier: float = 1.0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.activation = activation
        self._act = activation_of(activation, "MLP")
        self.out_multiplier = out_multiplier
        self.fc1 = nn.Linear(dim, hidden, bias=bias, device=device, dtype=dtype)
        self.fc2 = nn.Linear(hidden, dim, bias=bias, device=device, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (…, D) to (…, D)."""
        y: Tensor = self.fc2(self._act(self.fc1(x)))
        return scaled(y, self.out_multiplier)
