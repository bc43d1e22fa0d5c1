"""What the importers of the vision families share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from mambasdk.models import Checkpoint

UPSTREAM_ARGUMENTS = 'give the constructor\'s arguments (the golden files have them under "kwargs")'


def staged_tensors(
    weights: Checkpoint,
    widths: Sequence[int],
    out_indices: Sequence[int],
    *,
    ends: tuple[str, ...],
    linear: Sequence[str],
) -> dict[str, Tensor]:
    """The tensors of a file for a StagedEncoder, by their names there.

    Of a whole segmenter or detector that is the part under `backbone.`. With out_indices a classifier's file gives a
    backbone: what begins with one of `ends` is left out, and output norms that it does not have start as identities, as
    upstream loads it. linear: ends of the names of linear layers, which files of channel-first models may hold as
    convolutions (out, in, 1, 1). widths: channels of every stage.
    """
    import torch

    weights = weights.part("backbone.")
    if out_indices:
        weights = weights.rename(lambda name: None if name.startswith(ends) else name)

    def flat(name: str) -> Tensor:
        tensor = weights[name]
        return tensor.flatten(1) if tensor.ndim == 4 and name.endswith(tuple(linear)) else tensor

    tensors = {name: flat(name) for name in weights}
    for index in out_indices:
        tensors.setdefault(f"outnorm{index}.weight", torch.ones(widths[index]))
        tensors.setdefault(f"outnorm{index}.bias", torch.zeros(widths[index]))
    return tensors
