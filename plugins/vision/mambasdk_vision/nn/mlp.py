"""Two linear layers on the channels of a map."""

from __future__ import annotations

from torch import Tensor, nn

from mambasdk_vision.nn.maps import activation


class Mlp(nn.Module):
    """`fc2(act(fc1(x)))` on channels: hidden of them inside, as many out as in. dropout: after each layer."""

    def __init__(self, channels: int, hidden: int, act: str = "gelu", dropout: float = 0.0) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden)
        self.act = activation(act, "Mlp")
        self.fc2 = nn.Linear(hidden, channels)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (…, C) to the same shape."""
        y: Tensor = self.drop(self.fc2(self.drop(self.act(self.fc1(x)))))
        return y
