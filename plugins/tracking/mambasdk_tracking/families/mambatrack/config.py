"""The configuration of a MambaTrack motion predictor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mambasdk.errors import InvalidArgumentError


@dataclass
class MambaTrackConfig:
    """A Mamba motion predictor (MTP) of MambaTrack, arXiv 2408.09178.

    d_model: D. n_layer: Bi-Mamba blocks. d_state, d_conv, expand: of their Mambas. window: q, the most box deltas that
    it looks at. scale: factor on normalised deltas, of inputs and outputs alike. head_hidden: hidden size of the head.
    norm: "pre" for `Y + MLP(LN(Y))` (the paper's figure), "post" for `Y + LN(MLP(Y))` (its equation 6).

    Compatibility with the unofficial checkpoint: backward_flip: False adds the backward Mamba's output without turning
    it round again. pool_channels: the head sees means of groups of channels, so many (None: all D channels).
    """

    d_model: int = 512
    n_layer: int = 3
    d_state: int = 16
    d_conv: int = 4
    expand: int = 2
    window: int = 10
    scale: float = 50.0
    head_hidden: int = 64
    norm: Literal["pre", "post"] = "pre"
    backward_flip: bool = True
    pool_channels: int | None = None

    def __post_init__(self) -> None:
        for name in ("d_model", "n_layer", "d_state", "d_conv", "expand", "window", "head_hidden"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise InvalidArgumentError(
                    f"bad {name}", where="MambaTrackConfig", expected="an integer of 1 or more", got=repr(value)
                )
        if not self.scale > 0:
            raise InvalidArgumentError("bad scale", where="MambaTrackConfig", expected="above 0", got=self.scale)
        if self.norm not in ("pre", "post"):
            raise InvalidArgumentError("bad norm", where="MambaTrackConfig", expected="'pre' or 'post'", got=self.norm)
        pool = self.pool_channels
        if pool is not None and (pool < 1 or self.d_model % pool):
            raise InvalidArgumentError(
                "bad pool_channels", where="MambaTrackConfig", expected=f"a divisor of {self.d_model}", got=pool
            )
