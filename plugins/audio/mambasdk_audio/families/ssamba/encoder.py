"""The encoder: patches, class token, positions, pairs of bidirectional mixers (spec ssamba.md, section 2)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from mambasdk.errors import ShapeError
from mambasdk.lowering import Program, Value
from mambasdk.nn import BidirectionalMamba, LayerNorm, RMSNorm
from mambasdk_audio.families.ssamba.config import SsambaConfig


class PatchEmbedding(nn.Module):
    """Spectrogram (B, T, F) to one token per patch, (B, P, D); token f * P_t + t is patch (f, t)."""

    def __init__(self, config: SsambaConfig) -> None:
        super().__init__()
        self.config = config
        stride = (config.fstride, config.tstride)
        self.proj = nn.Conv2d(1, config.embed_dim, (config.fshape, config.tshape), stride)

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
        patches: Tensor = self.proj(x.transpose(1, 2).unsqueeze(1))  # (B, D, P_f, P_t)
        return patches.flatten(2).transpose(1, 2)

    def lower(self, program: Program, x: Value, prefix: str) -> Value:
        """Native form."""
        config = self.config
        image = program.reshape(program.permute(x, [0, 2, 1]), ["B", 1, config.input_fdim, config.input_tdim])
        patches = program.unfold2d(
            image, kernel=(config.fshape, config.tshape), stride=(config.fstride, config.tstride)
        )  # (B, P_f, P_t, fshape * tshape)
        size = config.fshape * config.tshape
        weight = program.reshape(program.weight(f"{prefix}.proj.weight"), [config.embed_dim, size])
        value: Value = program.op(
            "linear",
            x=program.reshape(patches, ["B", config.patches, size]),
            weight=weight,
            bias=program.weight(f"{prefix}.proj.bias"),
        )
        return value


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
        self.patch_embed = PatchEmbedding(config)
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
            a, total = _added(first.norm, first.dropped(h), residual)
            b, other = _added(second.norm, second.dropped(h), residual)
            total = (total + other) / 2
        else:
            a, total = _added(first.norm, h, residual)
            b = second.norm(total).to(a.dtype)
        return first.mixer(a), second.mixer(b), total

    def normed(self, h: Tensor, residual: Tensor) -> Tensor:
        """The sum of branch and residual through the final norm, twice where the checkpoints want it."""
        normed: Tensor
        normed, _ = self.norm_f(drop_path(h, self._final_drop_path if self.training else 0.0), residual)
        return self.norm_f(normed) if self.config.norm_twice else normed

    def _layer(self, layer: Any, h: Tensor, residual: Tensor | None) -> tuple[Tensor, Tensor]:
        normed, total = _added(layer.norm, h if residual is None else layer.dropped(h), residual)
        return layer.mixer(normed), total

    def _steps(self) -> Iterator[tuple[Any, Any]]:
        layers = list(self.layers)
        return zip(layers[::2], layers[1::2], strict=True) if self.config.pairs else ((layer, None) for layer in layers)

    def lower(self, program: Program, x: Value, prefix: str) -> Value:
        """Native form, of clips without masks."""
        config = self.config
        dim, length = config.embed_dim, config.patches + 1
        patches = self.patch_embed.lower(program, x, f"{prefix}.patch_embed")
        cls = program.expand(program.weight(f"{prefix}.cls_token"), ["B", 1, dim])
        positions = program.expand(program.weight(f"{prefix}.pos_embed"), ["B", length, dim])
        h: Value = program.add(program.concat_rows(cls, patches), positions)
        residual = None
        names = iter(range(config.depth))
        for first, second in self._steps():
            name = f"{prefix}.layers.{next(names)}"
            a, total = first.norm.lower(program, h, f"{name}.norm", residual)
            h, residual = first.mixer.lower(program, a, f"{name}.mixer"), total
            if second is not None:
                name = f"{prefix}.layers.{next(names)}"
                b, _ = second.norm.lower(program, total, f"{name}.norm")
                h = program.add(h, second.mixer.lower(program, b, f"{name}.mixer"))
                residual = program.scale(total, 2.0) if config.residual_double else total
        y, _ = self.norm_f.lower(program, h, f"{prefix}.norm_f", residual)
        return self.norm_f.lower(program, y, f"{prefix}.norm_f")[0] if config.norm_twice else y


def drop_path(h: Tensor, rate: float) -> Tensor:
    """The branch h (B, L, D), zero for a share `rate` of the clips, the others scaled up (arXiv 1603.09382)."""
    if rate == 0:
        return h
    kept = torch.rand(h.shape[0], 1, 1, device=h.device) >= rate
    return h * (kept / (1 - rate)).to(h.dtype)


def _added(norm: nn.Module, h: Tensor, residual: Tensor | None) -> tuple[Tensor, Tensor]:
    """(norm of h + residual, that sum)."""
    if residual is not None:
        pair: tuple[Tensor, Tensor] = norm(h, residual)
        return pair
    return norm(h), h if h.dtype == torch.float64 else h.float()
