"""A small segmenter in a package of the native head, and its pipeline computed again in NumPy, SciPy and torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain, combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.ndimage as ndi
import torch
from torch import Tensor, nn

from mambasdk.nn import Model
from mambasdk.package import save_package

Array = npt.NDArray[Any]


class ToySegmenter(nn.Module, Model):
    """Two convolutions; what a voxel gets depends on its neighbours."""

    def __init__(self, patch: Sequence[int], channels: int, classes: int) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.patch, self.channels = tuple(patch), channels
        conv = nn.Conv3d if len(patch) == 3 else nn.Conv2d
        self.first = conv(channels, 6, 3, padding=1)
        self.last = conv(6, classes, 3, padding=1)
        for layer in (self.first, self.last):
            nn.init.normal_(layer.weight, std=0.4)
            nn.init.normal_(layer.bias, std=0.4)

    @property
    def package_head(self) -> str | None:
        return "medical_segmentation"

    def example_inputs(self) -> dict[str, Tensor]:
        return {"image": torch.randn(2, self.channels, *self.patch)}

    def native_outputs(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"logits": self(inputs["image"])}

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.last(torch.relu(self.first(image)))
        return logits


def package(
    folder: Path, net: ToySegmenter, processor: Mapping[str, Any], head: Mapping[str, Any] | None = None
) -> Path:
    """The net with its processor `medical_image` and head."""
    save_package(
        net.eval(),
        folder,
        engine="native",
        processors={"image": {"kind": "medical_image", "channels": net.channels, **processor}},
        head_options={"patch_size": list(net.patch), **(head or {})},
    )
    return folder


def zoomed(volume: Array, shape: Sequence[int], order: int, axis: int | None, axis_order: int) -> Array:
    """nnU-Net's resampling of (C, D, H, W), in float64: an axis apart last, cubics clipped to what they came from."""
    joint = list(shape)
    if axis is not None:
        joint[axis] = volume.shape[axis + 1]
    made = _zoom(volume, joint, order)
    if order == 3:
        over = tuple(a for a in (1, 2, 3) if axis is None or a != axis + 1)
        made = made.clip(volume.min(over, keepdims=True), volume.max(over, keepdims=True))
    return _zoom(made, shape, axis_order)


def _zoom(volume: Array, shape: Sequence[int], order: int) -> Array:
    if volume.shape[1:] == tuple(shape):
        return volume.astype(np.float64)
    factors = [m / n for n, m in zip(volume.shape[1:], shape, strict=True)]
    wide = volume.astype(np.float64)
    return np.stack([ndi.zoom(one, factors, order=order, mode="nearest", grid_mode=True) for one in wide])


def normalised(channel: Array, scheme: str, figures: Mapping[str, float], mask: Array) -> Array:
    channel = channel.astype(np.float64)
    if scheme == "ct":
        return (channel.clip(figures["lower"], figures["upper"]) - figures["mean"]) / figures["std"]
    if scheme == "zscore_masked":
        inside = channel[mask]
        return np.where(mask, (channel - inside.mean()) / inside.std(), channel)
    if scheme == "zscore":
        return (channel - channel.mean()) / channel.std()
    if scheme == "rescale":
        return (channel - channel.min()) / (channel.max() - channel.min())
    return channel / 255 if scheme == "rgb" else channel


def sliding(net: ToySegmenter, image: Array, step: float, mirror: Sequence[int]) -> Array:
    """Logits of (C, *S) in float64 sums, S of as many axes as the patch."""
    patch = net.patch
    missing = [max(p - s, 0) for p, s in zip(patch, image.shape[1:], strict=True)]
    padded = np.pad(image, [(0, 0), *((m // 2, m - m // 2) for m in missing)])
    delta = np.zeros(patch)
    delta[tuple(p // 2 for p in patch)] = 1
    weights = ndi.gaussian_filter(delta, [p / 8 for p in patch], mode="constant")
    weights /= weights.max()
    weights[weights == 0] = weights[weights > 0].min()
    starts = []
    for extent, p in zip(padded.shape[1:], patch, strict=True):
        count = int(np.ceil((extent - p) / (p * step))) + 1
        starts.append([int(np.round(i * (extent - p) / max(count - 1, 1))) for i in range(count)])
    total, seen = None, np.zeros(padded.shape[1:])
    sets = list(chain.from_iterable(combinations(mirror, n) for n in range(len(mirror) + 1)))
    for start in product(*starts):
        window = tuple(slice(a, a + p) for a, p in zip(start, patch, strict=True))
        tile = torch.from_numpy(padded[(slice(None), *window)].astype(np.float32))[None]
        made = 0
        for axes in sets:
            dims = [axis + 2 for axis in axes]
            with torch.no_grad():
                made = made + net(tile.flip(dims)).flip(dims)[0].double().numpy() / len(sets)
        total = np.zeros((len(made), *seen.shape)) if total is None else total
        total[(slice(None), *window)] += made * weights
        seen[window] += weights
    inside = tuple(slice(m // 2, m // 2 + s) for m, s in zip(missing, image.shape[1:], strict=True))
    return (total / seen)[(slice(None), *inside)]


def predicted(
    net: ToySegmenter,
    image: Array,
    spacing: Sequence[float],
    processor: Mapping[str, Any],
    *,
    step: float = 0.5,
    mirror: Sequence[int] = (),
    regions: Sequence[int] = (),
) -> tuple[Array, Array]:
    """Labels (D, H, W) and probabilities (K, D, H, W) of an image (C, D, H, W), whose spacing is (D, H, W)."""
    order = processor.get("transpose", [0, 1, 2])
    turned = image.transpose(0, *(axis + 1 for axis in order))
    current = [spacing[axis] for axis in order]
    target = list(processor.get("spacing", current))
    planes = len(target) == 2
    if planes:
        target = [current[0], *target]
    mask = ndi.binary_fill_holes((turned != 0).any(0))
    box = tuple(slice(where.min(), where.max() + 1) for where in np.nonzero(mask))
    cropped, mask = turned[(slice(None), *box)], mask[box]
    channels = []
    for c, channel in enumerate(cropped):
        figures = {name: processor[name][c] for name in ("mean", "std", "lower", "upper") if processor.get(name)}
        channels.append(normalised(channel, processor["normalization"][c], figures, mask))
    shape = [max(1, round(n * a / b)) for n, a, b in zip(mask.shape, current, target, strict=True)]

    def apart(first: Sequence[float], second: Sequence[float]) -> int | None:
        for mm in (first, second):
            if max(mm) / min(mm) > 3:
                return mm.index(max(mm)) if mm.count(max(mm)) == 1 else None
        return None

    ready = zoomed(np.stack(channels), shape, 3, 0 if planes else apart(current, target), 0)
    if len(net.patch) == 2:
        logits = np.stack([sliding(net, ready[:, z], step, mirror) for z in range(ready.shape[1])], 1)
    else:
        logits = sliding(net, ready, step, mirror)
    logits = zoomed(logits, mask.shape, 1, 0 if planes else apart(target, current), 0)
    shares = np.exp(logits - logits.max(0)) / np.exp(logits - logits.max(0)).sum(0)
    found = logits.argmax(0)
    if regions:
        shares = 1 / (1 + np.exp(-logits))
        found = np.zeros(mask.shape, int)
        for scores, value in zip(logits, regions, strict=True):
            found[scores > 0] = value
    whole = np.zeros(turned.shape[1:], int)
    chances = np.zeros((len(logits), *turned.shape[1:]))
    if not regions:
        chances[0] = 1
    whole[box] = found
    chances[(slice(None), *box)] = shares
    back = np.argsort(order)
    return whole.transpose(back), chances.transpose(0, *(back + 1))
