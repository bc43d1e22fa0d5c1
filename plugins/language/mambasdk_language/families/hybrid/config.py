"""The configuration of a hybrid language model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mambasdk.errors import InvalidArgumentError
from mambasdk_language.families.hybrid.pattern import allocate, parse
from mambasdk_language.families.mamba.config import MambaConfig
from mambasdk_language.families.mamba2.config import Mamba2Config


@dataclass
class HybridConfig(MambaConfig, Mamba2Config):
    """A stack of pre-norm residual layers of several kinds; the defaults are the shape of arXiv 2406.07887.

    pattern: one symbol a layer: M Mamba-2, m Mamba, * attention, - MLP, E mixture of experts, P Mamba-2 and attention
    in parallel, S Mamba-2 after a shared transformer. None: `n_layer` layers, of which `attention_ratio` are attention
    and `mlp_ratio` MLPs, spread evenly; with a pattern n_layer is its length.
    Of Mamba-2, see Mamba2Config; norm_groups: of its gated norm, None is ngroups; out_bias: of out_proj, None is bias.
    Of Mamba, see MambaConfig; dt_norm: of dt, B and C. mixer_norm_epsilon: inside mixers, None is norm_epsilon.
    num_heads to attention_mlp: see `mambasdk.nn.Attention`; rotary_dim: channels of a head that positions turn, 0 none.
    d_mlp: hidden size of MLPs; mlp_gated: of `value * act(gate)`, also for experts. num_experts to d_latent: see
    `mambasdk.nn.MixtureOfExperts`; d_shared_expert: an MLP of that size for every token, 0 for none.
    shared_blocks: how many transformers the S layers share in turn; adapter_rank, attention_adapters: of these.
    Multipliers: of embeddings, logits and branches, and of what arXiv 2507.22448 scales.
    The rest is described with LanguageModelConfig; bias, conv_bias are those of Mamba layers, and d_intermediate is
    not used.
    """

    d_model: int = 4096
    n_layer: int = 56
    vocab_size: int = 256000
    pad_vocab_size_multiple: int = 1
    d_state: int = 128
    tie_embeddings: bool = False
    pattern: str | None = None
    attention_ratio: float = 0.08
    mlp_ratio: float = 0.5

    ngroups: int = 8
    norm_groups: int | None = None
    mixer_norm_epsilon: float | None = None
    out_bias: bool | None = None
    dt_norm: Literal["none", "weighted", "plain"] = "none"

    num_heads: int = 32
    num_kv_heads: int | None = None
    head_dim: int | None = None
    rotary_dim: int = 0
    rotary_base: float = 10000.0
    rotary_interleaved: bool = False
    window: int = 0
    attention_scale: float | None = None
    attention_bias: bool = False
    attention_out_bias: bool = False
    attention_conv: int = 0
    attention_mlp: int = 0

    d_mlp: int = 16384
    mlp_gated: bool = False
    mlp_activation: str = "gelu"
    mlp_bias: bool = False

    num_experts: int = 8
    experts_per_token: int = 2
    d_expert: int = 4096
    d_shared_expert: int = 0
    d_latent: int | None = None
    router_scores: Literal["softmax", "softmax of chosen", "sigmoid"] = "softmax"
    router_groups: int = 1
    router_top_groups: int = 1
    router_normalize: bool = False
    router_factor: float = 1.0

    shared_blocks: int = 1
    adapter_rank: int = 128
    attention_adapters: bool = False

    embedding_multiplier: float = 1.0
    logits_multiplier: float = 1.0
    residual_multiplier: float = 1.0
    key_multiplier: float = 1.0
    attention_in_multiplier: float = 1.0
    attention_out_multiplier: float = 1.0
    ssm_in_multiplier: float = 1.0
    ssm_out_multiplier: float = 1.0
    ssm_multipliers: Sequence[float] = (1.0, 1.0, 1.0, 1.0, 1.0)
    mlp_multipliers: Sequence[float] = (1.0, 1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pattern is None:
            self.pattern = allocate(self.n_layer, self.attention_ratio, self.mlp_ratio)
        self.pattern = parse(self.pattern)
        self.n_layer = len(self.pattern)
        self.check_positive("num_heads", "d_mlp", "num_experts", "experts_per_token", "d_expert")
        self.check_positive("shared_blocks", "adapter_rank")
        self.ssm_multipliers = self._multipliers("ssm_multipliers", 5)
        self.mlp_multipliers = self._multipliers("mlp_multipliers", 2)
        if self.d_intermediate:
            raise InvalidArgumentError(
                "d_intermediate is not used", where="HybridConfig", way_out="write '-' into the pattern, and d_mlp"
            )

    def _multipliers(self, name: str, count: int) -> tuple[float, ...]:
        try:
            values = tuple(float(value) for value in getattr(self, name))
        except (TypeError, ValueError):
            values = ()
        if len(values) != count:
            raise InvalidArgumentError(
                f"bad {name}", where="HybridConfig", expected=f"{count} numbers", got=repr(getattr(self, name))[:80]
            )
        return values
