"""The configuration of a VSSD."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mambasdk.errors import InvalidArgumentError
from mambasdk_vision.nn.stage_settings import StageSettings

Mixing = Literal["non_causal", "causal", "bidirectional"]
_MIXINGS = ("non_causal", "causal", "bidirectional")


@dataclass
class VSSDConfig(StageSettings):
    """A VSSD; the defaults are those of VSSD-tiny (arXiv 2407.18559).

    in_chans: channels of the image. num_classes: of the head. embed_dim: channels of the first stage, which double.
    depths: blocks of each stage. num_heads: heads of each stage. d_state: N. expand: channels of the mixer, I, per
    channel of the stage. ngroups: groups of B and C. mlp_ratio: hidden width of the MLP per channel. attn_types: of
    each stage, "mamba2" for the state space dual mixer or "standard" for attention. mixing, positive: of that mixer,
    see VSSDMixer. drop_path_rate: of the last block. imgsize: what a package's processor makes; the model takes any
    size. out_indices: stages whose maps come out, each through its own norm; empty for a classifier.
    """

    in_chans: int = 3
    num_classes: int = 1000
    embed_dim: int = 64
    depths: Sequence[int] = (2, 4, 8, 4)
    num_heads: Sequence[int] = (2, 4, 8, 16)
    d_state: int = 64
    expand: float = 2.0
    ngroups: int = 1
    mlp_ratio: float = 4.0
    attn_types: Sequence[str] = ("mamba2", "mamba2", "mamba2", "standard")
    mixing: Mixing = "non_causal"
    positive: bool = True
    drop_path_rate: float = 0.0
    imgsize: int | Sequence[int] = 224
    out_indices: Sequence[int] = ()

    def __post_init__(self) -> None:
        where = type(self).__name__
        self.num_heads, self.attn_types = tuple(self.num_heads), tuple(self.attn_types)
        stages = len(self.read_stages(self.embed_dim))
        for name in ("num_heads", "attn_types"):
            values = getattr(self, name)
            if len(values) != stages:
                raise InvalidArgumentError(f"bad {name}", where=where, expected=f"{stages} stages", got=values)
        if self.embed_dim % 2:
            raise InvalidArgumentError("bad embed_dim", where=where, expected="an even number", got=self.embed_dim)
        if not {"mamba2", "standard"}.issuperset(self.attn_types):
            raise InvalidArgumentError(
                "bad attn_types", where=where, expected="'mamba2' or 'standard' for each stage", got=self.attn_types
            )
        if self.mixing not in _MIXINGS:
            raise InvalidArgumentError(
                "bad mixing", where=where, expected=" or ".join(map(repr, _MIXINGS)), got=repr(self.mixing)
            )
