"""The encoder: patches, class token, positions, pairs of bidirectional mixers (arXiv 2405.11831)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from mambasdk.errors import ShapeError
from mambasdk.nn import BidirectionalMamba, LayerNorm, PatchEmbedding, RMSNorm, add_norm, drop_path
from mambasdk_audio.families.ssamba.config import SsambaConfig


class SpectrogramPatches(PatchEmbedding):
    """Spectrogram (B, T, F) to one token per patch, (B, P, D); token f * P_t + t is patch (f, t)."""

    def __init__(self, config: SsambaConfig) -> None:
        super().__init__(1, config.embed_dim, (config.fshape, config.tshape), (config.fstride, config.tstride))
        self.config = config

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, F) -> (B, P, D); raises ShapeError."""
        config = self.config
        if x.ndim != 3 or x.shape[1:] != (config.input_tdim, config.input_fdim):
            raise ShapeError(
                "bad input",
                where="ssamba",
                expected=f"(batch, {config.input_tdim} frames, {config.input_fdim} bins)",
                got=tuple(x.shape),
                way_out="FbankProcessor(target_length=…) cuts and pads; for_fine_tuning(input_tdim=…) adapts a model",
            )
        return super().forward(x.transpose(1, 2).unsqueeze(1))


class EncoderLayer(nn.Module):
    """A norm and a mixer. drop_path: the share of clips whose incoming branch is dropped in training."""

    def __init__(self, config: SsambaConfig, drop_path: float, reverse: bool) -> None:
        super().__init__()
        norm = RMSNorm if config.rms_norm else LayerNorm
        self.norm = norm(config.embed_dim, eps=config.norm_epsilon)
        self.mixer = BidirectionalMamba(
            config.embed_dim,
            config.d_state,
            config.d_conv,
            config.expand,
            divide_out=config.divide_out,
            reverse=reverse,
        )
        with torch.no_grad():
            self.mixer.out_proj.weight.div_(math.sqrt(config.depth))
        self.drop_path = drop_path

    def dropped(self, h: Tensor) -> Tensor:
        """The incoming branch (B, L, D), in training without some of its clips."""
        return drop_path(h, self.drop_path if self.training else 0.0)


class Encoder(nn.Module):
    """(B, T, F) -> (B, P + 1, D): the class token, then the patches; the names are those of upstream's `v`."""

    def __init__(self, config: SsambaConfig) -> None:
        super().__init__()
        self.config = config
        dim, depth = config.embed_dim, config.depth
        self.patch_embed = SpectrogramPatches(config)
        self.cls_token = nn.Parameter(torch.empty(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + config.patches, dim))
        # A layer drops what the layer before it made, at that one's rate.
        self._final_drop_path = config.drop_path_rate
        rates = [0.0, *(config.drop_path_rate * layer / max(depth - 1, 1) for layer in range(depth - 1))]
        self.layers = nn.ModuleList(
            EncoderLayer(config, rate, reverse=config.pairs and index % 2 == 1) for index, rate in enumerate(rates)
        )
        norm = RMSNorm if config.rms_norm else LayerNorm
        self.norm_f = norm(dim, eps=config.norm_epsilon)
        for embedding in (self.cls_token, self.pos_embed):
            nn.init.trunc_normal_(embedding, std=0.02)

    def forward(self, x: Tensor, mask: Tensor | None = None, mask_embed: Tensor | None = None) -> Tensor:
        """Tokens (B, P + 1, D) of x (B, T, F).

        mask: (B, P) bool, patches whose token becomes mask_embed (1, 1, D) before the positions are added.
        """
        return self.normed(*self.hidden(self.tokens(x, mask, mask_embed)))

    def tokens(self, x: Tensor, mask: Tensor | None = None, mask_embed: Tensor | None = None) -> Tensor:
        """(B, P + 1, D): patches, masked ones replaced, behind the class token, with positions."""
        patches = self.patch_embed(x)
        if mask is not None and mask_embed is not None:
            patches = torch.where(mask.unsqueeze(-1), mask_embed.to(patches.dtype), patches)
        cls = self.cls_token.expand(patches.shape[0], -1, -1)
        return torch.cat([cls, patches], 1) + self.pos_embed

    def hidden(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """(branch, residual), (B, P + 1, D) each, after the last layer; the residual is float32 at least."""
        h, residual = tokens, None
        for first, second in self._steps():
            if second is None:
                h, residual = self._layer(first, h, residual)
            else:
                forward, backward, residual = self.pair(first, second, h, residual)
                h = forward + backward
                # All checkpoints were trained with the sum of both layers' residuals.
                residual = residual + residual if self.config.residual_double else residual
        assert residual is not None
        return h, residual

    def pair(self, first: Any, second: Any, h: Tensor, residual: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Both branches of a pair of layers, and the residual that both read, before it is doubled."""
        if residual is not None and self.training and (first.drop_path or second.drop_path):
            a, total = add_norm(first.norm, first.dropped(h), residual)
            b, other = add_norm(second.norm, second.dropped(h), residual)
            total = (total + other) / 2
        else:
            a, total = add_norm(first.norm, h, residual)
            b = second.norm(total).to(a.dtype)
        return first.mixer(a), second.mixer(b), total

    def normed(self, h: Tensor, residual: Tensor) -> Tensor:
        """The sum of branch and residual through the final norm, twice where the checkpoints want it."""
        normed: Tensor
        normed, _ = self.norm_f(drop_path(h, self._final_drop_path if self.training else 0.0), residual)
        return self.norm_f(normed) if self.config.norm_twice else normed

    def _layer(self, layer: Any, h: Tensor, residual: Tensor | None) -> tuple[Tensor, Tensor]:
        normed, total = add_norm(layer.norm, h if residual is None else layer.dropped(h), residual)
        return layer.mixer(normed), total

    def _steps(self) -> Iterator[tuple[Any, Any]]:
        layers = list(self.layers)
        return zip(layers[::2], layers[1::2], strict=True) if self.config.pairs else ((layer, None) for layer in layers)
