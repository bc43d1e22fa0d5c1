"""How deep a U-Net for a patch is, and what it costs: nnU-Net's rule of pooling axis by axis. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, prod

LEAST_EDGE = 4  # of a feature map: an axis is halved while at least this is left
BASE_FEATURES = 32
MOST_FEATURES = {2: 512, 3: 320}
BLOCKS = 2  # convolutions of each stage
_BYTES = 4  # of an element in float32
# What training keeps of each convolution: its output, the normalised one, and a gradient of the larger of them.
_COPIES = 3


@dataclass(frozen=True)
class Topology:
    """strides, kernel_sizes: of every stage, finest first. patch_size: padded to what the strides divide.

    base_features: width of the first stage.
    """

    patch_size: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    kernel_sizes: tuple[tuple[int, ...], ...]
    base_features: int = BASE_FEATURES

    @property
    def divisor(self) -> tuple[int, ...]:
        """What every extent of a patch must be a multiple of."""
        return tuple(prod(stage[axis] for stage in self.strides) for axis in range(len(self.patch_size)))

    @property
    def features(self) -> tuple[int, ...]:
        """Widths of the stages."""
        most = MOST_FEATURES[len(self.patch_size)]
        return tuple(min(self.base_features << stage, most) for stage in range(len(self.strides)))

    def training_bytes(self, in_channels: int, num_classes: int) -> int:
        """Bytes of feature maps that one patch keeps while a plain U-Net of this shape is trained in float32.

        Three copies (convolution, normalisation, gradient) of each of the two convolutions of every stage, in encoder
        and decoder, of the upsampled map beside each skip connection, and of the logits at every resolution.
        """
        total, extents = in_channels * prod(self.patch_size), list(self.patch_size)
        last = len(self.strides) - 1
        for stage, (stride, width) in enumerate(zip(self.strides, self.features, strict=True)):
            extents = [extent // step for extent, step in zip(extents, stride, strict=True)]
            maps = BLOCKS * width if stage == last else (2 * BLOCKS + 1) * width + num_classes
            total += _COPIES * maps * prod(extents)
        return total * _BYTES


def topology(spacing: Sequence[float], patch: Sequence[int], features: int = BASE_FEATURES) -> Topology:
    """The stages for a patch of about this size, in voxels of this spacing.

    An axis is halved while twice LEAST_EDGE (4) is left, together with every axis whose spacing is less than twice the
    smallest; a single axis goes on alone only while three times it is left. A kernel has 3 along an axis from
    the stage on where its spacing is less than twice the smallest, 1 before. Source: nnU-Net (arXiv 1904.08128,
    supplementary note on the topology).
    """
    dims = len(spacing)
    distances, extents = list(spacing), list(patch)
    kernel = [1] * dims
    strides, kernels = [(1,) * dims], []
    halvings = [0] * dims
    while True:
        axes = [axis for axis in range(dims) if extents[axis] >= 2 * LEAST_EDGE]
        if not axes:
            break
        finest = min(distances[axis] for axis in axes)
        axes = [axis for axis in axes if distances[axis] / finest < 2]
        if len(axes) == 1 and extents[axes[0]] < 3 * LEAST_EDGE:
            break
        kernel = [3 if k == 3 or d / min(distances) < 2 else 1 for k, d in zip(kernel, distances, strict=True)]
        strides.append(tuple(2 if axis in axes else 1 for axis in range(dims)))
        kernels.append(tuple(kernel))
        for axis in axes:
            distances[axis] *= 2
            extents[axis] = ceil(extents[axis] / 2)
            halvings[axis] += 1
    kernels.append((3,) * dims)
    size = tuple(ceil(extent / (1 << count)) * (1 << count) for extent, count in zip(patch, halvings, strict=True))
    return Topology(size, tuple(strides), tuple(kernels), features)
