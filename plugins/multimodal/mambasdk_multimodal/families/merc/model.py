"""The family `merc`: encoders by modality, their own labels, probability-guided fusion (arXiv 2404.17858).

No code is published; this is our implementation of the published idea. What the paper leaves open, MERCConfig has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mambasdk.errors import InvalidArgumentError, ShapeError
from mambasdk.nn import MambaState, Model, ModelState
from mambasdk_multimodal.families.merc import fusion
from mambasdk_multimodal.families.merc.block import BroadMambaBlock
from mambasdk_multimodal.families.merc.config import MERCConfig

_WHERE = "MERC"


@dataclass
class MERCOutput:
    """What a model says of B conversations of L utterances.

    logits: (B, L, C). unimodal: (B, L, C) of each modality alone. weights: (B, L, M) of the modalities in the fusion.
    fused: (B, L, D), or M D of them. hidden: (B, L, D) of each modality. nodes: (B, L, M nodes) of the last broad
    learning layers, None of a model without. shown: (B, L, M) bool, which utterances have each modality; None for all.
    state: of an online model.
    """

    logits: Tensor
    unimodal: dict[str, Tensor]
    weights: Tensor
    fused: Tensor
    hidden: dict[str, Tensor]
    nodes: Tensor | None = None
    shown: Tensor | None = None
    state: ModelState | None = None


class MERC(nn.Module, Model):
    """Feature vectors of the utterances of conversations -> an emotion of each utterance."""

    def __init__(self, config: MERCConfig) -> None:
        super().__init__()
        self.config = config
        names, width, classes = list(config.modalities), config.d_model, config.n_classes
        self.proj = nn.ModuleDict({n: nn.Linear(d, width) for n, d in zip(names, config.in_dims, strict=True)})
        self.speaker = nn.Embedding(config.n_speakers, width)
        nn.init.normal_(self.speaker.weight, std=0.02)
        self.enc = nn.ModuleDict(
            {n: nn.ModuleList(BroadMambaBlock(config) for _ in range(config.n_layer)) for n in names}
        )
        self.head = nn.ModuleDict({n: nn.Linear(width, classes) for n in names})
        if config.classifier == "ridge":
            self.ridge = nn.Linear(len(names) * config.nodes, classes)
        else:
            joined = width * (len(names) if config.fusion == "concat" else 1)
            self.cls = nn.Sequential(nn.Linear(joined, width), nn.ReLU(), nn.Linear(width, classes))

    @property
    def classes(self) -> int | None:
        """C."""
        return self.config.n_classes

    def forward(
        self,
        features: Mapping[str, Tensor],  # (B, L, in_dim) by modality; one that is left out is missing everywhere
        speakers: Tensor,  # (B, L) int64
        *,
        mask: Tensor | None = None,  # (B, L), 0 where a row is padded
        present: Tensor | None = None,  # (B, L, M), 0 where an utterance lacks a modality
    ) -> MERCOutput:
        """Outputs at padding mean nothing. An utterance that lacks a modality is not there for that modality's scan,
        and the weights of the others are of sum 1; one that lacks all has weights of 0.

        Raises ShapeError, InvalidArgumentError (a modality that is none; a speaker beyond the table).
        """
        return self._run(features, speakers, mask, present, None, False)

    def _run(
        self,
        features: Mapping[str, Tensor],
        speakers: Tensor,
        mask: Tensor | None,
        present: Tensor | None,
        state: ModelState | None,
        return_state: bool,
    ) -> MERCOutput:
        config, names = self.config, list(self.config.modalities)
        self._check(features, speakers, mask, present)
        shown = self._shown(features, speakers, mask, present)
        said = self.speaker(self._known(speakers, mask))  # (B, L, D)
        hidden: list[Tensor] = []
        last: list[Tensor] = []
        states: list[Any] = []
        for m, name in enumerate(names):
            x = features.get(name)
            if x is None:
                x = said.new_zeros(*speakers.shape, config.in_dims[m])
            visible = None if shown is None else shown[..., m : m + 1]  # (B, L, 1)
            if visible is not None:
                x = torch.where(visible, x, 0)
            h = functional.dropout(self.proj[name](x) + said, config.dropout, self.training)
            nodes = None
            blocks: Any = self.enc[name]
            for index, block in enumerate(blocks):
                before = None if state is None else state[m * config.n_layer + index]
                h, nodes, after = block(h, visible, before, return_state=return_state)
                states.append(after)
            hidden.append(h)
            if nodes is not None:
                last.append(nodes)
        unimodal = [self.head[name](h) for name, h in zip(names, hidden, strict=True)]
        guesses = torch.softmax(torch.stack(unimodal, -2).float() / config.temperature, -1)  # (B, L, M, C)
        share = fusion.weights(fusion.confidence(guesses, config.confidence, shown), shown, config.weighting)
        if config.detach_weights:
            share = share.detach()
        fused = fusion.fuse(torch.stack(hidden, -2), share, config.fusion)
        joined = None
        if last:
            side = torch.stack(last, -2)  # (B, L, M, nodes)
            joined = (side if shown is None else torch.where(shown.unsqueeze(-1), side, 0)).flatten(-2)
        logits = (
            self.ridge(joined)
            if config.classifier == "ridge"
            else self.cls(functional.dropout(fused, config.dropout, self.training))
        )
        return MERCOutput(
            logits,
            dict(zip(names, unimodal, strict=True)),
            share,
            fused,
            dict(zip(names, hidden, strict=True)),
            joined,
            shown,
            ModelState(states, self._seen(speakers, state)) if return_state else None,
        )

    def _seen(self, speakers: Tensor, state: ModelState | None) -> Tensor:
        count = torch.full((speakers.shape[0],), speakers.shape[1], dtype=torch.int64, device=speakers.device)
        return count if state is None else state.tokens_seen + count

    def _check(
        self, features: Mapping[str, Tensor], speakers: Tensor, mask: Tensor | None, present: Tensor | None
    ) -> None:
        config = self.config
        if stray := set(features) - set(config.modalities):
            raise InvalidArgumentError(
                f"no modality {', '.join(sorted(map(str, stray)))}", where=_WHERE, expected=config.modalities
            )
        if not features:
            raise InvalidArgumentError("no features", where=_WHERE, expected=f"some of {config.modalities}")
        if speakers.ndim != 2:
            raise ShapeError("bad speakers", where=_WHERE, expected="(B, L)", got=tuple(speakers.shape))
        wanted = {name: (*speakers.shape, dim) for name, dim in zip(config.modalities, config.in_dims, strict=True)}
        given = {**features, "mask": mask, "present": present}
        wanted |= {"mask": tuple(speakers.shape), "present": (*speakers.shape, len(config.modalities))}
        for name, tensor in given.items():
            if tensor is not None and tensor.shape != wanted[name]:
                raise ShapeError(f"bad {name}", where=_WHERE, expected=wanted[name], got=tuple(tensor.shape))

    def _shown(
        self, features: Mapping[str, Tensor], speakers: Tensor, mask: Tensor | None, present: Tensor | None
    ) -> Tensor | None:
        """(B, L, M) bool: which utterances each modality has; None for all."""
        names = self.config.modalities
        if mask is None and present is None and all(name in features for name in names):
            return None
        there = torch.tensor([name in features for name in names], device=speakers.device)
        shown = there.expand(*speakers.shape, -1)
        if present is not None:
            shown = shown & (present != 0)
        return shown if mask is None else shown & (mask != 0).unsqueeze(-1)

    def _known(self, speakers: Tensor, mask: Tensor | None) -> Tensor:
        count = self.config.n_speakers
        if mask is not None:
            speakers = torch.where(mask != 0, speakers, 0)
        if self.config.unknown_speakers == "hash":
            return speakers % count
        traced = torch.compiler.is_compiling() or torch.compiler.is_exporting()
        if not traced and speakers.numel() and not (int(speakers.min()) >= 0 and int(speakers.max()) < count):
            raise InvalidArgumentError(
                "a speaker beyond the table",
                where=_WHERE,
                expected=f"0 to {count - 1}",
                got=f"{int(speakers.min())} to {int(speakers.max())}",
                way_out='set n_speakers, or unknown_speakers="hash"',
            )
        return speakers

    def loss(self, out: MERCOutput, labels: Tensor, weight: Tensor | None = None) -> Tensor:
        """Cross entropy of the fused logits and aux_weight times each modality's own, in nats.

        Means over the utterances with a label, of a modality over those that have it. labels: (B, L) int64, below 0 for
        none. weight: (C) of the classes.
        """

        def cost(logits: Tensor, counted: Tensor) -> Tensor:
            if not bool(counted.any()):
                return logits.sum() * 0
            return functional.cross_entropy(logits[counted].float(), labels[counted], weight)

        total = cost(out.logits, labels >= 0)
        for m, logits in enumerate(out.unimodal.values()):
            counted = labels >= 0 if out.shown is None else (labels >= 0) & out.shown[..., m]
            total = total + self.config.aux_weight * cost(logits, counted)
        return total

    def package_processors(self) -> dict[str, dict[str, Any]]:
        """The reader of conversations of this model's modalities."""
        config = self.config
        entry: dict[str, Any] = {"kind": "conversation", "modalities": config.modalities, "in_dims": config.in_dims}
        if config.unknown_speakers == "error":
            entry["max_speakers"] = config.n_speakers
        return {"conversation": entry}

    def example_inputs(self) -> dict[str, Tensor]:
        """Two conversations of six utterances; one utterance lacks the first modality, another the last."""
        config, generator = self.config, torch.Generator().manual_seed(0)
        made = {
            name: torch.randn(2, 6, dim, generator=generator)
            for name, dim in zip(config.modalities, config.in_dims, strict=True)
        }
        present = torch.ones(2, 6, len(config.modalities), dtype=torch.int64)
        if len(config.modalities) > 1:
            present[0, 1, 0] = present[1, 3, -1] = 0
        speakers = torch.randint(config.n_speakers, (2, 6), generator=generator)
        return {**made, "speakers": speakers, "present": present}

    def input_shapes(self) -> dict[str, list[int | str]]:
        """Batch and utterances are free."""
        config = self.config
        vectors: dict[str, list[int | str]] = {
            name: ["B", "L", dim] for name, dim in zip(config.modalities, config.in_dims, strict=True)
        }
        return {**vectors, "speakers": ["B", "L"], "present": ["B", "L", len(config.modalities)]}

    def native_outputs(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """{"logits" (B, L, C), "weights" (B, L, M)} of the named inputs."""
        out = self._run(*self._named(inputs), state=None, return_state=False)
        return {"logits": out.logits, "weights": out.weights}

    def _named(self, inputs: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Tensor, None, Tensor]:
        features = {name: inputs[name] for name in self.config.modalities}
        return features, inputs["speakers"], None, inputs["present"]


class OnlineMERC(MERC):
    """Forward directions only: an utterance's emotion from what was said before it, with a state for what follows."""

    def forward(
        self,
        features: Mapping[str, Tensor],
        speakers: Tensor,
        *,
        mask: Tensor | None = None,
        present: Tensor | None = None,
        state: ModelState | None = None,
    ) -> MERCOutput:
        """As MERC; `out.state` continues the conversations. Continue only rows that the mask does not pad."""
        return self._run(features, speakers, mask, present, state, True)

    def initial_state(self, batch: int) -> ModelState:
        """Before the first utterance."""
        config, weight = self.config, self.speaker.weight
        inner = config.expand * config.d_model
        layers = [
            MambaState(
                weight.new_zeros(batch, config.d_conv - 1, inner),
                torch.zeros(batch, inner, config.d_state, device=weight.device),
            )
            for _ in range(config.n_layer * len(config.modalities))
        ]
        return ModelState(layers, torch.zeros(batch, dtype=torch.int64, device=weight.device))

    def native_step(self, inputs: dict[str, Tensor], state: ModelState) -> tuple[dict[str, Tensor], ModelState]:
        """The outputs of the next utterances, one or many, and the state after them."""
        out = self._run(*self._named(inputs), state=state, return_state=True)
        assert out.state is not None
        return {"logits": out.logits, "weights": out.weights}, out.state


def build(config: MERCConfig) -> MERC:
    """The module of a configuration, freshly initialised; also on the meta device."""
    return (OnlineMERC if config.online else MERC)(config)
