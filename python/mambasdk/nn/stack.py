"""A stack of blocks with a final norm, and a token embedding in front where there is a vocabulary."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mambasdk.errors import InvalidArgumentError, ShapeError
from mambasdk.lowering import Program, Value
from mambasdk.nn.block import Block
from mambasdk.nn.state import ModelState


@dataclass
class StackOutput:
    """hidden: (B, L, D) after norm_f; hidden_states: input of the first block, then the sum after each block."""

    hidden: Tensor
    state: ModelState | None = None
    hidden_states: list[Tensor] | None = None


torch.export.register_dataclass(StackOutput)


class MixerModel(nn.Module):
    """embedding (optional) -> blocks -> norm_f.

    blocks: the layers, first to last. norm_f: the final norm. vocab_size: rows of the embedding, padding included; None
    for a stack that is fed vectors. residuals_per_layer: divisor in the initialisation of `out_proj` and `fc2`; the
    published language models use 1 even where there is an MLP (spec section 4).
    """

    def __init__(
        self,
        blocks: Sequence[Block],
        norm_f: nn.Module,
        d_model: int,
        *,
        vocab_size: int | None = None,
        residuals_per_layer: int = 1,
        initializer_range: float = 0.02,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.d_model = d_model
        # Weights are drawn below; torch's own normal draw would be wasted.
        self.embedding = (
            None
            if vocab_size is None
            else nn.Embedding(vocab_size, d_model, _weight=torch.empty(vocab_size, d_model, device=device, dtype=dtype))
        )
        self.layers = nn.ModuleList(blocks)
        self.norm_f = norm_f
        if self.embedding is not None:
            nn.init.normal_(self.embedding.weight, std=initializer_range)
        init_blocks(self.layers, residuals_per_layer)

    def initial_state(self, batch_size: int) -> ModelState:
        """The zero state of all layers."""
        layers = [layer.mixer.initial_state(batch_size) for layer in self._blocks()]
        device = next(self.parameters()).device
        return ModelState(layers, torch.zeros(batch_size, dtype=torch.int64, device=device))

    def _blocks(self) -> list[Any]:
        return list(self.layers)

    def forward(
        self,
        tokens: Tensor | None = None,  # (B, L) integers
        state: ModelState | None = None,
        *,
        inputs_embeds: Tensor | None = None,  # (B, L, D) in place of tokens
        return_state: bool = True,
        mask: Tensor | None = None,  # (B, L)
        cu_seqlens: Tensor | None = None,  # (S+1) int32 with B = 1
        output_hidden_states: bool = False,
    ) -> StackOutput:
        """Run the stack; see `Mamba.forward` for state, mask and cu_seqlens. Raises ShapeError."""
        h = self._embed(tokens, inputs_embeds)
        _check_packing(h, state, mask, cu_seqlens, len(self.layers))
        residual: Tensor | None = None
        states: list[Any] = []
        hidden_states = [h] if output_hidden_states else None
        for index, layer in enumerate(self.layers):
            h, residual, layer_state = layer(
                h,
                residual,
                None if state is None else state[index],
                return_state=return_state,
                mask=mask,
                cu_seqlens=cu_seqlens,
            )
            states.append(layer_state)
            if hidden_states is not None:
                hidden_states.append(h + residual)
        hidden = self.norm_f(h) if residual is None else self.norm_f(h, residual)[0]
        new_state = ModelState(states, _tokens_seen(h, state, mask, cu_seqlens)) if return_state else None
        return StackOutput(hidden, new_state, hidden_states)

    def _embed(self, tokens: Tensor | None, inputs_embeds: Tensor | None) -> Tensor:
        if (tokens is None) == (inputs_embeds is None):
            raise InvalidArgumentError("give either tokens or inputs_embeds", where="MixerModel")
        if inputs_embeds is not None:
            return inputs_embeds
        if self.embedding is None:
            raise InvalidArgumentError("the stack has no embedding; give inputs_embeds", where="MixerModel")
        assert tokens is not None
        if tokens.ndim != 2:
            raise ShapeError("bad tokens", where="MixerModel", expected="(B, L)", got=tuple(tokens.shape))
        embedded: Tensor = self.embedding(tokens)
        return embedded

    def lower(self, program: Program, x: Value, prefix: str) -> tuple[Value, Value | None]:
        """Native form of everything before `norm_f`; x is tokens, or vectors without an embedding."""
        h, residual = x, None
        if self.embedding is not None:
            h = program.op("embedding", indices=x, weight=program.weight(f"{prefix}.embedding.weight"))
        for index, layer in enumerate(self._blocks()):
            h, residual = layer.lower(program, h, f"{prefix}.layers.{index}", residual)
        return h, residual

    def lower_norm(self, program: Program, h: Value, residual: Value | None, prefix: str) -> Value:
        """Native form of `norm_f`."""
        norm: Any = self.norm_f
        y: Value = norm.lower(program, h, f"{prefix}.norm_f", residual)[0]
        return y


def init_blocks(layers: nn.ModuleList, residuals_per_layer: int) -> None:
    """Zero linear biases; draw what ends a residual branch smaller the deeper the stack (GPT-2; spec section 4)."""
    scale = 1 / math.sqrt(max(len(layers), 1) * residuals_per_layer)
    for name, module in layers.named_modules():
        if not isinstance(module, nn.Linear):
            continue
        if module.bias is not None and not getattr(module.bias, "_no_reinit", False):
            nn.init.zeros_(module.bias)
        if name.rsplit(".", 1)[-1] in ("out_proj", "fc2"):
            nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5))
            with torch.no_grad():
                module.weight.mul_(scale)


def _check_packing(
    h: Tensor, state: ModelState | None, mask: Tensor | None, cu_seqlens: Tensor | None, layers: int
) -> None:
    if h.ndim != 3:
        raise ShapeError("bad inputs_embeds", where="MixerModel", expected="(B, L, D)", got=tuple(h.shape))
    batch = h.shape[0]
    if cu_seqlens is not None:
        if batch != 1 or mask is not None:
            raise ShapeError(
                "packed sequences need batch 1 and no mask",
                where="MixerModel",
                got=f"batch {batch}, mask {mask is not None}",
            )
        batch = cu_seqlens.shape[0] - 1
    if mask is not None and mask.shape != h.shape[:2]:
        raise ShapeError("bad mask", where="MixerModel", expected=tuple(h.shape[:2]), got=tuple(mask.shape))
    if state is not None and (len(state) != layers or state.batch_size != batch):
        raise ShapeError(
            "state of another model or batch",
            where="MixerModel",
            expected=f"{layers} layers, batch {batch}",
            got=f"{len(state)} layers, batch {state.batch_size}",
        )


def _tokens_seen(h: Tensor, state: ModelState | None, mask: Tensor | None, cu_seqlens: Tensor | None) -> Tensor:
    """(B) int64: tokens so far of each sequence, padding not counted."""
    if cu_seqlens is not None:
        new = cu_seqlens.diff().to(torch.int64)
    elif mask is not None:
        new = (mask != 0).sum(dim=1)
    else:
        new = torch.full((h.shape[0],), h.shape[1], dtype=torch.int64, device=h.device)
    return new if state is None else state.tokens_seen + new
