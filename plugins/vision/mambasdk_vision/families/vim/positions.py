"""Position embeddings of one Vim in another."""

from __future__ import annotations

import torch
from torch import Tensor

from mambasdk.errors import InvalidArgumentError
from mambasdk_vision.families.vim.config import VimConfig
from mambasdk_vision.nn.positions import resize_grid


def resize_positions(positions: Tensor, old: VimConfig, new: VimConfig, *, legacy: bool = False) -> Tensor:
    """The position embedding (1, T, D) of `old` for the grid of `new`, and with its class token or without.

    The class token's row is taken out wherever it stands, the grid resized (bicubic), and the row put where the new
    class token stands. legacy: as upstream's fine-tuning does it: row 0 counts as the class token's and stays in
    front, although it belongs to the first patch when the token stands in the middle.
    Raises InvalidArgumentError where `new` has a class token and `old` has none, or legacy fits no grid.
    """
    where = "resize_positions"
    if new.class_position is not None and old.class_position is None:
        raise InvalidArgumentError("the old model has no class token", where=where, way_out='pass class_token="none"')
    if legacy and (old.class_position is None or new.class_position is None):
        raise InvalidArgumentError("legacy interpolation needs a class token in both models", where=where)
    at = 0 if legacy else old.class_position
    row = None if at is None else positions[:, at : at + 1]
    grid = positions if at is None else torch.cat([positions[:, :at], positions[:, at + 1 :]], 1)
    resized = resize_grid(grid.transpose(1, 2).unflatten(2, old.grid), *new.grid).flatten(2).transpose(1, 2)
    to = 0 if legacy else new.class_position
    if row is None or to is None:
        return resized.contiguous()
    return torch.cat([resized[:, :to], row, resized[:, to:]], 1)
