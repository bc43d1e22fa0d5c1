"""The orders in which SS2D's four routes visit a map (arXiv 2401.10166)."""

from __future__ import annotations

import torch
from torch import Tensor

from mambasdk_vision.families.vmamba.forward_type import Scan

ROUTES = 4


def route_order(height: int, width: int, scan: Scan = "cross", device: torch.device | None = None) -> Tensor:
    """(4, height * width) int32: the pixel, counted row by row, that route k visits in step t.

    "cross": rows, columns, and both from the end. "forward": rows four times. "both": rows twice, then from the end.
    """
    rows = torch.arange(height * width, dtype=torch.int32, device=device)
    if scan == "forward":
        return rows.expand(ROUTES, -1).contiguous()
    if scan == "both":
        return torch.stack([rows, rows, rows.flip(0), rows.flip(0)])
    columns = rows.view(height, width).t().reshape(-1)
    return torch.stack([rows, columns, rows.flip(0), columns.flip(0)])
