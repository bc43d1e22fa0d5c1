"""The configuration of a Mamba language model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mambasdk_language.config import LanguageModelConfig


@dataclass
class MambaConfig(LanguageModelConfig):
    """A Mamba language model.

    dt_rank: R, "auto" is ceil(D / 16). dt_init, dt_scale: initialisation of the step sizes. The rest is described with
    LanguageModelConfig.
    """

    dt_rank: int | Literal["auto"] = "auto"
    dt_init: Literal["random", "constant"] = "random"
    dt_scale: float = 1.0
