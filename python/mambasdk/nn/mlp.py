"""The gated MLP that may follow a mixer."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional


class GatedMLP(nn.Module):
    """`fc2(value * SiLU(gate))` with `value, gate = split(fc1(x))`; no biases by default (arXiv 2405.21060).

    fc1.weight: (2F, D), rows [value, gate]; fc2.weight: (D, F); F is `hidden` rounded up to `multiple_of`.
    """

    def __init__(
        self,
        dim: int,
        hidden: int,
        *,
        bias: bool = False,
        multiple_of: int = 128,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.hidden = -(-hidden // multiple_of) * multiple_of
        self.fc1 = nn.Linear(dim, 2 * self.hidden, bias=bias, device=device, dtype=dtype)
        self.fc2 = nn.Linear(self.hidden, dim, bias=bias, device=device, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (…, D) to (…, D)."""
        value, gate = self.fc1(x).chunk(2, dim=-1)
        y: Tensor = self.fc2(value * functional.silu(gate))
        return y
