"""The configuration of a Mamba-3 language model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mambasdk.errors import InvalidArgumentError
from mambasdk_language.config import LanguageModelConfig

# Fields that all language models share and this mixer has no part for.
_ABSENT = ("d_conv", "conv_bias", "bias")


@dataclass
class Mamba3Config(LanguageModelConfig):
    """A Mamba-3 language model.

    headdim: P. ngroups: G. rope_fraction, is_mimo, mimo_rank, is_outproj_norm, A_floor, A_activation: see
    `mambasdk.nn.Mamba3`. There is no convolution and no bias: d_conv, conv_bias and bias keep their defaults. The rest
    is described with LanguageModelConfig.
    """

    vocab_size: int = 128256
    pad_vocab_size_multiple: int = 16
    d_state: int = 128
    headdim: int = 64
    ngroups: int = 1
    rope_fraction: float = 0.5
    is_mimo: bool = False
    mimo_rank: int = 4
    is_outproj_norm: bool = False
    A_floor: float = 1e-4
    A_activation: Literal["heavy_tail", "softplus"] = "heavy_tail"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_positive("headdim", "ngroups", "mimo_rank")
        for name in _ABSENT:
            default = getattr(LanguageModelConfig, name)
            if getattr(self, name) != default:
                raise InvalidArgumentError(
                    f"{name} has no effect: Mamba-3 has no convolution and no biases",
                    where="Mamba3Config",
                    expected=repr(default),
                    got=repr(getattr(self, name)),
                )
