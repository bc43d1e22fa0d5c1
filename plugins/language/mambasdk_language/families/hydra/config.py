"""The configuration of a Hydra text encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mambasdk.errors import InvalidArgumentError
from mambasdk_language.config import CheckedConfig

TASKS = ("masked_lm", "classification", "regression")


@dataclass
class HydraConfig(CheckedConfig):
    """A text encoder whose layers are mixers without an MLP; the defaults are those of the published model.

    task: what stands on the encoder: "masked_lm" (logits of every token), "classification" or "regression" (num_labels
        numbers of the text). pool: what these see of the text: the "first" token, or the "mean" of all.
    d_model: D. n_layer: layers. vocab_size: tokens, padded to a multiple of pad_vocab_size_multiple in the matrices.
    type_vocab_size: token types. max_positions: rows of a position embedding, 0 for none.
    prenorm: norms before the mixers and one at the end, else after the mixers' sums with their inputs.
    mixer: "hydra", or one of `mambasdk.nn.MATRIX_MIXERS`, which read at most max_seq_len tokens and have rank qk_dim;
        shifted: see `mambasdk.nn.MatrixMixer`.
    padding: "masked": what a mask leaves out is not there; "upstream": as the published code has it, where padding is a
        zero vector before each mixer and the mixer's biases make it more, so that outputs depend on how much there is.
    d_state: N. d_conv: K. expand: I = expand * D. headdim: P. ngroups: G. learnable_init_states, dt_min, dt_max,
        dt_init_floor, dt_limit, bias, conv_bias: see `mambasdk.nn.Hydra`.
    dropout: of the embeddings and before the last layer. initializer_range: deviation of linear and embedding weights.
    """

    task: str = "masked_lm"
    num_labels: int = 2
    pool: str = "first"
    d_model: int = 768
    n_layer: int = 23
    vocab_size: int = 30522
    pad_vocab_size_multiple: int = 8
    type_vocab_size: int = 2
    max_positions: int = 0
    prenorm: bool = False
    mixer: str = "hydra"
    max_seq_len: int = 128
    qk_dim: int = 16
    shifted: bool = False
    padding: str = "masked"
    d_state: int = 64
    d_conv: int = 7
    expand: float = 2
    headdim: int = 64
    ngroups: int = 1
    learnable_init_states: bool = False
    dt_min: float = 1e-3
    dt_max: float = 0.1
    dt_init_floor: float = 1e-4
    dt_limit: Sequence[float | None] | None = None
    bias: bool = False
    conv_bias: bool = True
    dropout: float = 0.1
    norm_epsilon: float = 1e-5
    embedding_norm_epsilon: float = 1e-12
    initializer_range: float = 0.02

    def __post_init__(self) -> None:
        self.check_positive(
            "num_labels", "d_model", "n_layer", "vocab_size", "pad_vocab_size_multiple", "type_vocab_size"
        )
        self.check_positive("max_seq_len", "qk_dim", "d_state", "d_conv", "headdim", "ngroups")
        one_of("task", self.task, TASKS)
        one_of("pool", self.pool, ("first", "mean"))
        one_of("padding", self.padding, ("masked", "upstream"))


def one_of(name: str, value: Any, allowed: Sequence[str]) -> None:
    """Raise InvalidArgumentError unless the field has one of these values."""
    if value not in allowed:
        raise InvalidArgumentError(f"bad {name}", where="HydraConfig", expected=" or ".join(allowed), got=repr(value))
