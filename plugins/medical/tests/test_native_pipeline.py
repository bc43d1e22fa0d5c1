"""The whole pipeline without Python: files in, label files out, equal to the same computed again step by step."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
import pytest
import scipy.ndimage as ndi
import torch
import toy_pipelines
from PIL import Image
from toy_segmenter import ToySegmenter, package, predicted

from mambasdk import runtime
from mambasdk.errors import UnsupportedError
from mambasdk.pipeline import load_pipeline
from mambasdk_medical.plugin import LIBRARY

Array = npt.NDArray[Any]
AFFINE = np.array([[0.0, -0.8, 0.1, 12], [0.7, 0.05, 0, -30], [0.02, 0, 2.1, 4], [0, 0, 0, 1]])


def body(shape: tuple[int, ...], channels: int = 1, seed: int = 0) -> Array:
    """Smooth float32 (C, *shape) with a border of zeros."""
    chance = np.random.default_rng(seed)
    made = [ndi.gaussian_filter(chance.normal(size=shape), 1.2) * 300 + 40 for _ in range(channels)]
    volume = np.zeros((channels, *shape), np.float32)
    inside = tuple(slice(min(2, n // 3), n - min(3, n // 3)) for n in shape)
    volume[(slice(None), *inside)] = np.stack(made).astype(np.float32)[(slice(None), *inside)]
    return volume


def file_of(volume: Array, spacing: tuple[float, float, float], affine: Array = AFFINE) -> bytes:
    """A .nii of (D, H, W)."""
    image = nibabel.Nifti1Image(volume.T, affine)
    image.header.set_zooms(spacing[::-1])
    return image.to_bytes()


CT = {"mean": [50.0], "std": [80.0], "lower": [-90.0], "upper": [200.0]}
CASES: dict[str, dict[str, Any]] = {
    "resampled and mirrored": {
        "shape": (19, 24, 22),
        "spacing": (1.5, 1.0, 1.2),
        "patch": (8, 12, 8),
        "processor": {"normalization": ["zscore"], "spacing": [1.0, 1.3, 1.0]},
        "mirror": [0, 2],
    },
    "coarse slices, CT": {
        "shape": (9, 25, 21),
        "spacing": (5.0, 1.0, 0.9),
        "patch": (4, 16, 16),
        "processor": {"normalization": ["ct"], **CT, "spacing": [2.5, 0.7, 0.7]},
    },
    "two channels, transposed, regions": {
        "shape": (14, 12, 17),
        "spacing": (1.0, 2.0, 1.0),
        "patch": (8, 8, 8),
        "channels": 2,
        "processor": {
            "normalization": ["zscore_masked", "rescale"],
            "spacing": [1.5, 1.2, 1.0],
            "transpose": [1, 0, 2],
        },
        "regions": [3, 1, 700],
        "mirror": [0, 1, 2],
    },
    "smaller than the patch": {
        "shape": (7, 12, 9),
        "spacing": (1.0, 1.0, 1.0),
        "patch": (8, 9, 16),
        "processor": {"normalization": ["none"]},
        "step": 0.3,
    },
    "slices of a volume": {
        "shape": (6, 30, 26),
        "spacing": (4.0, 1.0, 1.0),
        "patch": (16, 12),
        "processor": {"normalization": ["zscore"], "spacing": [1.3, 0.8]},
        "mirror": [1],
    },
}


@pytest.mark.parametrize("name", CASES)
def test_label_files_are_those_of_every_step_by_itself(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    channels = case.get("channels", 1)
    net = ToySegmenter(case["patch"], channels, 3)
    head = {"step": case.get("step", 0.5), "mirror_axes": case.get("mirror", [])}
    head |= {"regions_class_order": case.get("regions", []), "labels": ["a", "b", "c"]}
    folder = package(tmp_path / "package", net, case["processor"], head)
    volume = body(case["shape"], channels)
    files = {"image" if c == 0 else f"image.{c}": file_of(volume[c], case["spacing"]) for c in range(channels)}
    labels, chances = predicted(
        net,
        volume,
        case["spacing"],
        case["processor"],
        step=head["step"],
        mirror=head["mirror_axes"],
        regions=head["regions_class_order"],
    )
    assert len(np.unique(labels)) > 1
    made = load_pipeline(folder).run(files, {"probabilities": True, "compress": False})
    assert made["label_map"].shape == volume.shape[1:]
    assert made["label_map"].dtype == (np.uint16 if "regions" in case else np.uint8)
    assert (made["label_map"] == labels).mean() >= 0.9999
    np.testing.assert_allclose(made["probabilities"], chances, atol=2e-5)

    written = nibabel.Nifti1Image.from_bytes(made["label_file"].tobytes())
    source = nibabel.Nifti1Image.from_bytes(files["image"])
    assert np.array_equal(np.asanyarray(written.dataobj).T, made["label_map"])
    assert np.array_equal(written.affine, source.affine)
    assert written.header["qform_code"] == source.header["qform_code"]
    assert written.header["sform_code"] == source.header["sform_code"]
    assert written.header.get_zooms() == source.header.get_zooms()
    for entry in made["json"]["labels"]:
        voxels = int((made["label_map"] == entry["value"]).sum())
        assert entry["voxels"] == voxels
        assert entry["volume_ml"] == pytest.approx(voxels * np.prod(case["spacing"]) / 1000, rel=1e-6)
    names = [entry["label"] for entry in made["json"]["labels"]]
    assert names == (["a", "b", "c"] if "regions" in case else ["b", "c"])


def test_pictures_come_back_as_pictures(tmp_path: Path) -> None:
    net = ToySegmenter((16, 16), 3, 4)
    processor = {"normalization": ["rgb"] * 3}
    folder = package(tmp_path / "package", net, processor)
    pixels = np.random.default_rng(0).integers(1, 256, (37, 29, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    made = load_pipeline(folder).run({"image": buffer.getvalue()})
    expected, _ = predicted(net, pixels.transpose(2, 0, 1)[:, None], (999.0, 1.0, 1.0), processor)
    assert (made["label_map"] == expected).mean() >= 0.9999
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(made["label_file"].tobytes()))), made["label_map"][0])
    assert "volume_ml" not in made["json"]["labels"][0]


def test_the_cpp_program_writes_the_same_file(tmp_path: Path) -> None:
    case = CASES["two channels, transposed, regions"]
    head = {"mirror_axes": [0, 1, 2], "regions_class_order": [3, 1, 2]}
    folder = package(tmp_path / "package", ToySegmenter(case["patch"], 2, 3), case["processor"], head)
    paths = [tmp_path / "case_0000.nii.gz", tmp_path / "case_0001.nii"]
    plain = [file_of(channel, case["spacing"]) for channel in body(case["shape"], 2)]
    paths[0].write_bytes(gzip.compress(plain[0]))
    paths[1].write_bytes(plain[1])
    program = str(toy_pipelines.build_example("medical_cpp"))
    common = [program, str(folder), *map(str, paths), "--plugin", str(LIBRARY)]
    inputs = {"image": paths[0].read_bytes(), "image.1": paths[1].read_bytes()}
    for options, arguments in (({}, []), ({"mirror": False, "step": 0.8}, ["--no-mirror", "--step", "0.8"])):
        out, chances = tmp_path / "labels.nii.gz", tmp_path / "chances.bin"
        command = [*common, "--out", str(out), *arguments, "--threads", "1", "--probabilities", str(chances)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        expected = load_pipeline(folder).run(inputs, {**options, "probabilities": True})
        assert json.loads(done.stdout) == expected["json"]
        assert out.read_bytes() == expected["label_file"].tobytes()
        assert np.array_equal(np.asanyarray(nibabel.load(out).dataobj).T, expected["label_map"])
        assert chances.read_bytes() == expected["probabilities"].tobytes()
    done = subprocess.run([*common[:3], "--out", "x.nii"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "mambasdk-medical" in done.stderr, "it says which plugin is missing"
    assert subprocess.run([program, str(folder)], capture_output=True, check=False).returncode == 2


def test_tiles_of_a_pointwise_model_are_the_whole_image(tmp_path: Path) -> None:
    """Where no voxel looks at its neighbours, tiles, weights and mirrors change nothing."""
    net = ToySegmenter((8, 8, 8), 1, 3)
    with torch.no_grad():
        for layer in (net.first, net.last):
            middle = layer.weight[:, :, 1:2, 1:2, 1:2].clone()
            layer.weight.zero_()
            layer.weight[:, :, 1:2, 1:2, 1:2] = middle
    head = {"mirror_axes": [0, 1, 2]}
    folder = package(tmp_path / "package", net, {"normalization": ["zscore"], "crop": False}, head)
    volume = body((13, 10, 17))
    made = load_pipeline(folder).run({"image": volume}, {"probabilities": True})
    with torch.no_grad():
        scaled = torch.from_numpy((volume - volume.mean(dtype=np.float64)) / volume.std(dtype=np.float64)).float()
        whole = net(scaled[None])[0].softmax(0).numpy()
    np.testing.assert_allclose(made["probabilities"], whole, atol=1e-5)
    plain = load_pipeline(folder).run({"image": volume}, {"probabilities": True, "mirror": False, "step": 1.0})
    np.testing.assert_allclose(plain["probabilities"], whole, atol=1e-5)


def test_results_do_not_depend_on_threads(tmp_path: Path) -> None:
    case = CASES["resampled and mirrored"]
    folder = package(tmp_path / "package", ToySegmenter(case["patch"], 1, 3), case["processor"], {"mirror_axes": [1]})
    file = file_of(body(case["shape"])[0], case["spacing"])
    found = []
    try:
        for threads in (1, 2, 5):
            runtime.set_num_threads(threads)
            found.append(load_pipeline(folder).run({"image": file}, {"probabilities": True}))
    finally:
        runtime.set_num_threads(0)
    for other in found[1:]:
        assert np.array_equal(other["probabilities"], found[0]["probabilities"])
        assert np.array_equal(other["label_file"], found[0]["label_file"])


def test_nothing_in_the_image_is_background(tmp_path: Path) -> None:
    """All zeros: nothing to crop, no deviation to divide by, and still a label for every voxel."""
    folder = package(tmp_path / "package", ToySegmenter((8, 8, 8), 1, 3), {"normalization": ["zscore_masked"]})
    made = load_pipeline(folder).run({"image": file_of(np.zeros((9, 8, 7), np.float32), (1.0, 1.0, 1.0))})
    assert made["label_map"].shape == (9, 8, 7)


def test_wrong_cases_say_what_is_wrong(tmp_path: Path) -> None:
    folder = package(tmp_path / "package", ToySegmenter((8, 8, 8), 2, 3), {"normalization": ["zscore"]})
    pipeline = load_pipeline(folder)
    one = file_of(body((8, 9, 10))[0], (1.0, 1.0, 1.0))
    other = file_of(body((8, 9, 11))[0], (1.0, 1.0, 1.0))
    wide = file_of(body((8, 9, 10))[0], (1.0, 1.2, 1.0))
    with pytest.raises(ValueError, match="expected 2 channels, a file for each"):
        pipeline.run({"image": one})
    with pytest.raises(ValueError, match=r"image.1: the shape: expected \(8, 9, 10\), .* got \(8, 9, 11\)"):
        pipeline.run({"image": one, "image.1": other})
    with pytest.raises(ValueError, match=r"the spacing: expected 1.0 x 1.0 x 1.0 mm"):
        pipeline.run({"image": one, "image.1": wide})
    with pytest.raises(UnsupportedError, match="neither NIfTI-1"):
        pipeline.run({"image": b"DICM" * 100, "image.1": one})
    with pytest.raises(ValueError, match="finite"):
        pipeline.run({"image": np.full((2, 4, 4, 4), np.nan, np.float32)})
    assert pipeline.run({"image": one, "image.1": one})["label_map"].shape == (8, 9, 10)


@pytest.mark.parametrize(
    ("processor", "head", "message"),
    [
        ({"normalization": ["mri"]}, {}, "normalization: expected ct, zscore"),
        ({"normalization": ["ct"]}, {}, "expected all of them for ct"),
        ({"order": 2}, {}, "order: expected 0"),
        ({"transpose": [0, 0, 1]}, {}, "each of 0, 1 and 2"),
        ({"spacing": [1.0]}, {}, "two or three numbers"),
        ({"spacing": [1.0, 0.0, 1.0]}, {}, "spacing: expected"),
        ({"spacing": [1e-3, 1e-3, 1e-3]}, {}, "the resampled image: expected at most 536870912 voxels"),
        ({"spacing": [1e-6, 1.0, 1.0], "max_voxels": 1000}, {}, "that memory holds|expected at most 1000 voxels"),
        ({"colour": 3}, {}, 'no option "colour"'),
        ({}, {"patch_size": [8, 8]}, "patch_size: expected that of the model"),
        ({}, {"mirror_axes": [1, 1]}, "each axis once"),
        ({}, {"labels": ["one"]}, "labels: expected one for each of 3 channels"),
        ({}, {"output": "scores"}, "no output scores"),
    ],
)
def test_wrong_options_are_named(processor: dict[str, Any], head: dict[str, Any], message: str, tmp_path: Path) -> None:
    folder = package(tmp_path / "package", ToySegmenter((8, 8, 8), 1, 3), processor, head)
    with pytest.raises(ValueError, match=message):
        load_pipeline(folder).run({"image": body((8, 8, 8))})


def test_logits_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    net = ToySegmenter((8, 8, 8), 1, 3)
    with torch.no_grad():
        net.last.bias.fill_(float("inf"))
    folder = package(tmp_path / "package", net, {"normalization": ["zscore"]})
    with pytest.raises(ValueError, match="not all of the model's logits are finite"):
        load_pipeline(folder).run({"image": body((8, 8, 8))})
