"""The four phases of a map that EfficientVMamba's routes visit (arXiv 2403.09977)."""

from __future__ import annotations

import torch
from torch import Tensor

from mambasdk_vision.nn.routes import cached_routes


@cached_routes
def atrous_routes(height: int, width: int, device: torch.device | None = None) -> Tensor:
    """(4, h * w) int32, with h = ceil(height / 2) and w likewise: what route k visits in step t.

    Pixels are counted row by row in the map of 2h rows and 2w columns, which is height and width with a last row or
    column more where they are odd. Routes 0 and 2 take the even rows, along them; 1 and 3 the odd rows, along columns;
    0 and 1 the even columns. Each pixel is visited once.
    """
    rows, columns = (height + 1) // 2, (width + 1) // 2
    below = 2 * columns  # from a pixel to the one under it
    down = 2 * below * torch.arange(rows, dtype=torch.int32, device=device)
    right = 2 * torch.arange(columns, dtype=torch.int32, device=device)
    along_rows = (down.unsqueeze(1) + right).flatten()
    along_columns = (right.unsqueeze(1) + down).flatten() + below
    return torch.stack([along_rows, along_columns, along_rows + 1, along_columns + 1])
