"""What pose models are trained on: heat maps of keypoints, and displacements from people's centres. Needs torch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

BACKGROUND = 0.1  # weight of pixels of bottom-up heat maps far from what they are of (arXiv 2104.02300)
_DISPLACEMENT_WEIGHT = 0.004
_BETA = 1 / 9  # of the smooth L1 error of displacements
_LEAST_DIAGONAL = 5.0  # pixels of a map: smaller people have no centre


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


def centre_targets(
    people: list[Tensor], size: tuple[int, int], sigmas: tuple[float, float]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Targets of DEKR (arXiv 2104.02300) and their weights: (B, K + 1, h, w) twice, then (B, 2 K, h, w) twice.

    people: of each image (n, K, 3), x and y in pixels of the map and visibility. Heat maps are of the keypoints and of
    centres, the mean of a person's annotated keypoints: the largest of the Gaussians, whose weight is 1 within three
    sigmas and 0.1 elsewhere. sigmas: of centres and of keypoints. Displacements lead to every annotated keypoint from the
    pixels at most sigmas[0] from a centre along both axes; where people meet, from those of the smaller one. Their
    weight is 1 / the diagonal of the person, 0 elsewhere.
    """
    parts = [_image_targets(one, size, sigmas) for one in people]
    heat, heat_weights, moves, move_weights = (torch.stack(part) for part in zip(*parts, strict=True))
    return heat, heat_weights, moves, move_weights


def _image_targets(people: Tensor, size: tuple[int, int], sigmas: tuple[float, float]) -> tuple[Tensor, ...]:
    keypoints = people.shape[1]
    heat = people.new_zeros(keypoints + 1, *size)
    moves, weights = people.new_zeros(2 * keypoints, *size), people.new_zeros(2 * keypoints, *size)
    smallest = people.new_full(size, torch.inf)  # diagonal of the person whose displacements a pixel has
    grid = torch.stack(
        [
            torch.arange(size[1], dtype=people.dtype, device=people.device).expand(size),
            torch.arange(size[0], dtype=people.dtype, device=people.device)[:, None].expand(size),
        ]
    )  # (2, h, w), x and y
    for person in people:
        points, seen = person[:, :2], person[:, 2] > 0
        if not seen.any():
            continue
        own, near = gaussian_heat_maps(points[None], person[None, :, 2], size, sigmas[1])
        heat[:-1] = torch.maximum(heat[:-1], own[0] * near[0, :, None, None])
        extent = points[seen].amax(0) - points[seen].amin(0)
        diagonal = float(extent.norm())
        if diagonal < _LEAST_DIAGONAL:
            continue
        centre = points[seen].mean(0)
        middle, inside = gaussian_heat_maps(centre.view(1, 1, 2), centre.new_ones(1, 1), size, sigmas[0])
        heat[-1] = torch.maximum(heat[-1], middle[0, 0] * inside[0, 0])
        about = ((grid - centre[:, None, None]).abs() <= sigmas[0]).all(0) & (diagonal < smallest)
        smallest[about] = diagonal
        moves[:, about] = (points[:, :, None] - grid[:, about][None]).flatten(0, 1)
        weights[:, about] = seen.repeat_interleave(2).to(weights)[:, None] / diagonal
    near = heat > torch.exp(torch.tensor(-4.5)).to(heat)
    return heat, torch.where(near, 1.0, BACKGROUND).to(heat), moves, weights


def bottom_up_loss(heat_maps: Tensor, displacements: Tensor, targets: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
    """Mean weighted squared error of heat maps, and 0.004 times the smooth L1 error of displacements that have a weight.

    targets: as `centre_targets` gives them.
    """
    heat, heat_weights, moves, weights = targets
    error = ((heat_maps - heat).square() * heat_weights).mean()
    apart = functional.smooth_l1_loss(displacements, moves, reduction="none", beta=_BETA) * weights
    return error + _DISPLACEMENT_WEIGHT * apart.sum() / (weights > 0).sum().clamp(min=1)
