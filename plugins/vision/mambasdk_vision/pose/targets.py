"""Heat maps to train on: a Gaussian about each keypoint. Needs torch."""

from __future__ import annotations

import torch
from torch import Tensor


def gaussian_heat_maps(points: Tensor, visible: Tensor, size: tuple[int, int], sigma: float) -> tuple[Tensor, Tensor]:
    """Targets (N, K, h, w), exp(-d² / (2 sigma²)) of the distance to the keypoint, and their weights (N, K).

    points: (N, K, 2), x and y in pixels of the map, fractions included: the Gaussian stands at the point itself and
    not at the nearest pixel, so that a quarter of a pixel of the decoder finds it again (arXiv 1910.06278, section
    3.3). visible: (N, K), above 0 where annotated. sigma: in pixels, 2 for maps of 64 x 48 and 3 for 96 x 72
    (arXiv 1804.06208). A weight is 0 where a keypoint is not annotated or three sigmas outside the map.
    """
    rows = torch.arange(size[0], dtype=points.dtype, device=points.device)
    columns = torch.arange(size[1], dtype=points.dtype, device=points.device)
    across = torch.exp(-((columns - points[..., :1]) ** 2) / (2 * sigma**2))  # (N, K, w)
    down = torch.exp(-((rows - points[..., 1:]) ** 2) / (2 * sigma**2))  # (N, K, h)
    reach = 3 * sigma
    limits = points.new_tensor([size[1] - 1, size[0] - 1])
    near = ((points >= -reach) & (points <= limits + reach)).all(-1)
    return down.unsqueeze(-1) * across.unsqueeze(-2), ((visible > 0) & near).to(points.dtype)


def heat_map_loss(found: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Mean over all pixels of the squared error times the keypoint's weight; found, targets (N, K, h, w), weights (N, K)."""
    return ((found - targets).square() * weights[..., None, None]).mean()
