"""Plans: the rules of nnU-Net on data sets that can be worked out by hand, and its files as they stand."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from medical_cases import write_dataset, write_pictures

from mambasdk.errors import InvalidArgumentError
from mambasdk_medical.data.workspace import Workspace
from mambasdk_medical.plans import Plans
from mambasdk_medical.plans.fingerprint import Fingerprint
from mambasdk_medical.plans.planner import fit_patch, plan, target_spacing
from mambasdk_medical.plans.topology import topology

CHANNEL = {
    "mean": 40.0, "median": 41.0, "std": 9.0, "min": -5.0, "max": 99.0, "percentile_00_5": 1.0, "percentile_99_5": 88.0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("spacing", "patch", "strides", "kernels"),
    [
        # Isotropic, 128³: five halvings to 4.
        ((1, 1, 1), (128, 128, 128), [(1,) * 3, *[(2,) * 3] * 5], [(3,) * 3] * 6),
        # Abdomen MR of U-Mamba (48 x 160 x 224): the planes first, then all, the coarse axis no further than to 6.
        (
            (3, 1, 1),
            (48, 160, 224),
            [(1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2), (1, 2, 2)],
            [(1, 3, 3), *[(3, 3, 3)] * 5],
        ),
        ((1, 1), (512, 512), [(1, 1), *[(2, 2)] * 7], [(3, 3)] * 8),
        ((1, 1), (320, 320), [(1, 1), *[(2, 2)] * 6], [(3, 3)] * 7),
        # Too small to be halved at all.
        ((1, 1), (7, 7), [(1, 1)], [(3, 3)]),
    ],
)
def test_topologies_of_published_plans(spacing: Any, patch: Any, strides: Any, kernels: Any) -> None:
    found = topology(spacing, patch)
    assert list(found.strides) == strides
    assert list(found.kernel_sizes) == kernels


@pytest.mark.parametrize("patch", [(37, 50, 61), (16, 200, 180), (5, 40, 44)])
@pytest.mark.parametrize("spacing", [(1, 1, 1), (5, 0.7, 0.7), (1, 1, 2.5)])
def test_strides_divide_the_patch_and_leave_an_edge(patch: tuple[int, ...], spacing: tuple[float, ...]) -> None:
    found = topology(spacing, patch)
    for extent, wanted, divisor in zip(found.patch_size, patch, found.divisor, strict=True):
        assert extent % divisor == 0
        assert wanted <= extent < wanted + divisor
        assert extent // divisor >= 4 or divisor == 1
    assert len(found.features) == len(found.strides)


def _fingerprint(spacings: Any, shapes: Any, share: float = 1.0) -> Fingerprint:
    return Fingerprint([list(one) for one in spacings], [list(one) for one in shapes], {"0": CHANNEL}, share)


def test_target_spacing_is_the_median_or_finer_along_a_coarse_axis() -> None:
    even = _fingerprint([(1, 1, 1), (2, 1, 1), (2, 1, 1)], [(50, 60, 70)] * 3)
    np.testing.assert_allclose(target_spacing(even), (2, 1, 1))
    spacings = [(value, 0.5, 0.5) for value in (2, 4, 5, 6, 9)]
    np.testing.assert_allclose(target_spacing(_fingerprint(spacings, [(20, 200, 200)] * 5)), (2.8, 0.5, 0.5))
    # Not where there are as many slices as pixels.
    np.testing.assert_allclose(target_spacing(_fingerprint(spacings, [(150, 200, 200)] * 5)), (5, 0.5, 0.5))


def _dataset(tmp_path: Path, channel: str = "MR") -> Any:
    from mambasdk_medical.data import open_dataset

    return open_dataset(
        write_dataset(tmp_path / "Dataset001_T", cases=1, description={"channel_names": {"0": channel}})
    )


def test_the_coarse_axis_comes_first_and_the_patch_keeps_the_aspect(tmp_path: Path) -> None:
    found = _fingerprint([(1, 1, 4)] * 9, [(128, 160, 30)] * 9)
    made = plan(_dataset(tmp_path), found, memory=2)
    assert made["transpose_forward"] == [2, 0, 1]
    assert made["transpose_backward"] == [1, 2, 0]
    volume = made["configurations"]["3d_fullres"]
    assert volume["spacing"] == [4.0, 1.0, 1.0]
    assert volume["patch_size"][0] < volume["patch_size"][1] <= volume["patch_size"][2]
    assert made["configurations"]["2d"]["spacing"] == [1.0, 1.0]
    assert (made["configurations"]["2d"]["batch_dice"], volume["batch_dice"]) == (True, False)


@pytest.mark.parametrize("memory", [0.3, 1.0, 4.0, 16.0])
def test_a_step_keeps_within_its_memory(tmp_path: Path, memory: float) -> None:
    labels = _dataset(tmp_path).labels
    found, cost = fit_patch((1.0, 1.0, 1.0), (300, 400, 400), labels, 1, memory)
    assert 2 * cost <= memory * 1e9
    assert all(extent % divisor == 0 for extent, divisor in zip(found.patch_size, found.divisor, strict=True))
    # It is used: one step more along every axis would be too much.
    larger = topology((1, 1, 1), [e + 2 * d for e, d in zip(found.patch_size, found.divisor, strict=True)])
    assert 2 * larger.training_bytes(1, labels.num_channels) > memory * 1e9


def test_too_little_memory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="no patch fits"):
        plan(_dataset(tmp_path), _fingerprint([(1, 1, 1)], [(64, 64, 64)]), memory=1e-4)
    with pytest.raises(InvalidArgumentError, match="bad memory"):
        plan(_dataset(tmp_path), _fingerprint([(1, 1, 1)], [(64, 64, 64)]), memory=0)


def test_a_batch_is_no_more_than_a_twentieth_of_the_data(tmp_path: Path) -> None:
    few = plan(_dataset(tmp_path), _fingerprint([(1, 1, 1)] * 4, [(32, 32, 32)] * 4), memory=30)
    assert few["configurations"]["3d_fullres"]["batch_size"] == 2
    many = plan(_dataset(tmp_path), _fingerprint([(1, 1, 1)] * 100, [(32, 32, 32)] * 100), memory=30)
    assert many["configurations"]["3d_fullres"]["batch_size"] == 5


@pytest.mark.parametrize(
    ("channel", "share", "scheme"),
    [
        ("CT", 1.0, "ct"), ("MR", 1.0, "zscore"), ("MR", 0.5, "zscore_masked"), ("noNorm", 1.0, "none"),
        ("rescale_to_0_1", 1.0, "rescale"), ("rgb_to_0_1", 0.5, "rgb"),
    ],
)  # fmt: skip
def test_normalisation_follows_the_channel_names(tmp_path: Path, channel: str, share: float, scheme: str) -> None:
    made = plan(_dataset(tmp_path, channel), _fingerprint([(1, 1, 1)], [(32, 32, 32)], share))
    found = Plans(made).configuration("3d_fullres").normalisation()
    assert found["normalization"] == [scheme]
    assert (found["mean"], found["std"], found["lower"], found["upper"]) == ([40.0], [9.0], [1.0], [88.0])


def test_a_data_set_is_planned_from_its_files(tmp_path: Path) -> None:
    workspace = Workspace.of(str(write_dataset(tmp_path / "Dataset001_T", size=(12, 24, 28))))
    plans = workspace.make_plans(memory=1, features=8)
    known = json.loads((workspace.folder / "dataset_fingerprint.json").read_text())
    assert known["spacings"] == [[3.0, 1.0, 1.0]] * 5
    assert known["shapes_after_crop"] == [[10, 22, 26]] * 5
    values = known["foreground_intensity_properties_per_channel"]["0"]
    assert 50 < values["percentile_00_5"] * 1.3 < values["mean"] < values["percentile_99_5"] < 90
    assert Plans.read(workspace.folder / "plans.json").content == plans.content
    assert workspace.plans().configurations == ["2d", "3d_fullres"]
    network = plans.configuration("3d_fullres").network(1, 3)
    assert network.features_per_stage == tuple(8 << stage for stage in range(len(network.strides)))
    assert all(e % prod(s[a] for s in network.strides) == 0 for a, e in enumerate(network.patch_size))


def test_pictures_have_a_plan_of_two_axes_alone(tmp_path: Path) -> None:
    plans = Workspace.of(str(write_pictures(tmp_path / "Dataset002_P"))).make_plans(memory=1)
    assert plans.configurations == ["2d"]
    assert plans.configuration("2d").patch_size == (32, 32)
    assert plans.transpose_forward == (0, 1, 2)


NEW = {
    "n_stages": 3, "features_per_stage": [32, 64, 128], "kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
    "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]], "n_conv_per_stage": [2, 2, 2], "n_conv_per_stage_decoder": [2, 2],
}  # fmt: skip
OLD = {
    "UNet_class_name": "PlainConvUNet", "UNet_base_num_features": 32, "unet_max_num_features": 320,
    "n_conv_per_stage_encoder": [2, 2, 2], "n_conv_per_stage_decoder": [2, 2],
    "pool_op_kernel_sizes": NEW["strides"], "conv_kernel_sizes": NEW["kernel_sizes"],
}  # fmt: skip
COMMON = {
    "patch_size": [16, 32, 32], "batch_size": 3, "spacing": [3.0, 1.0, 1.0], "batch_dice": True,
    "normalization_schemes": ["CTNormalization"], "use_mask_for_norm": [False], "data_identifier": "x_3d",
}  # fmt: skip


@pytest.mark.parametrize("network", [{"architecture": {"network_class_name": "U", "arch_kwargs": NEW}}, OLD])
def test_plans_of_nnunet_are_taken_as_they_are(tmp_path: Path, network: dict[str, Any]) -> None:
    content = {
        "plans_name": "nnUNetPlans",
        "transpose_forward": [0, 1, 2],
        "configurations": {
            "3d_fullres": {**COMMON, **network},
            "3d_big": {"inherits_from": "3d_fullres", "batch_size": 9},
        },
        "foreground_intensity_properties_per_channel": {"0": CHANNEL},
    }
    (tmp_path / "plans.json").write_text(json.dumps(content))
    configuration = Plans.read(tmp_path / "plans.json").configuration("3d_big")
    assert (configuration.batch_size, configuration.batch_dice, configuration.data_identifier) == (9, True, "x_3d")
    made = configuration.network(1, 4)
    assert made.patch_size == (16, 32, 32)
    assert (made.in_channels, made.num_classes) == (1, 4)
    assert made.strides == ((1, 1, 1), (1, 2, 2), (2, 2, 2))
    assert made.kernel_sizes == ((1, 3, 3), (3, 3, 3), (3, 3, 3))
    assert made.features_per_stage == (32, 64, 128)
    assert (made.n_conv_per_stage, made.n_conv_per_stage_decoder) == ((2, 2, 2), (2, 2))
    assert configuration.normalisation()["normalization"] == ["ct"]


def test_plans_that_say_too_little_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="mambasdk medical plan"):
        Plans.read(tmp_path / "plans.json")
    (tmp_path / "plans.json").write_text("{}")
    with pytest.raises(InvalidArgumentError, match="no configurations"):
        Plans.read(tmp_path / "plans.json")
    plans = Plans({"configurations": {"2d": dict(COMMON), "a": {"inherits_from": "a"}}})
    for name in ("3d_fullres", "a"):
        with pytest.raises(InvalidArgumentError, match="no configuration"):
            plans.configuration(name)
    with pytest.raises(InvalidArgumentError, match="no intensities of channel 0"):
        plans.configuration("2d").normalisation()
    with pytest.raises(InvalidArgumentError, match="pool_op_kernel_sizes"):
        plans.configuration("2d").network(1, 2)
