"""A causal language model: a stack with an embedding, and a head over the vocabulary, tied or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mambasdk.errors import InvalidArgumentError, ShapeError
from mambasdk.lowering import Model
from mambasdk.nn.packing import Packing
from mambasdk.nn.precision import accumulate_dtype, scaled
from mambasdk.nn.stack import MixerModel
from mambasdk.nn.state import ModelState

IGNORE_INDEX = -100


@dataclass
class ModelOutput:
    """What a causal model returns.

    logits: (B, L, Vp), Vp the padded vocabulary. state: continues the sequence. loss: mean cross entropy in nats where
    labels were given. hidden_states: where asked for, the embedding, then the residual sum after each block.
    """

    logits: Tensor
    state: ModelState | None = None
    loss: Tensor | None = None
    hidden_states: list[Tensor] | None = None


torch.export.register_dataclass(ModelOutput, serialized_type_name="mambasdk.nn.ModelOutput")


class CausalLM(nn.Module, Model):
    """backbone -> lm_head.

    backbone: a MixerModel with an embedding of Vp rows. vocab_size: how many of them are real tokens; the native
    program gives logits of those only. tie_embeddings: the head shares the embedding's matrix. logits_multiplier: of
    the head's output.
    """

    vocab_size: int

    def __init__(
        self,
        backbone: MixerModel,
        vocab_size: int,
        *,
        tie_embeddings: bool = True,
        logits_multiplier: float = 1.0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if backbone.embedding is None:
            raise InvalidArgumentError("the backbone has no embedding", where="CausalLM")
        padded = backbone.embedding.num_embeddings
        if not 0 < vocab_size <= padded:
            raise InvalidArgumentError("bad vocab_size", where="CausalLM", expected=f"1 to {padded}", got=vocab_size)
        self.vocab_size = vocab_size
        self.tie_embeddings = tie_embeddings
        self.logits_multiplier = logits_multiplier
        self.backbone = backbone
        if tie_embeddings:
            self.lm_head = nn.Linear(backbone.d_model, padded, bias=False, device="meta", dtype=dtype)
        else:
            self.lm_head = nn.Linear(backbone.d_model, padded, bias=False, device=device, dtype=dtype)
        self.tie_weights()

    @property
    def padded_vocab_size(self) -> int:
        """Vp: rows of the embedding, columns of the logits."""
        return self.lm_head.out_features

    def tie_weights(self) -> None:
        """Make the head share the embedding's matrix, where it is tied."""
        if self.tie_embeddings:
            assert self.backbone.embedding is not None
            self.lm_head.weight = self.backbone.embedding.weight

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        result = super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.tie_weights()  # to_empty makes one parameter per name
        return result

    def initial_state(self, batch_size: int) -> ModelState:
        """The zero state: what a call without a state starts from."""
        return self.backbone.initial_state(batch_size)

    def forward(
        self,
        tokens: Tensor | None = None,  # (B, L) integers below Vp
        state: ModelState | None = None,
        *,
        inputs_embeds: Tensor | None = None,  # (B, L, D) in place of tokens
        labels: Tensor | None = None,  # (B, L) integers, -100 where not counted
        mask: Tensor | None = None,  # (B, L), 1 or True where there is a token
        cu_seqlens: Tensor | None = None,  # (S+1) int32, offsets of sequences packed into batch 1
        return_state: bool = True,
        output_hidden_states: bool = False,
        logits_to_keep: int | None = None,
    ) -> ModelOutput:
        """Logits, state and, with `labels` (usually the tokens themselves), the next-token loss.

        The loss compares each token with the label of the next one inside its sequence. logits_to_keep: only that many
        last positions (columns, whatever the mask) go through the head. Logits are zero where the mask has no token.
        Raises ShapeError.
        """
        out = self.backbone(
            tokens,
            state,
            inputs_embeds=inputs_embeds,
            return_state=return_state,
            mask=mask,
            cu_seqlens=cu_seqlens,
            output_hidden_states=output_hidden_states,
        )
        hidden = out.hidden
        if logits_to_keep is not None:
            if labels is not None:
                raise InvalidArgumentError("logits_to_keep leaves out positions that labels need", where="CausalLM")
            hidden = hidden[:, max(hidden.shape[1] - logits_to_keep, 0) :]
        logits = scaled(self.lm_head(hidden), self.logits_multiplier)  # (B, L, Vp)
        loss = None if labels is None else next_token_loss(logits, labels, mask=mask, cu_seqlens=cu_seqlens)
        return ModelOutput(logits, out.state, loss, out.hidden_states)

    def native_outputs(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """What the native program computes, in torch: {"tokens"} -> {"logits", "last_logits"}."""
        return self._named(self(inputs["tokens"], return_state=False))

    def native_step(self, inputs: dict[str, Tensor], state: ModelState) -> tuple[dict[str, Tensor], ModelState]:
        """`native_outputs` of tokens that continue `state`, and the state after them."""
        out = self(inputs["tokens"], state)
        return self._named(out), out.state

    def _named(self, out: ModelOutput) -> dict[str, Tensor]:
        logits = out.logits[..., : self.vocab_size].float()
        return {"logits": logits, "last_logits": logits[:, -1]}

    def input_shapes(self) -> dict[str, list[int | str]]:
        """Batch and length are free."""
        return {"tokens": ["B", "L"]}

    def example_inputs(self) -> dict[str, Tensor]:
        """Inputs for a package's golden file: two sequences of 24 tokens, the same on every machine."""
        steps = torch.arange(48, dtype=torch.int64).reshape(2, 24)
        return {"tokens": ((steps * 7919 + 17) % self.vocab_size).to(torch.int32)}


def next_token_loss(
    logits: Tensor, labels: Tensor, *, mask: Tensor | None = None, cu_seqlens: Tensor | None = None
) -> Tensor:
    """Mean cross entropy, in float32, of logits (B, L, V) at t with labels (B, L) at the next token of the sequence.

    Left out are labels of -100 and, with a mask, positions without a token.
    """
    if labels.shape != logits.shape[:2]:
        raise ShapeError(
            "bad labels", where="next_token_loss", expected=tuple(logits.shape[:2]), got=tuple(labels.shape)
        )
    targets = labels.to(torch.int64)
    packing = Packing.of(mask, targets, "next_token_loss", cu_seqlens)
    if packing is not None:
        targets, cu_seqlens = packing.pack(targets), packing.cu_seqlens
    targets = functional.pad(targets, (0, 1), value=IGNORE_INDEX)
    if cu_seqlens is not None:
        # The first token of a sequence is not predicted by the last of the one before.
        targets = targets.index_fill(1, cu_seqlens.to(torch.int64), IGNORE_INDEX)
    targets = targets[:, 1:]
    if packing is not None:
        targets = packing.unpack(targets, IGNORE_INDEX)
    return functional.cross_entropy(
        accumulate_dtype(logits).flatten(0, 1), targets.flatten(), ignore_index=IGNORE_INDEX
    )
