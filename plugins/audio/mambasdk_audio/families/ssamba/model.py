"""The family `ssamba`: encoder with the heads of pretraining, or with one that classifies."""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from mambasdk.errors import InvalidArgumentError, ShapeError
from mambasdk.models import create_model, identity
from mambasdk.nn import LayerNorm, Model
from mambasdk_audio.families.ssamba.config import UPSTREAM_SLOTS, Pooling, SsambaConfig
from mambasdk_audio.families.ssamba.encoder import Encoder
from mambasdk_audio.families.ssamba.position import resample_positions
from mambasdk_audio.families.ssamba.spec import AUDIOSET

INPUT = "fbank"  # what the processor calls its output


class Ssamba(nn.Module, Model):
    """SSAMBA on normalised spectrograms x (B, T, F); parameter names are those of the published files.

    v: the encoder. With `label_dim`: mlp_head, norm and linear. Without: mask_embed (1, 1, D), the token of a hidden
    patch; cpredlayer and gpredlayer, which tell a patch's pixels from its token.
    """

    def __init__(self, config: SsambaConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.embed_dim
        self.v = Encoder(config)
        if config.label_dim:
            self.mlp_head = nn.Sequential(LayerNorm(dim, eps=1e-5), nn.Linear(dim, config.label_dim))
        else:
            pixels = config.fshape * config.tshape
            self.mask_embed = nn.Parameter(torch.empty(1, 1, dim))
            nn.init.xavier_normal_(self.mask_embed)
            self.cpredlayer = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, pixels))
            self.gpredlayer = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, pixels))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, C), or (B, seconds, C) with "ft_avgtok_1sec"; of a model for pretraining, `embed`.

        x: (B, T, F) with the T and F of the configuration; raises ShapeError.
        """
        if not self.config.label_dim:
            return self.embed(x)
        logits: Tensor = self.mlp_head(self.pooled(self.v(x)))
        return logits

    def embed(self, x: Tensor) -> Tensor:
        """The mean of all tokens but the class token, (B, D): a clip's features without any head."""
        mean: Tensor = self.v(x)[:, 1:].mean(1)
        return mean

    def pooled(self, tokens: Tensor) -> Tensor:
        """What the head reads, (B, D) or (B, slots, D), of the tokens (B, P + 1, D)."""
        config = self.config
        if config.pooling == "ft_cls":
            return tokens[:, 0]
        if config.pooling == "ft_avgtok":
            return tokens[:, 1:].mean(1)
        if config.upstream_slots:
            size = tokens.shape[1] // UPSTREAM_SLOTS
            slots: Tensor = tokens[:, : UPSTREAM_SLOTS * size].unflatten(1, (UPSTREAM_SLOTS, size)).mean(2)
            return slots
        columns = tokens[:, 1:].unflatten(1, config.grid).mean(1)  # (B, P_t, D)
        return torch.stack([columns[:, first:end].mean(1) for first, end in config.seconds], 1)

    def discriminative(self, x: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """(loss, accuracy): which of the clip's hidden patches is which (InfoNCE).

        x: (B, T, F). hidden: int64 (B, n), the indices of the hidden patches, as `sample_mask` makes them.
        """
        found, pixels = self._hidden(x, hidden, self._pretraining().cpredlayer)
        scores = pixels @ found.transpose(1, 2)  # (B, n true patches, n predictions)
        log_share = functional.log_softmax(scores, -1)
        loss = -log_share.diagonal(dim1=1, dim2=2).mean()
        right = log_share.argmax(1) == torch.arange(hidden.shape[1], device=x.device)
        return loss, right.float().mean()

    def generative(self, x: Tensor, hidden: Tensor) -> Tensor:
        """The mean squared error of the hidden patches' pixels. Arguments as `discriminative`."""
        found, pixels = self._hidden(x, hidden, self._pretraining().gpredlayer)
        return functional.mse_loss(found, pixels)

    def patches(self, x: Tensor) -> Tensor:
        """The pixels of every patch of x (B, T, F), (B, P, fshape * tshape), in the order of the tokens."""
        config = self.config
        stride = (config.fstride, config.tstride)
        unfolded = functional.unfold(x.transpose(1, 2).unsqueeze(1), (config.fshape, config.tshape), stride=stride)
        return unfolded.transpose(1, 2)

    def _hidden(self, x: Tensor, hidden: Tensor, head: Any) -> tuple[Tensor, Tensor]:
        """What `head` says of the hidden patches and what they are, (B, n, pixels) each."""
        patches = self.config.patches
        if hidden.ndim != 2 or hidden.shape[0] != x.shape[0] or hidden.dtype != torch.int64:
            raise ShapeError(
                "bad hidden patches",
                where="ssamba",
                expected=f"int64 ({x.shape[0]}, n)",
                got=f"{hidden.dtype} {tuple(hidden.shape)}",
            )
        mask = torch.zeros(x.shape[0], patches, dtype=torch.bool, device=x.device).scatter(1, hidden, value=True)
        tokens = self.v(x, mask, self.mask_embed)[:, 1:]  # (B, P, D)
        at = hidden.unsqueeze(-1)
        found = head(tokens.gather(1, at.expand(-1, -1, tokens.shape[-1])))
        pixels = self.patches(x)
        return found, pixels.gather(1, at.expand(-1, -1, pixels.shape[-1]))

    def _pretraining(self) -> Ssamba:
        if self.config.label_dim:
            raise InvalidArgumentError(
                "a classifier has no heads for pretraining", where="ssamba", way_out="build it with label_dim=0"
            )
        return self

    @property
    def classes(self) -> int | None:
        """Rows of the last layer; None of a model for pretraining."""
        return self.config.label_dim or None

    def with_classes(self, count: int) -> Ssamba:
        """A classifier with this encoder; see `for_fine_tuning`."""
        return for_fine_tuning(self, count, pooling=self.config.pooling)

    def resized(self, **extents: tuple[int, ...]) -> Ssamba:
        """The encoder for spectrograms of `fbank=(frames, bins)`, with a fresh head where it has one."""
        frames, bins = extents[INPUT]
        config = self.config
        return for_fine_tuning(self, config.label_dim, input_tdim=frames, pooling=config.pooling, input_fdim=bins)

    def package_processors(self) -> dict[str, dict[str, Any]]:
        """The processor that makes this model's input, normalised with the statistics of the published models."""
        return {"audio": {**AUDIOSET, "target_length": self.config.input_tdim, "num_mel_bins": self.config.input_fdim}}

    def example_inputs(self) -> dict[str, Tensor]:
        """Two spectrograms that `native_outputs` takes."""
        config = self.config
        generator = torch.Generator().manual_seed(0)
        return {INPUT: torch.randn(2, config.input_tdim, config.input_fdim, generator=generator) * 0.5}

    def native_outputs(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """{"logits" (B, C)}; with "ft_avgtok_1sec" their mean, and {"logits_by_second" (B, seconds, C)} too.

        Of a model for pretraining {"tokens" (B, P + 1, D), "embedding" (B, D)}.
        """
        if self.config.label_dim:
            logits = self(inputs[INPUT])
            by_second = logits.ndim == 3
            return {"logits": logits.mean(1), "logits_by_second": logits} if by_second else {"logits": logits}
        tokens = self.v(inputs[INPUT])
        return {"tokens": tokens, "embedding": tokens[:, 1:].mean(1)}


def build(config: SsambaConfig) -> Ssamba:
    """The module of a configuration, freshly initialised; also on the meta device."""
    return Ssamba(config)


def for_fine_tuning(
    model: Ssamba,
    label_dim: int,
    *,
    input_tdim: int | None = None,
    stride: int | None = None,
    pooling: Pooling = "ft_avgtok",
    upstream_quirks: bool = False,
    **overrides: Any,
) -> Ssamba:
    """A classifier with the encoder of `model`, its positions resampled to the new grid, and a fresh head.

    input_tdim: frames; stride: of the patches on both axes (upstream fine-tunes with 10); None keeps the model's.
    upstream_quirks: of `resample_positions`. overrides: other fields of the configuration, for example drop_path_rate.
    """
    old = model.config
    changes: dict[str, Any] = {"label_dim": label_dim, "pooling": pooling, **overrides}
    if input_tdim is not None:
        changes["input_tdim"] = input_tdim
    if stride is not None:
        changes.update(fstride=stride, tstride=stride)
    if fixed := sorted({"embed_dim", "depth", "d_state", "d_conv", "expand", "fshape", "tshape"} & set(overrides)):
        raise InvalidArgumentError(f"{', '.join(fixed)} cannot change", where="for_fine_tuning")
    device = next(model.parameters()).device
    settings = {**dataclasses.asdict(old), **changes}
    tuned = cast(Ssamba, create_model(identity(model).family, device=device, **settings))
    encoder = {name: tensor.detach().clone() for name, tensor in model.v.state_dict().items()}
    encoder["pos_embed"] = resample_positions(
        encoder["pos_embed"], old.grid, tuned.config.grid, upstream_quirks=upstream_quirks
    )
    tuned.v.load_state_dict(encoder)
    return tuned
