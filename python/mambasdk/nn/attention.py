"""Causal self-attention with grouped queries, and the cache of keys and values that continues it."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from mambasdk.errors import InvalidArgumentError
from mambasdk.nn.convolution import CausalConv1d
from mambasdk.nn.mixer import check_input
from mambasdk.nn.packing import Packing, Rows
from mambasdk.nn.precision import scaled
from mambasdk.nn.rotary import Rotary
from mambasdk.nn.state import register_layer_state, trimmed


class KeyValues(NamedTuple):
    """Keys and values of T columns, as in AttentionState."""

    key: Tensor
    value: Tensor
    present: Tensor | None = None


@register_layer_state("attention", cache=True)
class AttentionState(NamedTuple):
    """State of one attention layer: it grows by a column for each token.

    conv: the last K-1 inputs of the convolution over queries, keys and values, where there is one.
    """

    key: Tensor  # (B, T, G, E), turned by their positions
    value: Tensor  # (B, T, G, E)
    present: Tensor | None = None  # (B, T) bool; None: every column is a token of every row
    conv: Tensor | None = None  # (B, K-1, (H + 2G) E)


class Attention(nn.Module):
    """Causal sequence mixer (B, L, D) -> (B, L, D).

    d_model: D. heads: H. kv_heads: G, of keys and values; each serves H / G heads; None is H. head_dim: E, None is D/H.
    d_input: width of the input, None is D. rotary: how positions turn queries and keys; None: no positions.
    window: a token sees that many tokens, itself among them; 0 sees all. scale: of the scores, None is 1/sqrt(E).
    qkv_bias, out_bias: of in_proj and out_proj. d_conv: width of a causal convolution over queries, keys and values,
    0 for none. d_mlp: F, of a gated MLP beside the attention, 0 for none. key_multiplier: of the keys.
    in_proj.weight: ((H + 2G) E + 2F, D), rows [q, k, v, value, gate]; out_proj.weight: (D, H E + F).
    Source: arXiv 1706.03762, section 3.2; grouped queries arXiv 2305.13245.
    """

    def __init__(
        self,
        d_model: int,
        heads: int,
        kv_heads: int | None = None,
        head_dim: int | None = None,
        *,
        d_input: int | None = None,
        rotary: Rotary | None = None,
        window: int = 0,
        scale: float | None = None,
        qkv_bias: bool = False,
        out_bias: bool = False,
        d_conv: int = 0,
        d_mlp: int = 0,
        key_multiplier: float = 1.0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        factory = {"device": device, "dtype": dtype}
        self.d_model = d_model
        self.d_input = d_model if d_input is None else d_input
        self.heads = heads
        self.kv_heads = heads if kv_heads is None else kv_heads
        if self.kv_heads < 1 or heads % self.kv_heads:
            raise InvalidArgumentError(
                "bad kv_heads", where="Attention", expected=f"a divisor of {heads} heads", got=self.kv_heads
            )
        self.head_dim = d_model // heads if head_dim is None else head_dim
        if rotary is not None and rotary.channels > self.head_dim:
            raise InvalidArgumentError(
                "bad rotary positions", where="Attention", expected=f"at most {self.head_dim} channels", got=rotary
            )
        self.rotary = rotary
        self.window = window
        self.scale = 1 / math.sqrt(self.head_dim) if scale is None else scale
        self.d_conv = d_conv
        self.d_mlp = d_mlp
        self.key_multiplier = key_multiplier
        self.d_qkv = (heads + 2 * self.kv_heads) * self.head_dim
        self.in_proj = nn.Linear(self.d_input, self.d_qkv + 2 * d_mlp, bias=qkv_bias, **factory)
        self.conv1d = CausalConv1d(self.d_qkv, d_conv, **factory) if d_conv else None
        self.out_proj = nn.Linear(heads * self.head_dim + d_mlp, d_model, bias=out_bias, **factory)

    def initial_state(self, batch_size: int) -> AttentionState:
        """The empty cache: what a call without a state starts from."""
        weight = self.in_proj.weight
        cache = weight.new_zeros(batch_size, 0, self.kv_heads, self.head_dim)
        conv = weight.new_zeros(batch_size, self.d_conv - 1, self.d_qkv) if self.d_conv else None
        return AttentionState(cache, cache.clone(), None, conv)

    def forward(
        self,
        x: Tensor,  # (B, L, D); (1, total, D) with cu_seqlens
        state: AttentionState | None = None,
        *,
        return_state: bool = False,
        mask: Tensor | None = None,  # (B, L), 1 or True where there is a token
        cu_seqlens: Tensor | None = None,  # (S+1) int32, offsets of the packed sequences
        added: Tensor | None = None,  # (B, L, (H + 2G) E) to queries, keys and values, as an adapter gives it
    ) -> Any:
        """Output (B, L, D); with `return_state`, (output, state after the last step). L may be 0.

        The contract is that of `mambasdk.nn.Mamba.forward`. Raises ShapeError.
        """
        check_input(x, self.d_input, "Attention")
        packing = Packing.of(mask, x, "Attention", cu_seqlens)
        if packing is not None:
            if added is not None:
                raise InvalidArgumentError("pack the sequences where there is an adapter", where="Attention")
            return packing.run(self.forward, x, state, return_state)
        projected = self.in_proj(x)
        qkv, gated = projected.split([self.d_qkv, 2 * self.d_mlp], dim=-1)
        qkv = qkv if added is None else qkv + added
        conv = None
        if self.conv1d is not None:
            before = None if state is None else state.conv
            qkv = self.conv1d(qkv, before, return_state=return_state, cu_seqlens=cu_seqlens)
            if return_state:
                qkv, conv = qkv
        rows = None if cu_seqlens is None else Rows.of(cu_seqlens, x.shape[1])
        if rows is not None:
            qkv = rows.spread(qkv)
        y, cache = self._attend(qkv, state, None if rows is None else rows.present)
        y = y.flatten(-2)  # (B, L, H E)
        if rows is not None:
            y = rows.gather(y)
        if self.d_mlp:
            value, gate = gated.chunk(2, dim=-1)
            y = torch.cat([y, value * functional.silu(gate)], dim=-1)
        out = self.out_proj(y)
        return (out, AttentionState(*cache, conv=conv)) if return_state else out

    def _attend(self, qkv: Tensor, state: AttentionState | None, present: Tensor | None) -> tuple[Tensor, KeyValues]:
        """(B, L, (H + 2G) E) -> context (B, L, H, E), and the cache with the new columns."""
        G, E = self.kv_heads, self.head_dim
        q, k, v = (part.unflatten(-1, (-1, E)) for part in qkv.split([self.heads * E, G * E, G * E], dim=-1))
        k = scaled(k, self.key_multiplier)
        past = 0 if state is None else state.key.shape[1]
        shown = None if state is None else state.present
        if present is not None or shown is not None:
            shown = qkv.new_ones(qkv.shape[0], past, dtype=torch.bool) if shown is None else shown
            present = qkv.new_ones(qkv.shape[:2], dtype=torch.bool) if present is None else present
            present = torch.cat([shown, present], 1)  # (B, past + L)
        if self.rotary is not None:
            if present is None:
                positions = torch.arange(past + qkv.shape[1], device=qkv.device)[past:]  # (L)
            else:
                positions = (present.cumsum(1) - 1)[:, past:]  # (B, L)
            cos, sin = self.rotary.tables(positions, qkv)
            q, k = self.rotary.turn(q, cos, sin), self.rotary.turn(k, cos, sin)
        if state is not None:
            k = torch.cat([state.key.to(k.dtype), k], 1)  # (B, past + L, G, E)
            v = torch.cat([state.value.to(v.dtype), v], 1)
        cache = KeyValues(k, v, present)
        traced = torch.compiler.is_compiling() or torch.compiler.is_exporting()
        cache = cache if traced else trimmed(cache)
        return attention(q, k, v, present, scale=self.scale, window=self.window), cache


def attention(
    q: Tensor,  # (B, L, H, E)
    k: Tensor,  # (B, S, G, E), of the last L columns the queries' own
    v: Tensor,  # (B, S, G, F)
    present: Tensor | None = None,  # (B, S) bool: columns that are tokens
    *,
    scale: float,
    window: int = 0,
) -> Tensor:
    """Causal attention (B, L, H, F): query i sees column i + S - L and those before it, the last `window` where > 0.

    A query whose own column is none sees numbers that mean nothing, but are finite.
    """
    if not torch.is_grad_enabled():
        mask = None
        if present is not None:
            seen = visible(q.shape[1], k.shape[1], present, window, q.device)  # (B, L, S)
            mask = torch.zeros_like(seen, dtype=q.dtype).masked_fill(~seen, -math.inf)
            mask = mask.unsqueeze(1).expand(-1, q.shape[2], -1, -1)  # (B, H, L, S)
        causal = present is None
        y: Tensor = torch.ops.mambasdk.attention(q, k, v, mask, scale, causal, window if causal else 0)[0]
        return y
    shown = None
    if present is not None or window or q.shape[1] != k.shape[1]:
        shown = visible(q.shape[1], k.shape[1], present, window, q.device).unsqueeze(-3)
    groups = q.shape[2] // k.shape[2]
    k, v = (t.repeat_interleave(groups, 2) if groups > 1 else t for t in (k, v))
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    context = functional.scaled_dot_product_attention(q, k, v, shown, is_causal=shown is None, scale=scale)
    return context.transpose(1, 2)


def visible(queries: int, columns: int, present: Tensor | None, window: int, device: Any) -> Tensor:
    """Which columns each query sees: (L, S) bool, or (B, L, S) with `present` (B, S)."""
    column = torch.arange(columns, device=device)
    own = column[columns - queries :].unsqueeze(1)  # (L, 1)
    seen = column <= own  # (L, S)
    if present is None:
        return seen & (column > own - window) if window else seen
    seen = seen & present.unsqueeze(1)  # (B, L, S)
    if window:
        token = present.cumsum(1)  # (B, S), which of its row's tokens a column is
        seen = seen & (token.unsqueeze(1) > token[:, columns - queries :].unsqueeze(2) - window)
    return seen | (column == own)
