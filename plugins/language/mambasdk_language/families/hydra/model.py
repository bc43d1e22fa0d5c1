"""Hydra as a text encoder: embeddings, mixers, and what stands on them. Parameter names are upstream's."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from mambasdk.models import create_model, identity
from mambasdk.nn import Hydra, LayerNorm, MatrixMixer, Model
from mambasdk.nn.packing import Packing
from mambasdk_language.families.hydra.config import HydraConfig

HEADS = {"masked_lm": "fill_mask", "classification": "text_classification", "regression": "text_regression"}


class EncoderOutput(NamedTuple):
    """logits: (B, L, vocab_size) of a masked language model, else (B, labels). loss: None without labels.

    hidden: (B, L, D), what the encoder gives.
    """

    logits: Tensor
    loss: Tensor | None
    hidden: Tensor


class Embeddings(nn.Module):
    """Words, token types and perhaps positions, then norm and dropout."""

    def __init__(self, config: HydraConfig) -> None:
        super().__init__()
        dim = config.d_model
        self.word_embeddings = nn.Embedding(config.padded_vocab_size, dim)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, dim)
        self.position_embeddings = nn.Embedding(config.max_positions, dim) if config.max_positions else None
        self.LayerNorm = LayerNorm(dim, eps=config.embedding_norm_epsilon)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, tokens: Tensor, types: Tensor | None, positions: Tensor) -> Tensor:
        """(B, L, D) of integers (B, L); types None: all 0."""
        h = self.word_embeddings(tokens)
        h = h + (self.token_type_embeddings.weight[0] if types is None else self.token_type_embeddings(types))
        if self.position_embeddings is not None:
            h = h + self.position_embeddings(positions)
        y: Tensor = self.dropout(self.LayerNorm(h))
        return y


class _MixerAndNorm(nn.Module):
    """`norm(mixer(h) + h)`, or `mixer(norm(h)) + h` with prenorm."""

    def __init__(self, config: HydraConfig) -> None:
        super().__init__()
        self.prenorm = config.prenorm
        self.mixer = _mixer(config)
        self.norm = LayerNorm(config.d_model, eps=config.norm_epsilon)

    def forward(self, h: Tensor, mask: Tensor | None, cu_seqlens: Tensor | None, there: Tensor | None) -> Tensor:
        x = self.norm(h) if self.prenorm else h
        x = x if there is None else torch.where(there, x, 0)
        y = self.mixer(x, mask=mask, cu_seqlens=cu_seqlens)
        out: Tensor = y + h if self.prenorm else self.norm(y, h)[0]
        return out


class Layer(nn.Module):
    """One layer; upstream has it in a module of its own."""

    def __init__(self, config: HydraConfig) -> None:
        super().__init__()
        self.layer = _MixerAndNorm(config)

    def forward(
        self,
        h: Tensor,
        mask: Tensor | None = None,
        cu_seqlens: Tensor | None = None,
        there: Tensor | None = None,  # (B, L, 1) bool: where the mixer reads h, and not zeros
    ) -> Tensor:
        """(B, L, D) -> (B, L, D)."""
        y: Tensor = self.layer(h, mask, cu_seqlens, there)
        return y


class Encoder(nn.Module):
    """The layers, and the norm after the last one with prenorm."""

    def __init__(self, config: HydraConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList(Layer(config) for _ in range(config.n_layer))
        self.norm_f = LayerNorm(config.d_model, eps=config.embedding_norm_epsilon) if config.prenorm else None


class Pooler(nn.Module):
    """tanh of a linear layer on one vector of the text."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dense = nn.Linear(dim, dim)

    def forward(self, h: Tensor) -> Tensor:
        """(B, D) -> (B, D)."""
        return torch.tanh(self.dense(h))


class HydraEncoder(nn.Module):
    """Tokens (B, L) to vectors (B, L, D)."""

    def __init__(self, config: HydraConfig) -> None:
        super().__init__()
        self.padding = config.padding
        self.packs = config.mixer == "hydra"
        self.embeddings = Embeddings(config)
        self.encoder = Encoder(config)

    def forward(self, tokens: Tensor, mask: Tensor | None = None, types: Tensor | None = None) -> Tensor:
        """Vectors, zero where mask (B, L) has no token. types: (B, L), None for all 0. Raises ShapeError."""
        if mask is not None and self.padding == "upstream":
            return self._padded(tokens, mask != 0, types)
        packing = Packing.of(mask, tokens, "Hydra")
        if packing is None:
            return self._layers(tokens, types, torch.arange(tokens.shape[1], device=tokens.device), None, None)
        positions = (packing.mask.cumsum(1) - 1).clamp(min=0)  # (B, L): tokens before each
        if self.packs:
            types = None if types is None else packing.pack(types)
            h = self._layers(packing.pack(tokens), types, packing.pack(positions), None, packing.cu_seqlens)
            return packing.unpack(h)
        tokens = torch.where(packing.mask, tokens, 0)
        h = self._layers(tokens, types, positions, packing.mask, None)
        return torch.where(packing.mask.unsqueeze(-1), h, 0)

    def _layers(
        self, tokens: Tensor, types: Tensor | None, positions: Tensor, mask: Tensor | None, cu_seqlens: Tensor | None
    ) -> Tensor:
        h = self.embeddings(tokens, types, positions)
        for layer in self.encoder.layer:
            h = layer(h, mask, cu_seqlens)
        return h if self.encoder.norm_f is None else self.encoder.norm_f(h)  # type: ignore[no-any-return]

    def _padded(self, tokens: Tensor, mask: Tensor, types: Tensor | None) -> Tensor:
        """As the published code: padding is zero before each mixer, and the mixer reads it."""
        there = mask.unsqueeze(-1)
        h = self.embeddings(tokens, types, torch.arange(tokens.shape[1], device=tokens.device))
        for layer in self.encoder.layer:
            h = layer(h, there=there)
        h = h if self.encoder.norm_f is None else self.encoder.norm_f(h)
        return torch.where(there, h, 0)


class _TextModel(nn.Module, Model):
    """What the models on a HydraEncoder share."""

    def __init__(self, config: HydraConfig) -> None:
        super().__init__()
        self.config = config
        self.vocab_size: int = config.vocab_size
        self.bert = HydraEncoder(config)

    @property
    def package_head(self) -> str:
        """The head of the model's task."""
        return HEADS[self.config.task]

    def initialize(self) -> None:
        """Linear and embedding weights normal with deviation initializer_range, their biases zero."""
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=self.config.initializer_range)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def example_inputs(self) -> dict[str, Tensor]:
        """Two rows of tokens that are the same everywhere."""
        length = min(24, self.config.max_positions or 24, self._longest())
        tokens = (
            torch.arange(2 * length, device="cpu", dtype=torch.int32)
            .mul_(7)
            .add_(3)
            .remainder_(self.vocab_size)
            .view(2, length)
        )
        return {"tokens": tokens.to(self.bert.embeddings.word_embeddings.weight.device)}

    def input_shapes(self) -> dict[str, list[int | str]]:
        """Batch and length are free."""
        return {"tokens": ["B", "L"]}

    def _longest(self) -> int:
        return 24 if self.config.mixer == "hydra" else self.config.max_seq_len

    def with_task(self, task: str, num_labels: int | None = None) -> _TextModel:
        """The model for another task, or other labels: this encoder, and what the task needs beside it drawn anew."""
        who = identity(self)
        changes = {"task": task, "num_labels": num_labels or self.config.num_labels}
        first = next(self.parameters())
        made: Any = create_model(who.family, device=first.device, **{**who.config, **changes})
        kept = {name: value for name, value in self.state_dict().items() if name.startswith("bert.")}
        _, unexpected = made.load_state_dict({n: v for n, v in kept.items() if n in made.state_dict()}, strict=False)
        assert not unexpected
        return made.to(first.dtype).train(self.training)  # type: ignore[no-any-return]


class _Transform(nn.Module):
    def __init__(self, config: HydraConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.d_model, config.d_model)
        self.LayerNorm = LayerNorm(config.d_model, eps=config.embedding_norm_epsilon)

    def forward(self, h: Tensor) -> Tensor:
        y: Tensor = self.LayerNorm(functional.gelu(self.dense(h)))
        return y


class _Decoder(nn.Module):
    """The bias; the matrix is that of the word embedding."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(vocab_size))


class _Predictions(nn.Module):
    def __init__(self, config: HydraConfig) -> None:
        super().__init__()
        self.transform = _Transform(config)
        self.decoder = _Decoder(config.padded_vocab_size)


class HydraMaskedLM(_TextModel):
    """Tokens (B, L) to logits (B, L, vocab_size) of what stands at each place."""

    def __init__(self, config: HydraConfig) -> None:
        super().__init__(config)
        self.cls = nn.Module()
        self.cls.predictions = _Predictions(config)
        self.initialize()

    def forward(
        self,
        tokens: Tensor,  # (B, L) integers
        mask: Tensor | None = None,  # (B, L), 1 or True where there is a token
        types: Tensor | None = None,  # (B, L) token types
        labels: Tensor | None = None,  # (B, L) int64, the right tokens; -100 where none is asked
    ) -> EncoderOutput:
        """Logits are zero where the mask has no token; the loss is the mean cross entropy of the labels in nats."""
        h = self.bert(tokens, mask, types)
        head: Any = self.cls.predictions
        kept = self.vocab_size
        weight = self.bert.embeddings.word_embeddings.weight[:kept]
        logits = functional.linear(head.transform(h), weight, head.decoder.bias[:kept])
        if mask is not None:
            logits = torch.where((mask != 0).unsqueeze(-1), logits, 0)
        loss = None if labels is None else functional.cross_entropy(logits.float().flatten(0, 1), labels.flatten())
        return EncoderOutput(logits, loss, h)

    def native_outputs(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """`logits` (B, L, vocab_size)."""
        return {"logits": self(inputs["tokens"]).logits}


class HydraTextModel(_TextModel):
    """Tokens (B, L) to numbers (B, labels) of the text: logits of classes, or values."""

    def __init__(self, config: HydraConfig) -> None:
        super().__init__(config)
        self.bert.pooler = Pooler(config.d_model)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.d_model, config.num_labels)
        self.initialize()

    def forward(
        self,
        tokens: Tensor,  # (B, L) integers
        mask: Tensor | None = None,  # (B, L), 1 or True where there is a token
        types: Tensor | None = None,  # (B, L) token types
        labels: Tensor | None = None,  # (B) int64 classes, or (B, labels) values
    ) -> EncoderOutput:
        """The loss is the mean cross entropy in nats, or the mean square of the values' errors."""
        h = self.bert(tokens, mask, types)
        pooled: Any = self.bert.pooler
        logits = self.classifier(self.dropout(pooled(self._one_vector(h, mask))))
        loss = None
        if labels is not None and self.config.task == "classification":
            loss = functional.cross_entropy(logits.float(), labels)
        elif labels is not None:
            loss = functional.mse_loss(logits.float(), labels.reshape(logits.shape).float())
        return EncoderOutput(logits, loss, h)

    def _one_vector(self, h: Tensor, mask: Tensor | None) -> Tensor:
        """(B, D): the first token of each row, or the mean of all."""
        if self.config.pool == "mean":
            if mask is None:
                return h.mean(1)
            there = (mask != 0).unsqueeze(-1)
            return torch.where(there, h, 0).sum(1) / there.sum(1).clamp(min=1)
        if mask is None:
            return h[:, 0]
        first = (mask != 0).to(torch.uint8).argmax(1)  # (B)
        return h[torch.arange(h.shape[0], device=h.device), first]

    @torch.no_grad()
    def start_at(self, value: float) -> None:
        """Let a regression that has learnt nothing say `value`: the mean of what it is to learn."""
        self.classifier.bias.fill_(value)

    @property
    def classes(self) -> int | None:
        """Labels of a classifier."""
        return self.config.num_labels if self.config.task == "classification" else None

    def with_classes(self, count: int) -> nn.Module:
        """The model with a last layer for `count` classes, freshly drawn."""
        return self.with_task("classification", count)

    def native_outputs(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """`logits` (B, labels) of a classifier, `values` (B, labels) of a regression."""
        name = "logits" if self.config.task == "classification" else "values"
        return {name: self(inputs["tokens"]).logits}


def build(config: HydraConfig) -> HydraMaskedLM | HydraTextModel:
    """The module of a configuration, freshly initialised; also on the meta device."""
    return HydraMaskedLM(config) if config.task == "masked_lm" else HydraTextModel(config)


def _mixer(config: HydraConfig) -> nn.Module:
    if config.mixer != "hydra":
        return MatrixMixer(
            config.d_model,
            config.mixer,
            config.max_seq_len,
            config.qk_dim,
            config.d_conv,
            config.expand,
            config.headdim,
            shifted=config.shifted,
            bias=config.bias,
            conv_bias=config.conv_bias,
        )
    low, high = config.dt_limit or (None, None)
    return Hydra(
        config.d_model,
        config.d_state,
        config.d_conv,
        config.expand,
        config.headdim,
        config.ngroups,
        dt_min=config.dt_min,
        dt_max=config.dt_max,
        dt_init_floor=config.dt_init_floor,
        dt_limit=(low, high),
        learnable_init_states=config.learnable_init_states,
        bias=config.bias,
        conv_bias=config.conv_bias,
    )
