"""A stack of blocks with a final norm, and a token embedding in front where there is a vocabulary."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mambasdk.errors import InvalidArgumentError, ShapeError
from mambasdk.nn.packing import Packing
from mambasdk.nn.precision import MarkedParameters, scaled
from mambasdk.nn.state import ModelState


@dataclass
class StackOutput:
    """hidden: (B, L, D) after norm_f; hidden_states: input of the first block, then the sum after each block."""

    hidden: Tensor
    state: ModelState | None = None
    hidden_states: list[Tensor] | None = None


torch.export.register_dataclass(StackOutput, serialized_type_name="mambasdk.nn.StackOutput")


class MixerModel(nn.Module):
    """embedding (optional) -> blocks -> norm_f.

    blocks: the layers, first to last, with the call of `mambasdk.nn.Block`. norm_f: the final norm. vocab_size: rows of
    the embedding, padding included; None for a stack that is fed vectors. residuals_per_layer: divisor in the
    initialisation of `out_proj` and `fc2`; the published language models use 1 even where there is an MLP.
    embedding_multiplier: of the embeddings of tokens.
    """

    def __init__(
        self,
        blocks: Sequence[nn.Module],
        norm_f: nn.Module,
        d_model: int,
        *,
        vocab_size: int | None = None,
        residuals_per_layer: int = 1,
        initializer_range: float = 0.02,
        embedding_multiplier: float = 1.0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.d_model = d_model
        self.embedding_multiplier = embedding_multiplier
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
        layers = [layer.initial_state(batch_size) for layer in self._blocks()]
        device = next(self.parameters()).device
        return ModelState(layers, torch.zeros(batch_size, dtype=torch.int64, device=device))

    def _blocks(self) -> list[Any]:
        """The blocks in their order; a layer may hold several."""
        return list(self.layers)

    def _shared_arguments(self, given: Tensor, position_data: Tensor | None) -> dict[str, Any]:
        """What every block is given beside its own arguments. given: tokens (B, L) or vectors, packed under a mask."""
        return {}

    def forward(
        self,
        tokens: Tensor | None = None,  # (B, L) integers
        state: ModelState | None = None,
        *,
        inputs_embeds: Tensor | None = None,  # (B, L, D) in place of tokens
        return_state: bool = True,
        mask: Tensor | None = None,  # (B, L), 1 or True where there is a token
        cu_seqlens: Tensor | None = None,  # (S+1) int32 with B = 1
        position_data: Tensor | None = None,  # (B, L, …), what a subclass knows of each position
        output_hidden_states: bool = False,
    ) -> StackOutput:
        """Run the stack; see `Mamba.forward` for state, mask and cu_seqlens. Raises ShapeError.

        With a mask the layers see tokens alone, packed one after another; hidden states are zero where there is none.
        """
        given = self._input(tokens, inputs_embeds)
        blocks = self._blocks()
        batch = _check_packing(given, state, cu_seqlens, len(blocks))
        layer_states: list[Any] = [None] * len(blocks) if state is None else list(state)
        packing = Packing.of(mask, given, "MixerModel", cu_seqlens)
        seen = _new_tokens(given, batch, packing, cu_seqlens)
        if state is not None:
            seen = state.tokens_seen + seen
        if packing is not None:
            given, cu_seqlens = packing.pack(given), packing.cu_seqlens
            layer_states = [packing.extend(layer) for layer in layer_states]
            position_data = None if position_data is None else packing.pack(position_data)
        if self.embedding is None or inputs_embeds is not None:
            h = given
        else:
            h = scaled(self.embedding(given), self.embedding_multiplier)
        embedded = h
        residual: Tensor | None = None
        states: list[Any] = []
        hidden_states = [h] if output_hidden_states else None
        shared = self._shared_arguments(given, position_data)
        for index, layer in enumerate(blocks):
            h, residual, layer_state = self._run(
                layer,
                embedded,
                h,
                residual,
                layer_states[index],
                return_state=return_state,
                cu_seqlens=cu_seqlens,
                **shared,
            )
            states.append(layer_state)
            if hidden_states is not None:
                hidden_states.append(h + residual)
        hidden = self.norm_f(h) if residual is None else self.norm_f(h, residual)[0]
        if packing is not None:
            hidden = packing.unpack(hidden)
            hidden_states = None if hidden_states is None else [packing.unpack(total) for total in hidden_states]
            states = [packing.trim(layer) for layer in states]
        return StackOutput(hidden, ModelState(states, seen) if return_state else None, hidden_states)

    def _run(self, layer: nn.Module, embedded: Tensor, *arguments: Any, **options: Any) -> Any:
        """Call a layer; embedded: what the first one was given, for stacks whose layers go back to it."""
        return layer(*arguments, **options)

    def _input(self, tokens: Tensor | None, inputs_embeds: Tensor | None) -> Tensor:
        """What the stack is fed: tokens (B, L), or vectors (B, L, D)."""
        if (tokens is None) == (inputs_embeds is None):
            raise InvalidArgumentError("give either tokens or inputs_embeds", where="MixerModel")
        if inputs_embeds is not None:
            if inputs_embeds.ndim != 3:
                got = tuple(inputs_embeds.shape)
                raise ShapeError("bad inputs_embeds", where="MixerModel", expected="(B, L, D)", got=got)
            return inputs_embeds
        if self.embedding is None:
            raise InvalidArgumentError("the stack has no embedding; give inputs_embeds", where="MixerModel")
        assert tokens is not None
        if tokens.ndim != 2:
            raise ShapeError("bad tokens", where="MixerModel", expected="(B, L)", got=tuple(tokens.shape))
        return tokens


def init_blocks(layers: nn.ModuleList, residuals_per_layer: int) -> None:
    """Zero linear biases; draw what ends a residual branch smaller the deeper the stack (GPT-2)."""
    scale = 1 / math.sqrt(max(len(layers), 1) * residuals_per_layer)
    for name, module in layers.named_modules():
        if not isinstance(module, nn.Linear):
            continue
        kept = isinstance(module, MarkedParameters) and "bias" in module.no_reinit
        if module.bias is not None and not kept and not getattr(module.bias, "_no_reinit", False):
            nn.init.zeros_(module.bias)
        if re.sub(r"\.\d+$", "", name).endswith(("out_proj", "fc2")):  # one of a list, too
            nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5))
            with torch.no_grad():
                module.weight.mul_(scale)


def _check_packing(given: Tensor, state: ModelState | None, cu_seqlens: Tensor | None, layers: int) -> int:
    """The number of sequences, B or S."""
    batch = given.shape[0]
    if cu_seqlens is not None:
        if batch != 1:
            raise ShapeError("packed sequences need batch 1", where="MixerModel", got=f"batch {batch}")
        batch = cu_seqlens.shape[0] - 1
    if state is not None and (len(state) != layers or state.batch_size != batch):
        raise ShapeError(
            "state of another model or batch",
            where="MixerModel",
            expected=f"{layers} layers, batch {batch}",
            got=f"{len(state)} layers, batch {state.batch_size}",
        )
    return batch


def _new_tokens(given: Tensor, batch: int, packing: Packing | None, cu_seqlens: Tensor | None) -> Tensor:
    """(sequences) int64: tokens of this call, positions without one not counted."""
    if packing is not None:
        return packing.lengths
    if cu_seqlens is not None:
        return cu_seqlens.diff().to(torch.int64)
    return torch.full((batch,), given.shape[1], dtype=torch.int64, device=given.device)
