"""Transformer blocks that several layers share, each with adapters of its own. Source: arXiv 2411.15242."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mambasdk.nn import Attention, Block, GatedMLP, Mamba2, Mamba2State, MixerModel, RMSNorm
from mambasdk_language.nn.paired import PairedState


class SharedTransformer(nn.Module):
    """Attention over the sum so far beside the embeddings, 2D channels -> D, then an MLP; no residual inside."""

    def __init__(self, attention: Attention, mlp: GatedMLP, eps: float) -> None:
        super().__init__()
        self.norm = RMSNorm(attention.d_input, eps)
        self.attention = attention
        self.norm2 = RMSNorm(attention.d_model, eps)
        self.mlp = mlp


class Adapter(nn.Module):
    """A product of low rank: (…, D) -> (…, O) through R channels."""

    def __init__(self, dim: int, rank: int, out: int) -> None:
        super().__init__()
        self.down = nn.Linear(dim, rank, bias=False)
        self.up = nn.Linear(rank, out, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map x."""
        y: Tensor = self.up(self.down(x))
        return y


class SharedBlock(Block):
    """`residual + mamba(norm(residual + linear(transformer(residual, embeddings))))`.

    which: the shared transformer that the layer calls. rank: of the adapters of its MLP and, with
    `attention_adapters`, of its queries, keys and values.
    """

    def __init__(
        self,
        mixer: Mamba2,
        norm: nn.Module,
        transformer: SharedTransformer,
        which: int,
        *,
        rank: int,
        attention_adapters: bool,
        **options: Any,
    ) -> None:
        super().__init__(mixer, norm, **options)
        self.which = which
        attention, mlp = transformer.attention, transformer.mlp
        self.linear = nn.Linear(attention.d_model, attention.d_model, bias=False)
        self.mlp_adapter = Adapter(attention.d_model, rank, 2 * mlp.hidden)
        width, kv_width = attention.heads * attention.head_dim, attention.kv_heads * attention.head_dim
        self.qkv_adapters = (
            nn.ModuleList(Adapter(attention.d_input, rank, out) for out in (width, kv_width, kv_width))
            if attention_adapters
            else None
        )
        self._empty_cache = (attention.kv_heads, attention.head_dim)

    def initial_state(self, batch_size: int) -> PairedState:
        """The mixer's zero state and the empty cache of this call of the transformer."""
        mixer: Any = self.mixer
        cache = mixer.in_proj.weight.new_zeros(batch_size, 0, *self._empty_cache)
        start: Mamba2State = mixer.initial_state(batch_size)
        return PairedState(start.conv, start.ssm, cache, cache.clone())

    def forward(  # type: ignore[override]
        self,
        h: Tensor,  # (B, L, D)
        residual: Tensor | None = None,  # (B, L, D)
        state: PairedState | None = None,
        *,
        embedded: Tensor,  # (B, L, D)
        transformer: SharedTransformer,
        return_state: bool = False,
        **options: Any,
    ) -> tuple[Tensor, Tensor, Any]:
        """See `Block.forward`. embedded: the embeddings of the tokens."""
        options["return_state"] = return_state
        total = h if residual is None else h + residual
        total = total.float() if self.residual_in_fp32 and total.dtype.itemsize < 4 else total
        x = transformer.norm(torch.cat([total.to(h.dtype), embedded], -1))
        added = None if self.qkv_adapters is None else torch.cat([adapter(x) for adapter in self.qkv_adapters], -1)
        y = transformer.attention(x, None if state is None else state.attention, added=added, **options)
        if return_state:
            y, attention_state = y
        y = transformer.norm2(y)
        y = self.linear(transformer.mlp(y, self.mlp_adapter(y)))
        out = self.mixer(self.norm(total.to(h.dtype) + y), None if state is None else state.mamba, **options)
        if not return_state:
            return out, total, None
        out, mamba_state = out
        return out, total, PairedState.of(mamba_state, attention_state)


class SharingModel(MixerModel):
    """A stack whose SharedBlocks call the transformers that it holds."""

    def __init__(self, *arguments: Any, transformers: list[SharedTransformer], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.shared = nn.ModuleList(transformers)

    def _run(self, layer: nn.Module, embedded: Tensor, *arguments: Any, **options: Any) -> Any:
        if not isinstance(layer, SharedBlock):
            return layer(*arguments, **options)
        return layer(*arguments, embedded=embedded, transformer=self.shared[layer.which], **options)
