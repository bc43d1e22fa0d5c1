"""A causal language model with `generate`: text or tokens, a batch or one, by the same loop and sampler as packages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, overload

import torch
from torch import Tensor, nn

from mambasdk.errors import InvalidArgumentError, ShapeError
from mambasdk.models.generation_config import token_ids
from mambasdk.nn import Block, CausalLM, GatedMLP, LayerNorm, MixerModel, RMSNorm
from mambasdk_language.config import LanguageModelConfig
from mambasdk_language.decoding import TorchDecoder
from mambasdk_language.generation import Generation, generate, options_of
from mambasdk_language.sampling import GenerationOptions
from mambasdk_language.token_run import TokenRun


class LanguageModel(CausalLM):
    """A CausalLM that continues text and tokens."""

    @overload
    def generate(self, prompt: Tensor, **options: Any) -> Tensor: ...
    @overload
    def generate(self, prompt: str, **options: Any) -> Generation: ...
    @overload
    def generate(self, prompt: Sequence[str], **options: Any) -> list[Generation]: ...
    def generate(self, prompt: Tensor | str | Sequence[str], **options: Any) -> Tensor | Generation | list[Generation]:
        """Continue a text, a list of texts as one batch, or token ids.

        Text: see `mambasdk_language.generate`; the processor is that of the package or checkpoint that the model came
        from, raw bytes for a model of 256 tokens, or `processor=`.
        Tokens (B, L) or (L), integers below vocab_size: gives (B, L + N) or (L + N) on the same device, N of the
        longest row; rows that end earlier are filled with `pad_token_id`. options:
            mask (B, L): 1 or True where there is a token; others are as if they were not there.
            eos_token_id: an id or several that end a row; the end token is the last one kept.
            pad_token_id (the first end token, else 0).
            on_token(row, token): called with each new token; returning False ends the row.
            max_new_tokens, temperature, top_k, top_p, min_p, repetition_penalty, seed: as for text.
        The state is carried from token to token, so that each costs the same. The model runs in eval mode.
        Raises InvalidArgumentError, ShapeError.
        """
        training = self.training
        self.eval()
        try:
            if isinstance(prompt, Tensor):
                return _continue_tokens(self, prompt, **options)
            return generate(self, prompt, **options)
        finally:
            self.train(training)


def language_model(config: LanguageModelConfig, mixers: list[Any]) -> LanguageModel:
    """Embedding, a pre-norm block around each mixer, final norm and head, as state-spaces/mamba has them."""

    def norm() -> nn.Module:
        kind = RMSNorm if config.rms_norm else LayerNorm
        return kind(config.d_model, eps=config.norm_epsilon)

    def block(mixer: nn.Module) -> Block:
        mlp = config.d_intermediate > 0
        return Block(
            mixer,
            norm(),
            mlp=GatedMLP(config.d_model, config.d_intermediate) if mlp else None,
            norm2=norm() if mlp else None,
            residual_in_fp32=config.residual_in_fp32,
        )

    backbone = MixerModel(
        [block(mixer) for mixer in mixers],
        norm(),
        config.d_model,
        vocab_size=config.padded_vocab_size,
        initializer_range=config.initializer_range,
    )
    return LanguageModel(backbone, config.vocab_size, tie_embeddings=config.tie_embeddings)


def _continue_tokens(
    model: LanguageModel,
    tokens: Tensor,
    *,
    mask: Tensor | None = None,
    eos_token_id: int | Sequence[int] | None = None,
    pad_token_id: int | None = None,
    on_token: Callable[[int, int], bool | None] | None = None,
    **given: Any,
) -> Tensor:
    rows = tokens if tokens.ndim == 2 else tokens.unsqueeze(0)  # (B, L)
    if tokens.ndim not in (1, 2) or tokens.is_floating_point() or tokens.dtype == torch.bool:
        raise ShapeError(
            "bad tokens",
            where="generate",
            expected="integers (B, L) or (L)",
            got=f"{tokens.dtype} {tuple(tokens.shape)}",
        )
    if "stop" in given:
        raise InvalidArgumentError("tokens have no stop text", where="generate", way_out="give a text, or eos_token_id")
    if rows.numel() and not (int(rows.min()) >= 0 and int(rows.max()) < model.vocab_size):
        raise InvalidArgumentError("token out of range", where="generate", expected=f"0 to {model.vocab_size - 1}")
    kept = torch.ones_like(rows, dtype=torch.bool) if mask is None else mask.reshape(rows.shape).to(torch.bool)
    prompts = [row[real].tolist() for row, real in zip(rows.cpu(), kept.cpu(), strict=True)]
    for index, prompt in enumerate(prompts):
        if not prompt:
            raise InvalidArgumentError("the prompt has no tokens", where=f"generate: row {index}")
    ends = token_ids(eos_token_id, "generate: eos_token_id")
    defaults = {name: value for name, value in options_of(model).items() if name != "stop"}
    run = TokenRun(TorchDecoder(model), prompts, GenerationOptions.of(given, defaults), frozenset(ends))
    made: list[list[int]] = [[] for _ in prompts]
    for row, token in run.tokens():
        made[row].append(token)
        if on_token is not None and on_token(row, token) is False:
            run.end(row, "callback")
    for row, token in run.end_tokens.items():
        made[row].append(token)
    pad = pad_token_id if pad_token_id is not None else ends[0] if ends else 0
    longest = max(map(len, made), default=0)
    new = torch.tensor([row + [pad] * (longest - len(row)) for row in made], dtype=tokens.dtype, device=tokens.device)
    result = torch.cat([rows, new.reshape(len(prompts), longest)], 1)  # (B, L + N)
    return result if tokens.ndim == 2 else result[0]
