"""The configuration of a Mixture-of-Mamba."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mambasdk.errors import InvalidArgumentError
from mambasdk_language.config import CheckedConfig


@dataclass
class MixtureOfMambaConfig(CheckedConfig):
    """A causal model of tokens of several modalities, and of latent vectors where `latent_dim` is not 0.

    d_model: D. n_layer: layers of two blocks each.
    modalities: their names. modality_ranges: the id at which each one's tokens end: [256, 512] makes ids below 256
        tokens of the first modality, and 256 to 511 of the second. vocab_size follows, padded to a multiple of
        pad_vocab_size_multiple in the matrices.
    shared: projections ("in", "x", "dt", "out") that the modalities share; with all four the model is a dense Mamba.
    dt_bias: see `mambasdk_multimodal.nn.MixtureOfMamba`.
    latent_dim: numbers of a latent vector, such as a patch of an autoencoder's image; 0 for none. Tokens of the last
        modality then stand for vectors: the model is given noisy ones, and says their noise.
    latent_weight: of the vectors' loss beside that of the tokens. diffusion_steps: levels of noise.
    d_state: N. d_conv: K. expand: I = expand * D unless d_inner gives I. dt_rank, dt_min, dt_max, dt_init, dt_scale,
        dt_init_floor, bias, conv_bias: see `mambasdk.nn.Mamba`.
    residual_in_fp32, tie_embeddings, initializer_range: as of language models.
    """

    d_model: int = 256
    n_layer: int = 4
    modalities: Sequence[str] = ("text", "image")
    modality_ranges: Sequence[int] = (256, 512)
    pad_vocab_size_multiple: int = 8
    shared: Sequence[str] = ()
    dt_bias: Literal["applied", "upstream"] = "applied"
    latent_dim: int = 0
    latent_weight: float = 5.0
    diffusion_steps: int = 1000
    d_state: int = 16
    d_conv: int = 4
    expand: float = 2
    d_inner: int | None = None
    dt_rank: int | Literal["auto"] = "auto"
    dt_min: float = 1e-3
    dt_max: float = 0.1
    dt_init: Literal["random", "constant"] = "random"
    dt_scale: float = 1.0
    dt_init_floor: float = 1e-4
    bias: bool = False
    conv_bias: bool = True
    norm_epsilon: float = 1e-5
    residual_in_fp32: bool = True
    tie_embeddings: bool = True
    initializer_range: float = 0.02

    def __post_init__(self) -> None:
        self.modalities = list(self.modalities)
        self.modality_ranges = list(self.modality_ranges)
        self.shared = list(self.shared)
        self.check_positive("d_model", "n_layer", "pad_vocab_size_multiple", "diffusion_steps", "d_state", "d_conv")
        ends = self.modality_ranges
        sizes = [end - start for start, end in zip([0, *ends], ends, strict=False)]
        if not ends or len(ends) != len(self.modalities) or min(sizes) < 1:
            raise InvalidArgumentError(
                "bad modality_ranges",
                where="MixtureOfMambaConfig",
                expected=f"{len(self.modalities)} ascending numbers above 0, one for each of {self.modalities}",
                got=repr(ends),
            )
        if len(set(self.modalities)) < len(self.modalities):
            raise InvalidArgumentError("a modality twice", where="MixtureOfMambaConfig", got=repr(self.modalities))
        if self.latent_dim < 0:
            raise InvalidArgumentError(
                "bad latent_dim", where="MixtureOfMambaConfig", expected="0 or more", got=self.latent_dim
            )

    @property
    def vocab_size(self) -> int:  # type: ignore[override]
        """Tokens of all modalities."""
        return self.modality_ranges[-1]

    @property
    def latent_token(self) -> int | None:
        """The id that stands for a latent vector: the last modality's first; None where there are none."""
        return (0, *self.modality_ranges)[len(self.modality_ranges) - 1] if self.latent_dim else None
