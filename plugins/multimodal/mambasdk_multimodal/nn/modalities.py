"""The modality of each token: by the range of its id, or as it is given."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mambasdk.errors import InvalidArgumentError, ShapeError


def modality_of(tokens: Tensor, ranges: Sequence[int]) -> Tensor:
    """Modalities (…) int64 of token ids (…): ids below ranges[0] are modality 0, those below ranges[1] modality 1, ….

    What lies beyond, as the padding of a vocabulary does, counts as the last.
    """
    modality = torch.zeros_like(tokens, dtype=torch.int64)
    for end in ranges[:-1]:
        modality = modality + (tokens >= end).to(torch.int64)
    return modality


def check_modality(modality: Tensor, x: Tensor, count: int, where: str, mask: Tensor | None = None) -> None:
    """Raise unless there is an integer in [0, count) for each position of x (B, L, …).

    mask: (B, L); what stands where it has no token is not looked at. In a traced program the operations look at the
    numbers. Raises ShapeError, and InvalidArgumentError with the first bad place and its value.
    """
    if modality.shape != x.shape[:2] or modality.is_floating_point() or modality.dtype == torch.bool:
        raise ShapeError(
            "bad modality",
            where=where,
            expected=f"integers {tuple(x.shape[:2])}",
            got=f"{modality.dtype} {tuple(modality.shape)}",
        )
    if torch.compiler.is_compiling() or torch.compiler.is_exporting():
        return
    bad = (modality < 0) | (modality >= count)
    if mask is not None:
        bad = bad & (mask != 0)
    if bool(bad.any()):
        row, column = bad.nonzero()[0].tolist()
        raise InvalidArgumentError(
            f"the modality of token ({row}, {column}) is {int(modality[row, column])}",
            where=where,
            expected=f"0 to {count - 1}",
        )
