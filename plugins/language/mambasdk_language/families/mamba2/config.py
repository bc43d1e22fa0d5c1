"""The configuration of a Mamba-2 language model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mambasdk.errors import InvalidArgumentError
from mambasdk_language.config import LanguageModelConfig


@dataclass
class Mamba2Config(LanguageModelConfig):
    """A Mamba-2 language model.

    headdim: P. ngroups: G. d_ssm: S, None is I. A_init_range, conv_init: initialisation. dt_limit: clamps the step
    sizes, (low, high), None for no bound (infinity is taken for None: JSON has none). D_has_hdim, rmsnorm,
    norm_before_gate: see `mambasdk.nn.Mamba2`. The rest is described with LanguageModelConfig.
    """

    pad_vocab_size_multiple: int = 16
    d_state: int = 128
    headdim: int = 64
    ngroups: int = 1
    d_ssm: int | None = None
    A_init_range: Sequence[float] = (1.0, 16.0)
    D_has_hdim: bool = False
    rmsnorm: bool = True
    norm_before_gate: bool = False
    dt_limit: Sequence[float | None] | None = None
    conv_init: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive("headdim", "ngroups")
        self.A_init_range = ascending_pair("A_init_range", self.A_init_range)
        self.dt_limit = step_limits(self.dt_limit)


def ascending_pair(name: str, value: Any) -> tuple[float, float]:
    """Two ascending finite numbers."""
    try:
        low, high = map(float, value)
    except (TypeError, ValueError):
        low, high = math.nan, math.nan
    if not (low <= high and math.isfinite(high - low)):
        raise InvalidArgumentError(
            f"bad {name}", where="Mamba2Config", expected="two ascending finite numbers", got=repr(value)
        )
    return low, high


def step_limits(value: Any) -> tuple[float | None, float | None] | None:
    """Bounds of the step sizes in their one spelling: None for a bound that holds nothing back, and for two such."""
    if value is None:
        return None
    try:
        low, high = (None if bound is None else float(bound) for bound in value)
        floor, ceiling = -math.inf if low is None else low, math.inf if high is None else high
        ascending = floor <= ceiling and floor < math.inf and ceiling > -math.inf
    except (TypeError, ValueError):
        ascending = False
    if not ascending:
        raise InvalidArgumentError(
            "bad dt_limit", where="Mamba2Config", expected="two ascending numbers or None", got=repr(value)
        )
    low = None if low is None or low <= 0 else low  # softplus is positive
    high = None if high == math.inf else high
    return None if low is None and high is None else (low, high)
