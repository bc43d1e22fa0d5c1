"""The configuration of a Broad Mamba."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mambasdk.errors import InvalidArgumentError

_CHOICES = {
    "confidence": ("max", "fused", "entropy", "equal"),
    "weighting": ("share", "softmax"),
    "fusion": ("sum", "concat"),
    "ssm": ("selective", "lti_conv"),
    "classifier": ("mlp", "ridge"),
    "unknown_speakers": ("error", "hash"),
}
# Names of other inputs and outputs, and what a torch ModuleDict cannot hold beside its methods.
_TAKEN = {"speakers", "present", "logits", "weights", "keys", "values", "items", "pop", "update", "clear", "type"}


@dataclass
class MERCConfig:
    """Emotions of the utterances of a conversation, from features of several modalities.

    modalities: their names. in_dims: numbers of a feature vector of each. n_speakers: rows of the speakers' table.
    n_classes: C. d_model: D. n_layer: Broad Mamba blocks of each modality. d_state: N. d_conv: K. expand: I = expand D.
    dt_rank: R, "auto" is ceil(D / 16).
    bls_groups, bls_group_width: feature nodes of the broad learning layer; 0 groups leave the layer out.
    bls_enhance: its enhancement nodes.
    confidence: of a modality: "max", its largest probability; "fused", its probability of the class that the mean of
        all modalities' probabilities has largest; "entropy", 1 - entropy / log C; "equal", 1.
    weighting: confidences to weights: "share" of their sum, or "softmax" over the modalities.
    fusion: "sum" of weighted vectors, or their "concat"enation. detach_weights: no gradients through the weights.
    temperature: of the modalities' probabilities; above 1 they saturate later.
    ssm: "selective", or "lti_conv": a time-invariant SSM, computed as a convolution over the whole conversation.
    online: forward direction only, with a state from utterance to utterance; needs ssm "selective".
    classifier: "mlp", or "ridge": linear in the nodes of the last broad learning layers, for `fit_ridge`.
    unknown_speakers: ids beyond the table are an "error", or "hash"ed: id mod n_speakers.
    dropout: of what enters the blocks, and of the fused vector. aux_weight: of the modalities' own losses.
    """

    modalities: Sequence[str] = ("text", "audio", "visual")
    in_dims: Sequence[int] = (1024, 1582, 342)
    n_speakers: int = 2
    n_classes: int = 6
    d_model: int = 192
    n_layer: int = 1
    d_state: int = 16
    d_conv: int = 4
    expand: int = 2
    dt_rank: int | Literal["auto"] = "auto"
    bls_groups: int = 10
    bls_group_width: int = 10
    bls_enhance: int = 100
    confidence: str = "max"
    weighting: str = "share"
    fusion: str = "sum"
    detach_weights: bool = False
    temperature: float = 1.0
    ssm: str = "selective"
    online: bool = False
    classifier: str = "mlp"
    unknown_speakers: str = "error"
    dropout: float = 0.0
    aux_weight: float = 1.0

    def __post_init__(self) -> None:
        self.modalities, self.in_dims = list(self.modalities), list(self.in_dims)
        names = ("n_speakers", "n_classes", "d_model", "n_layer", "d_state", "d_conv", "expand")
        for name in names:
            self._check(name, _whole(getattr(self, name), 1), "an integer of 1 or more")
        for name in ("bls_groups", "bls_enhance"):
            self._check(name, _whole(getattr(self, name), 0), "an integer of 0 or more")
        self._check("bls_group_width", _whole(self.bls_group_width, 1), "an integer of 1 or more")
        self._check("dt_rank", self.dt_rank == "auto" or _whole(self.dt_rank, 1), '"auto" or an integer of 1 or more')
        for name, known in _CHOICES.items():
            self._check(name, getattr(self, name) in known, " or ".join(known))
        fits = all(isinstance(name, str) and name.isidentifier() and name not in _TAKEN for name in self.modalities)
        unique = len(set(self.modalities)) == len(self.modalities) > 0
        self._check("modalities", fits and unique, f"different names, letters and digits, none of {sorted(_TAKEN)}")
        sized = len(self.in_dims) == len(self.modalities) and all(_whole(dim, 1) for dim in self.in_dims)
        self._check("in_dims", sized, f"{len(self.modalities)} integers of 1 or more, one for each modality")
        self._check("temperature", 0 < self.temperature < math.inf, "a number above 0")
        self._check("dropout", 0 <= self.dropout < 1, "a number from 0 to below 1")
        self._check("aux_weight", 0 <= self.aux_weight < math.inf, "a number of 0 or more")
        self._check("ssm", not self.online or self.ssm == "selective", "selective, which an online model's state is of")
        self._check("classifier", self.classifier == "mlp" or self.nodes > 0, "mlp where there is no broad layer")

    @property
    def nodes(self) -> int:
        """Feature and enhancement nodes of a broad learning layer, 0 for none."""
        return self.bls_groups * self.bls_group_width + self.bls_enhance if self.bls_groups else 0

    @property
    def rank(self) -> int:
        """R as a number."""
        return math.ceil(self.d_model / 16) if self.dt_rank == "auto" else int(self.dt_rank)

    def _check(self, name: str, fits: bool, expected: str) -> None:
        if not fits:
            raise InvalidArgumentError(
                f"bad {name}", where="MERCConfig", expected=expected, got=repr(getattr(self, name))
            )


def _whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
