"""What the configurations of language models share."""

from __future__ import annotations

from dataclasses import dataclass

from mambasdk.errors import InvalidArgumentError


class CheckedConfig:
    """Base of configurations of models of tokens: their padded vocabulary, and the check of their sizes."""

    vocab_size: int
    pad_vocab_size_multiple: int

    @property
    def padded_vocab_size(self) -> int:
        """Vp, rows of the embedding."""
        return -(-self.vocab_size // self.pad_vocab_size_multiple) * self.pad_vocab_size_multiple

    def check_positive(self, *names: str) -> None:
        """Raise InvalidArgumentError unless these fields are integers of 1 or more."""
        for name in names:
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise InvalidArgumentError(
                    f"bad {name}", where=type(self).__name__, expected="an integer of 1 or more", got=repr(value)
                )


@dataclass
class LanguageModelConfig(CheckedConfig):
    """A stack of mixers between an embedding and a head; the defaults are those of the original configuration files.

    d_model: D. n_layer: blocks. vocab_size: tokens, padded to a multiple of pad_vocab_size_multiple in the matrices.
    d_state: N. d_conv: K. expand: I = expand * D unless d_inner gives I. bias, conv_bias: of the mixer's linear layers
    and its convolution. dt_min, dt_max, dt_init_floor: initial step sizes. rms_norm: RMSNorm between layers, else
    LayerNorm. residual_in_fp32: keep the residual sum in float32. d_intermediate: hidden size of a gated MLP after each
    mixer, 0 for none. tie_embeddings: one matrix for both ends.
    """

    d_model: int = 2560
    n_layer: int = 64
    vocab_size: int = 50277
    pad_vocab_size_multiple: int = 8
    d_state: int = 16
    d_conv: int = 4
    expand: float = 2
    d_inner: int | None = None
    dt_min: float = 1e-3
    dt_max: float = 0.1
    dt_init_floor: float = 1e-4
    bias: bool = False
    conv_bias: bool = True
    rms_norm: bool = True
    norm_epsilon: float = 1e-5
    residual_in_fp32: bool = True
    d_intermediate: int = 0
    tie_embeddings: bool = True
    initializer_range: float = 0.02

    def __post_init__(self) -> None:
        self.check_positive("d_model", "n_layer", "vocab_size", "pad_vocab_size_multiple", "d_state", "d_conv")
