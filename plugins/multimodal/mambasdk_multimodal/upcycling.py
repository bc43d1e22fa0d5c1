"""A dense Mamba as the beginning of a Mixture-of-Mamba: every modality starts from its projections. Needs torch.

Source: sparse upcycling (arXiv 2212.05055), which arXiv 2501.16295 names for its model.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mambasdk.errors import InvalidArgumentError
from mambasdk.models import create_model
from mambasdk.nn import Block, CausalLM, Mamba, RMSNorm

FAMILY = "mixture_of_mamba"
_NEW_TOKENS = 256  # of a modality that nothing is said of


def upcycle(
    dense: CausalLM | str | os.PathLike[str],
    *,
    modalities: Sequence[str] = ("text", "image"),
    modality_ranges: Sequence[int] | None = None,
    shared: Collection[str] = (),
    **overrides: Any,
) -> nn.Module:
    """A `mixture_of_mamba` whose modalities all have the projections of a dense model of Mamba blocks.

    dense: a language model of pre-norm blocks, each a `mambasdk.nn.Mamba` and nothing else, an even number of them; or
        the directory of its package. Its tokens are those of the first modality.
    modality_ranges: None: the dense vocabulary, then 256 tokens of each further modality. Their embeddings, and their
        rows of a head that is not tied, are drawn anew.
    shared, overrides: of the configuration. What is shared stays one projection.
    For tokens of the dense vocabulary the model gives the dense model's logits. Raises InvalidArgumentError that says
    what in the model is of another kind.
    """
    source: Any = dense
    if not isinstance(dense, CausalLM):
        from mambasdk.package import load

        source = load(dense)
    mixers, config = _sizes(source)
    words = int(source.vocab_size)
    ends = [words + _NEW_TOKENS * m for m in range(len(modalities))] if modality_ranges is None else modality_ranges
    if ends[0] < words:
        raise InvalidArgumentError(
            "the first modality is smaller than the dense vocabulary",
            where="upcycle",
            expected=f"{words} tokens or more",
            got=ends[0],
        )
    settings = {**config, "modalities": list(modalities), "modality_ranges": list(ends), "shared": list(shared)}
    model = create_model(FAMILY, **{**settings, **overrides})
    state = {**model.state_dict()}
    for index, (block, mixer) in enumerate(zip(source.backbone.layers, mixers, strict=True)):
        name = f"backbone.layers.{index // 2}.block{index % 2 + 1}"
        state[f"{name}.norm.weight"] = block.norm.weight
        state |= {f"{name}.mamba_model.{key}": t for key, t in _copied(mixer, len(ends), shared).items()}
    state["backbone.norm_f.weight"] = source.backbone.norm_f.weight
    for name in ("backbone.embedding.weight", "lm_head.weight"):
        state[name] = _widened(state[name], source.state_dict()[name], words)
    model.load_state_dict({name: tensor.detach() for name, tensor in state.items()})
    return model


def _copied(mixer: Mamba, modalities: int, shared: Collection[str]) -> dict[str, Tensor]:
    """The tensors of a dense mixer by the names of a mixture's."""
    found: dict[str, Tensor] = {}
    for name, tensor in mixer.state_dict().items():
        projection, _, rest = name.partition("_proj.")
        if not rest or projection in shared:
            found[name] = tensor
        else:
            found |= {f"local_experts_{projection}_proj.{m}.{rest}": tensor for m in range(modalities)}
    return found


def _widened(new: Tensor, dense: Tensor, words: int) -> Tensor:
    """Rows of the dense vocabulary, then those that were drawn."""
    return torch.cat([dense[:words].to(new), new[words:]])


def _sizes(dense: Any) -> tuple[list[Mamba], dict[str, Any]]:
    """The mixers of a dense model and the configuration that has their sizes."""
    blocks: list[Any] = list(getattr(getattr(dense, "backbone", None), "layers", ()))
    mixers: list[Any] = [block.mixer for block in blocks if isinstance(block, Block) and isinstance(block.mixer, Mamba)]
    fits = len(mixers) == len(blocks) and all(
        block.mlp is None and isinstance(block.norm, RMSNorm) and block.multiplier == 1.0 for block in blocks
    )
    if not fits or any(mixer.norms is not None or mixer.reverse for mixer in mixers):
        raise InvalidArgumentError(
            "not a stack of Mamba blocks with RMSNorm and without MLPs", where="upcycle", got=type(dense).__name__
        )
    if not mixers or len(mixers) % 2:
        raise InvalidArgumentError(
            f"{len(mixers)} blocks; a layer has two", where="upcycle", expected="an even number of blocks"
        )
    first: Any = mixers[0]
    config = {
        "d_model": first.d_model,
        "n_layer": len(mixers) // 2,
        "d_state": first.d_state,
        "d_conv": first.d_conv,
        "d_inner": None if first.d_inner == 2 * first.d_model else first.d_inner,
        "dt_rank": "auto" if first.dt_rank == -(-first.d_model // 16) else first.dt_rank,
        "bias": first.in_proj.bias is not None,
        "conv_bias": first.conv1d.bias is not None,
        "norm_epsilon": blocks[0].norm.eps,
        "residual_in_fp32": blocks[0].residual_in_fp32,
        "tie_embeddings": dense.tie_embeddings,
    }
    return mixers, config
