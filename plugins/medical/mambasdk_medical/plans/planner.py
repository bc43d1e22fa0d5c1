"""From a fingerprint to `plans.json`: spacing, patch, batch, normalisation, topology. Imports no torch.

The rules are nnU-Net's (arXiv 1904.08128); the memory of a step is our estimate, `Topology.training_bytes`.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from mambasdk.errors import InvalidArgumentError
from mambasdk_medical.data.dataset import Dataset
from mambasdk_medical.data.labels import Labels
from mambasdk_medical.plans.fingerprint import Fingerprint
from mambasdk_medical.plans.topology import BASE_FEATURES, BLOCKS, LEAST_EDGE, Topology, topology
from mambasdk_medical.volumes import new_shape

ANISOTROPY = 3.0
PLANS_NAME = "nnUNetPlans"
_LEAST_BATCH = 2
_SHARE_OF_DATA = 0.05  # that a batch holds at most
_MASKED_BELOW = 0.75  # relative size after the crop
_EDGE = {2: 2048, 3: 256}  # of the isotropic patch that planning begins with
_SCHEMES = {
    "ct": "CTNormalization",
    "nonorm": "NoNormalization",
    "zscore": "ZScoreNormalization",
    "rescale_to_0_1": "RescaleTo01Normalization",
    "rgb_to_0_1": "RGBTo01Normalization",
}


def plan(dataset: Dataset, found: Fingerprint, *, memory: float = 8.0, features: int = BASE_FEATURES) -> dict[str, Any]:
    """The content of `plans.json`. memory: bytes of a training step's feature maps, in GB (1e9 bytes).

    features: width of the first stage. Raises InvalidArgumentError for a memory in which no patch fits.
    """
    if features < 1:
        raise InvalidArgumentError("bad features", where="plan", expected="1 or more", got=features)
    if not memory > 0:
        raise InvalidArgumentError("bad memory", where="plan", expected="more than 0 GB", got=memory)
    spacing = target_spacing(found)
    order = _transposition(spacing)
    shapes = [
        new_shape(shape, old, spacing.tolist())
        for shape, old in zip(found.shapes_after_crop, found.spacings, strict=True)
    ]
    median = np.median(np.array(shapes), 0)[list(order)]
    spacing = spacing[list(order)]
    configurations: dict[str, Any] = {}
    given = dataset, found, memory, features
    if median[0] > 1:
        configurations["3d_fullres"] = _configuration("3d_fullres", spacing, median, *given)
    configurations = {
        "2d": _configuration("2d", spacing[1:], median[1:], *given, slices=float(median[0]))
    } | configurations
    return {
        "dataset_name": dataset.name,
        "plans_name": PLANS_NAME,
        "original_median_spacing_after_transp": np.median(found.spacings, 0)[list(order)].tolist(),
        "original_median_shape_after_transp": [
            round(float(value)) for value in np.median(found.shapes_after_crop, 0)[list(order)]
        ],
        "image_reader_writer": "NaturalImage2DIO" if dataset.file_ending in (".png", ".tif", ".bmp") else "NibabelIO",
        "transpose_forward": list(order),
        "transpose_backward": np.argsort(order).tolist(),
        "configurations": configurations,
        "experiment_planner_used": "mambasdk medical plan",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": found.intensities,
    }


def target_spacing(found: Fingerprint) -> npt.NDArray[np.float64]:
    """Median spacing; of an axis that is much coarser, the tenth percentile, so that fewer cases lose slices."""
    spacings, shapes = np.array(found.spacings), np.array(found.shapes_after_crop)
    target: npt.NDArray[np.float64] = np.percentile(spacings, 50, 0)
    size = np.percentile(shapes, 50, 0)
    worst = int(np.argmax(target))
    others = [axis for axis in range(3) if axis != worst]
    coarse = target[worst] > ANISOTROPY * target[others].max()
    flat = size[worst] * ANISOTROPY < size[others].min()
    if coarse and flat:
        finer = float(np.percentile(spacings[:, worst], 10))
        if finer < target[others].max():
            finer = float(max(target[others].max(), finer)) + 1e-5
        target[worst] = finer
    return target


def _transposition(spacing: npt.NDArray[np.float64]) -> tuple[int, int, int]:
    """The axis of the coarsest spacing first, the others in their order."""
    worst = int(np.argmax(spacing))
    first, second = (axis for axis in range(3) if axis != worst)
    return worst, first, second


def _configuration(
    name: str,
    spacing: npt.NDArray[np.float64],
    median: npt.NDArray[np.float64],
    dataset: Dataset,
    found: Fingerprint,
    memory: float,
    features: int,
    *,
    slices: float = 1.0,
) -> dict[str, Any]:
    shape, cost = fit_patch(spacing, median, dataset.labels, len(dataset.channel_names), memory, features)
    cases = len(found.spacings)
    most = round(float(np.prod(median)) * slices * cases * _SHARE_OF_DATA / prod(shape.patch_size))
    batch = max(min(int(memory * 1e9 // cost), most), _LEAST_BATCH)
    schemes = [_SCHEMES.get(channel.lower(), "ZScoreNormalization") for channel in dataset.channel_names]
    masked = found.relative_size < _MASKED_BELOW
    resampling = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
    return {
        "data_identifier": f"{PLANS_NAME}_{name}",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": batch,
        "patch_size": list(shape.patch_size),
        "median_image_size_in_voxels": median.tolist(),
        "spacing": spacing.tolist(),
        "normalization_schemes": schemes,
        "use_mask_for_norm": [masked and scheme == "ZScoreNormalization" for scheme in schemes],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": resampling,
        "resampling_fn_seg_kwargs": {**resampling, "is_seg": True, "order": 1},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {**resampling, "order": 1},
        "architecture": _architecture(shape),
        # Pooled over the batch where one patch shows little of an image.
        "batch_dice": len(shape.patch_size) == 2,
    }


def fit_patch(
    spacing: Sequence[float] | npt.NDArray[np.float64],
    median: Sequence[float] | npt.NDArray[np.float64],
    labels: Labels,
    channels: int,
    memory: float,
    features: int = BASE_FEATURES,
) -> tuple[Topology, int]:
    """The largest patch of which two fit into `memory` GB, with the aspect of the median image; and bytes of each."""
    dims = len(spacing)
    isotropic = 1 / np.asarray(spacing, np.float64)
    patch = isotropic * (_EDGE[dims] ** dims / isotropic.prod()) ** (1 / dims)
    size = [max(min(round(float(p)), round(float(m))), 1) for p, m in zip(patch, median, strict=True)]
    distances = [float(value) for value in spacing]
    shape = topology(distances, size, features)
    while True:
        cost = shape.training_bytes(channels, labels.num_channels)
        if _LEAST_BATCH * cost <= memory * 1e9:
            return shape, cost
        size = list(shape.patch_size)
        steps = {axis: _step(distances, size, shape, axis, features) for axis in range(dims)}
        axes = [axis for axis in range(dims) if size[axis] - steps[axis] >= 2 * LEAST_EDGE]
        if not axes:
            raise InvalidArgumentError(
                f"no patch fits into {memory:g} GB",
                where="plan",
                expected=f"at least {_LEAST_BATCH * cost / 1e9:.2g} GB",
                way_out="give more --memory",
            )
        axis = max(axes, key=lambda axis: size[axis] / float(median[axis]))
        size[axis] -= steps[axis]
        shape = topology(distances, size, features)


def _step(distances: list[float], size: list[int], shape: Topology, axis: int, features: int) -> int:
    """How much shorter a patch can become along an axis: a smaller one may be halved less often."""
    smaller = list(size)
    smaller[axis] = max(smaller[axis] - shape.divisor[axis], 1)
    return topology(distances, smaller, features).divisor[axis]


def _architecture(shape: Topology) -> dict[str, Any]:
    dims, stages = len(shape.patch_size), len(shape.strides)
    return {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": {
            "n_stages": stages,
            "features_per_stage": list(shape.features),
            "conv_op": f"torch.nn.modules.conv.Conv{dims}d",
            "kernel_sizes": [list(kernel) for kernel in shape.kernel_sizes],
            "strides": [list(stride) for stride in shape.strides],
            "n_conv_per_stage": [BLOCKS] * stages,
            "n_conv_per_stage_decoder": [BLOCKS] * (stages - 1),
            "conv_bias": True,
            "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dims}d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }
