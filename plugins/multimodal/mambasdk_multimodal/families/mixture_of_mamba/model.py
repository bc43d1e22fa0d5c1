"""The model of the family `mixture_of_mamba`: embeddings, layers of two blocks, a head over the tokens; and, where the
last modality is of latent vectors, a way in for them and a way out for their noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mambasdk.errors import InvalidArgumentError, ShapeError
from mambasdk.nn import ModelOutput, ModelState, RMSNorm
from mambasdk.nn.causal_lm import next_token_loss
from mambasdk_language.families.mamba.model import mixer_options
from mambasdk_language.model import LanguageModel
from mambasdk_multimodal.diffusion import TimeEmbedding
from mambasdk_multimodal.families.mixture_of_mamba.config import MixtureOfMambaConfig
from mambasdk_multimodal.nn import MixtureBlock, MixtureLayer, MixtureModel, MixtureOfMamba, check_modality, modality_of

_WHERE = "mixture_of_mamba"


@dataclass
class MultimodalOutput(ModelOutput):
    """A ModelOutput. noise: (B, L, P), what the model takes for noise in the latents; None in a model without them."""

    noise: Tensor | None = None


torch.export.register_dataclass(MultimodalOutput, serialized_type_name="mambasdk_multimodal.MultimodalOutput")


class MultimodalModel(LanguageModel):
    """Tokens of several modalities, and latent vectors among them, to logits of the next token and to noise.

    A token's modality is given, or follows from its id. Where the configuration has `latent_dim`, a position of the
    last modality is a vector: the model reads `latents` and `times` there, and no embedding of the token.
    """

    backbone: MixtureModel

    def __init__(self, backbone: MixtureModel, config: MixtureOfMambaConfig) -> None:
        super().__init__(backbone, config.vocab_size, tie_embeddings=config.tie_embeddings)
        self.config = config
        if config.latent_dim:
            self.latent_in = nn.Linear(config.latent_dim, config.d_model)
            self.time_embedding = TimeEmbedding(config.d_model, config.diffusion_steps)
            self.latent_out = nn.Linear(config.d_model, config.latent_dim)

    def forward(  # type: ignore[override]
        self,
        tokens: Tensor,  # (B, L) integers below Vp
        state: ModelState | None = None,
        *,
        modality: Tensor | None = None,  # (B, L) integers; None: by the ranges of the ids
        latents: Tensor | None = None,  # (B, L, P), read where the modality is the last
        times: Tensor | None = None,  # (B, L) levels of noise, 0 to diffusion_steps
        labels: Tensor | None = None,  # (B, L) integers, -100 where not counted
        mask: Tensor | None = None,  # (B, L), 1 or True where there is a token
        cu_seqlens: Tensor | None = None,  # (S+1) int32, offsets of sequences packed into batch 1
        return_state: bool = True,
        output_hidden_states: bool = False,
        logits_to_keep: int | None = None,
    ) -> MultimodalOutput:
        """As `mambasdk.nn.CausalLM.forward`, with modalities and latents.

        Rows of a batch may have different modalities at the same place. Raises ShapeError, and InvalidArgumentError
        for a modality that is none, with its place and value.
        """
        if modality is not None:
            check_modality(modality, tokens, len(self.backbone.ranges), _WHERE, mask)
        embedded = None
        if self.config.latent_dim:
            tokens = tokens if mask is None else torch.where(mask != 0, tokens, 0)
            modality = modality_of(tokens, self.backbone.ranges) if modality is None else modality
            embedded = self._with_latents(tokens, modality, latents, times, mask)
        elif latents is not None or times is not None:
            raise InvalidArgumentError("a model without latent_dim takes no latents", where=_WHERE)
        out = self.backbone(
            tokens if embedded is None else None,
            state,
            inputs_embeds=embedded,
            return_state=return_state,
            mask=mask,
            cu_seqlens=cu_seqlens,
            position_data=modality,
            output_hidden_states=output_hidden_states,
        )
        hidden = out.hidden
        if logits_to_keep is not None:
            if labels is not None:
                raise InvalidArgumentError("logits_to_keep leaves out positions that labels need", where=_WHERE)
            hidden = hidden[:, max(hidden.shape[1] - logits_to_keep, 0) :]
        logits = self.lm_head(hidden)  # (B, L, Vp)
        loss = None if labels is None else next_token_loss(logits, labels, mask=mask, cu_seqlens=cu_seqlens)
        noise = self.latent_out(hidden) if self.config.latent_dim else None
        return MultimodalOutput(logits, out.state, loss, out.hidden_states, noise)

    def _with_latents(
        self, tokens: Tensor, modality: Tensor, latents: Tensor | None, times: Tensor | None, mask: Tensor | None
    ) -> Tensor:
        """(B, L, D): embeddings of tokens, and of latents and their noise where the modality is the last."""
        size = self.config.latent_dim
        if latents is None:
            latents = self.latent_in.weight.new_zeros(*tokens.shape, size)
        if times is None:
            times = torch.zeros(tokens.shape, device=tokens.device)
        if latents.shape != (*tokens.shape, size) or times.shape != tokens.shape:
            raise ShapeError(
                "bad latents or times",
                where=_WHERE,
                expected=f"{(*tokens.shape, size)} and {tuple(tokens.shape)}",
                got=f"{tuple(latents.shape)} and {tuple(times.shape)}",
            )
        there = (modality == len(self.backbone.ranges) - 1).unsqueeze(-1)
        if mask is not None:
            there = there & (mask != 0).unsqueeze(-1)
        latents, times = torch.where(there, latents, 0), torch.where(there.squeeze(-1), times, 0)
        vectors = self.latent_in(latents.to(self.latent_in.weight.dtype)) + self.time_embedding(times)
        assert self.backbone.embedding is not None
        return torch.where(there, vectors, self.backbone.embedding(tokens))

    def is_latent(self, tokens: Tensor) -> Tensor:
        """(…) bool: where a token stands for a latent vector."""
        if not self.config.latent_dim:
            return torch.zeros_like(tokens, dtype=torch.bool)
        return modality_of(tokens, self.backbone.ranges) == len(self.backbone.ranges) - 1

    def package_processors(self) -> Mapping[str, Mapping[str, Any]]:
        """The family's, with the modalities; text alone is no input of a model that reads latents too."""
        processors = super().package_processors()
        document = {"modalities": list(self.config.modalities), "ranges": list(self.config.modality_ranges)}
        if self.config.latent_dim:
            return {"document": {"kind": "multimodal", **document, "latent_dim": self.config.latent_dim}}
        return {**processors, "document": {"kind": "multimodal", **document, "alternative_to": "text"}}

    def native_outputs(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """{"tokens"}, with latents also {"latents", "times"} -> {"logits", "last_logits"}, also {"noise"}."""
        return self._outputs(self(**inputs, return_state=False))

    def native_step(self, inputs: dict[str, Tensor], state: ModelState) -> tuple[dict[str, Tensor], ModelState]:
        """`native_outputs` of what continues `state`, and the state after it."""
        inputs = dict(inputs)
        out = self(inputs.pop("tokens"), state, **inputs)
        assert out.state is not None
        return self._outputs(out), out.state

    def _outputs(self, out: MultimodalOutput) -> dict[str, Tensor]:
        named = self._named(out)
        return named if out.noise is None else {**named, "noise": out.noise.float()}

    def input_shapes(self) -> dict[str, list[int | str]]:
        """Batch and length are free."""
        shapes: dict[str, list[int | str]] = {"tokens": ["B", "L"]}
        if self.config.latent_dim:
            shapes |= {"latents": ["B", "L", self.config.latent_dim], "times": ["B", "L"]}
        return shapes

    def example_inputs(self) -> dict[str, Tensor]:
        """Two sequences of 24 tokens of every modality, the same on every machine."""
        inputs = super().example_inputs()
        tokens = inputs["tokens"]
        if self.config.latent_dim:
            steps = torch.arange(tokens.numel() * self.config.latent_dim, dtype=torch.float32)
            inputs["latents"] = torch.sin(steps * 0.7).reshape(*tokens.shape, -1)
            inputs["times"] = (torch.arange(tokens.numel()).reshape(tokens.shape) * 37 % 100).float()
            assert self.config.latent_token is not None
            inputs["tokens"] = torch.where(
                torch.arange(tokens.shape[1]) % 6 > 2, self.config.latent_token, tokens % self.config.latent_token
            ).to(torch.int32)
        return inputs


def build(config: MixtureOfMambaConfig) -> MultimodalModel:
    """The module of a configuration, freshly initialised; also on the meta device."""
    layers = [MixtureLayer(_block(config), _block(config)) for _ in range(config.n_layer)]
    backbone = MixtureModel(
        layers,
        RMSNorm(config.d_model, config.norm_epsilon),
        config.d_model,
        list(config.modality_ranges),
        vocab_size=config.padded_vocab_size,
        initializer_range=config.initializer_range,
    )
    return MultimodalModel(backbone, config)


def mixer_of(config: MixtureOfMambaConfig, **more: Any) -> MixtureOfMamba:
    """A mixer of a configuration. more: its other arguments."""
    return MixtureOfMamba(
        modalities=len(config.modality_ranges),
        shared=config.shared,
        dt_bias=config.dt_bias,
        **mixer_options(config),
        **more,
    )


def _block(config: MixtureOfMambaConfig) -> MixtureBlock:
    norm = RMSNorm(config.d_model, config.norm_epsilon)
    return MixtureBlock(mixer_of(config), norm, residual_in_fp32=config.residual_in_fp32)
