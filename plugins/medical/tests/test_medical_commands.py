"""The commands from the data set to the scores, as a user types them; and results of nnU-Net that become packages."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from medical_cases import write_dataset, write_nifti, write_pictures

from mambasdk import create_model, load
from mambasdk.command_line import main
from mambasdk.package import Manifest
from mambasdk.runtime import load_pipeline
from mambasdk_medical.data.files import read_image, read_labels, write_labels
from mambasdk_medical.data.workspace import Workspace
from mambasdk_medical.inference.predictor import Predictor
from mambasdk_medical.metrics import scores

SMALL = [
    "--set", "features_per_stage=[4,6,8]", "--set", "strides=[[1,1],[2,2],[2,2]]", "--set", "n_conv_per_stage=[1,1,1]",
    "--set", "kernel_sizes=[[3,3],[3,3],[3,3]]", "--set", "n_conv_per_stage_decoder=[1,1]",
]  # fmt: skip
SHORT = ["--steps", "2", "--validation-patches", "2", "--evaluate-every", "1"]


def run(capsys: pytest.CaptureFixture[str], *command: object) -> Any:
    """The JSON of a command that works."""
    capsys.readouterr()
    code = main([*map(str, command), "--json"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return json.loads(captured.out)


def fails(capsys: pytest.CaptureFixture[str], *command: object) -> str:
    """What a command that does not work says."""
    capsys.readouterr()
    assert main([*map(str, command)]) == 2
    return capsys.readouterr().err


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A data set of volumes, and a package that was trained on it for two steps."""
    root = tmp_path_factory.mktemp("medical")
    data = write_dataset(root / "Dataset001_Volumes", size=(10, 22, 26))
    assert main(["medical", "plan", str(data), "--memory", "0.05", "--features", "4"]) == 0
    assert main(["medical", "preprocess", str(data)]) == 0
    command = ["medical", "train", "residual_unet", "--data", str(data), "--out", str(root / "package"), *SHORT]
    assert main(command) == 0
    return {"data": data, "package": root / "package"}


def test_plan_says_what_it_wrote(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "Dataset001_T", cases=2)
    made = run(capsys, "medical", "plan", data, "--memory", 1, "--preprocessed", tmp_path / "made")
    assert set(made["configurations"]) == {"2d", "3d_fullres"}
    written = json.loads((tmp_path / "made" / "plans.json").read_text())
    for name, row in made["configurations"].items():
        assert written["configurations"][name]["patch_size"] == row["patch_size"]
    assert "mambasdk medical plan" in fails(capsys, "medical", "preprocess", data, "--preprocessed", tmp_path / "other")


def test_a_package_knows_labels_patch_and_preparation(volumes: dict[str, Path]) -> None:
    manifest = Manifest.read(volumes["package"])
    options = manifest.head_options or {}
    assert manifest.head == "medical_segmentation"
    assert options["labels"] == ["background", "ball", "box"]
    plan = Workspace.of(str(volumes["data"])).plans().configuration("3d_fullres")
    assert options["patch_size"] == list(plan.patch_size)
    assert manifest.processors["image"]["spacing"] == list(plan.spacing)
    assert manifest.processors["image"]["kind"] == "medical_image"


@pytest.mark.parametrize("engine", ["torch", "native"])
def test_predictions_lie_on_grid_and_affine_of_the_file(
    capsys: pytest.CaptureFixture[str], volumes: dict[str, Path], tmp_path: Path, engine: str
) -> None:
    image = volumes["data"] / "imagesTr" / "case3_0000.nii.gz"
    command = ("medical", "predict", volumes["package"], "-i", image, "-o", tmp_path, "--engine", engine)
    made = run(capsys, *command, "--save-probabilities", "--overlays", tmp_path / "shown")
    (row,) = made["cases"]
    source, found = nibabel.load(image), nibabel.load(row["labels"])
    assert found.shape == source.shape
    np.testing.assert_allclose(found.affine, source.affine, atol=1e-6)
    np.testing.assert_allclose(found.header.get_zooms(), source.header.get_zooms())
    labels = np.asarray(found.dataobj)
    assert row["voxels"] == {"ball": int((labels == 1).sum()), "box": int((labels == 2).sum())}
    with np.load(tmp_path / "case3.npz") as file:
        assert file["probabilities"].shape == (3, *source.shape[::-1])
    assert (tmp_path / "shown" / "case3.png").read_bytes().startswith(b"\x89PNG")


def test_both_engines_give_the_same_labels(
    capsys: pytest.CaptureFixture[str], volumes: dict[str, Path], tmp_path: Path
) -> None:
    images = volumes["data"] / "imagesTr"
    for engine in ("torch", "native"):
        run(capsys, "medical", "predict", volumes["package"], "-i", images, "-o", tmp_path / engine, "--engine", engine)
    for name in (f"case{i}.nii.gz" for i in range(5)):
        mine, theirs = (np.asarray(nibabel.load(tmp_path / engine / name).dataobj) for engine in ("torch", "native"))
        assert (mine == theirs).mean() >= 0.9999


def test_the_pipeline_without_python_gives_the_same_labels(volumes: dict[str, Path]) -> None:
    pipeline = load_pipeline(volumes["package"])
    predictor = Predictor.open([volumes["package"]])
    for index in range(5):
        path = volumes["data"] / "imagesTr" / f"case{index}_0000.nii.gz"
        made = pipeline.run({"image": path.read_bytes()})
        wanted = predictor(*read_image([path])).labels
        assert made["label_map"].shape == wanted.shape
        assert (np.asarray(made["label_map"]) == wanted).mean() >= 0.9999
        written = nibabel.Nifti1Image.from_bytes(gzip.decompress(np.asarray(made["label_file"]).tobytes()))
        np.testing.assert_allclose(written.affine, nibabel.load(path).affine, atol=1e-5)


def test_evaluate_gives_the_scores_of_the_maps(
    capsys: pytest.CaptureFixture[str], volumes: dict[str, Path], tmp_path: Path
) -> None:
    truth = volumes["data"] / "labelsTr"
    shutil.copytree(truth, tmp_path / "found")
    labels = np.asarray(nibabel.load(truth / "case0.nii.gz").dataobj).transpose(2, 1, 0)
    moved = np.roll(labels, 2, 2)
    write_nifti(tmp_path / "found" / "case0.nii.gz", moved, (3.0, 1.0, 1.0), 0.0)
    command = ("medical", "evaluate", tmp_path / "found", truth)
    made = run(capsys, *command, "--tolerance", "ball=1.5", "--instances", "box", "--out", tmp_path / "scores.json")
    wanted = scores(labels, moved, {"ball": 1, "box": 2}, (3.0, 1.0, 1.0), tolerances={"ball": 1.5})
    for label in ("ball", "box"):
        assert made["cases"]["case0"][label] == pytest.approx(wanted[label])
        assert made["cases"]["case1"][label]["dice"] == 1
    assert 0 < made["cases"]["case0"]["ball"]["nsd"] < 1
    assert made["instances"]["box"]["tp"] + made["instances"]["box"]["fn"] == 5
    assert json.loads((tmp_path / "scores.json").read_text()) == made
    assert main([*map(str, command)]) == 0
    assert "mean" in capsys.readouterr().out
    (tmp_path / "found" / "case4.nii.gz").unlink()
    assert "case4" in fails(capsys, *command)
    assert len(run(capsys, *command, "--only-predicted")["cases"]) == 4
    assert "LABEL=MM" in fails(capsys, *command, "--only-predicted", "--tolerance", "ball")
    write_nifti(tmp_path / "found" / "case4.nii.gz", labels + 5, (3.0, 1.0, 1.0), 4.0)
    assert "does not name" in fails(capsys, *command)


def test_mambasdk_evaluate_measures_a_package(capsys: pytest.CaptureFixture[str], volumes: dict[str, Path]) -> None:
    made = run(capsys, "evaluate", volumes["package"], "--data", volumes["data"], "--no-mirroring", "--step", "1")
    assert set(made["cases"]) == {f"case{i}" for i in range(5)}
    assert [row["label"] for row in made["labels"]] == ["ball", "box"]


def test_a_package_is_trained_on_and_folds_are_averaged(
    capsys: pytest.CaptureFixture[str], volumes: dict[str, Path], tmp_path: Path
) -> None:
    made = run(
        capsys,
        "train",
        volumes["package"],
        "--data",
        volumes["data"],
        "--out",
        tmp_path / "more",
        "--fold",
        "1",
        *SHORT,
    )
    assert (made["fold"], made["train_cases"], made["held_out_cases"]) == ("1", 4, 1)
    image = volumes["data"] / "imagesTr" / "case0_0000.nii.gz"
    run(capsys, "medical", "predict", volumes["package"], tmp_path / "more", "-i", image, "-o", tmp_path / "both")
    one, two = (Predictor.open([package]) for package in (volumes["package"], tmp_path / "more"))
    patch = np.random.default_rng(0).normal(size=(1, *one.patch)).astype(np.float32)
    both = Predictor.open([volumes["package"], tmp_path / "more"]).logits(patch)
    np.testing.assert_allclose(both, (one.logits(patch) + two.logits(patch)) / 2, atol=1e-5)


@pytest.mark.parametrize("amp", ["bfloat16", "float16"])
def test_pictures_are_trained_on_in_mixed_precision(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, amp: str
) -> None:
    data = write_pictures(tmp_path / "Dataset002_P", colours=True)
    made = run(
        capsys, "train", "residual_unet", "--data", data, "--out", tmp_path / "package", "--amp", amp, "--batch", "2",
        "--fold", "all", *SHORT, *SMALL,
    )  # fmt: skip
    assert made["configuration"] == "2d"
    assert np.isfinite(made["loss"])
    image = data / "imagesTr" / "case0_0000.png"
    predict = ("medical", "predict", tmp_path / "package", "-i", image, "-o", tmp_path / "out")
    (row,) = run(capsys, *predict, "--overlays", tmp_path / "shown")["cases"]
    native = np.asarray(load_pipeline(tmp_path / "package").run({"image": image.read_bytes()})["label_map"])
    assert (native == read_labels(Path(row["labels"]))[0]).mean() >= 0.9999
    assert Path(row["labels"]).name == "case0.png"
    assert (tmp_path / "shown" / "case0.png").is_file()


def test_mambasdk_predict_draws_what_is_found(
    capsys: pytest.CaptureFixture[str], volumes: dict[str, Path], tmp_path: Path
) -> None:
    image = volumes["data"] / "imagesTr" / "case0_0000.nii.gz"
    run(capsys, "predict", volumes["package"], image, "--plot", tmp_path / "shown.png")
    assert (tmp_path / "shown.png").read_bytes().startswith(b"\x89PNG")


def test_regions_and_an_ignored_label_from_training_to_scores(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    data = write_pictures(tmp_path / "Dataset003_R")
    file = data / "dataset.json"
    regions = {"labels": {"background": 0, "whole": [1, 2], "box": [2], "ignore": 3}, "regions_class_order": [1, 2]}
    file.write_text(json.dumps({**json.loads(file.read_text()), **regions}))
    for index in range(5):  # two columns of every picture are not annotated
        labels, geometry = read_labels(data / "labelsTr" / f"case{index}.png")
        labels[..., 15:17] = 3
        write_labels(data / "labelsTr" / f"case{index}.png", labels, geometry)
    package = tmp_path / "package"
    run(capsys, "train", "residual_unet", "--data", data, "--out", package, "--batch", "2", *SHORT, *SMALL)
    options = Manifest.read(package).head_options or {}
    assert (options["labels"], options["regions_class_order"]) == (["whole", "box"], [1, 2])
    found = tmp_path / "found"
    command = ("medical", "predict", package, "-i", data / "imagesTr", "-o", found)
    run(capsys, *command)
    pipeline = load_pipeline(package)
    for index in range(5):
        labels = read_labels(found / f"case{index}.png")[0]
        assert set(np.unique(labels)) <= {0, 1, 2}
        made = pipeline.run({"image": (data / "imagesTr" / f"case{index}_0000.png").read_bytes()})["label_map"]
        assert (np.asarray(made) == labels).mean() >= 0.9999
    scores = run(capsys, "medical", "evaluate", found, data / "labelsTr")
    assert set(scores["by_label"]) == {"whole", "box"}
    assert scores["cases"]["case0"]["whole"]["voxels_truth"] > 0


def test_what_does_not_fit_is_said(
    capsys: pytest.CaptureFixture[str], volumes: dict[str, Path], tmp_path: Path
) -> None:
    train = ("train", "residual_unet", "--data", volumes["data"], "--out", tmp_path / "p")
    assert "no such fold" in fails(capsys, *train, "--fold", "9")
    assert "no configuration '3d_lowres'" in fails(capsys, *train, "-c", "3d_lowres")
    assert "no such folder" in fails(
        capsys, "train", "residual_unet", "--data", tmp_path / "none", "--out", tmp_path / "p"
    )
    predict = ("medical", "predict", volumes["package"], "-o", tmp_path / "o", "-i")
    assert "no such file" in fails(capsys, *predict, tmp_path / "none.nii.gz")
    two = [volumes["data"] / "imagesTr" / f"case0_000{i}.nii.gz" for i in (0, 0)]
    assert "number of channels" in fails(capsys, *predict, *two)
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4, 2), np.float32), np.eye(4)), tmp_path / "four.nii.gz")
    assert "4 axes" in fails(capsys, *predict, tmp_path / "four.nii.gz")


def test_an_image_smaller_than_the_patch_and_an_empty_one_are_predicted(
    capsys: pytest.CaptureFixture[str], volumes: dict[str, Path], tmp_path: Path
) -> None:
    for name, volume in (("small", np.ones((3, 4, 5), np.float32)), ("empty", np.zeros((9, 9, 9), np.float32))):
        write_nifti(tmp_path / f"{name}.nii.gz", volume)
        run(capsys, "medical", "predict", volumes["package"], "-i", tmp_path / f"{name}.nii.gz", "-o", tmp_path / "out")
        assert nibabel.load(tmp_path / "out" / f"{name}.nii.gz").shape == volume.shape[::-1]


def nnunet_results(folder: Path, data: Path, model: torch.nn.Module, configuration: str) -> Path:
    """A result folder as nnU-Net's trainers write it, with alias keys and NumPy numbers in the log."""
    workspace = Workspace.of(str(data))
    (folder / "fold_0").mkdir(parents=True)
    shutil.copyfile(workspace.folder / "plans.json", folder / "plans.json")
    shutil.copyfile(data / "dataset.json", folder / "dataset.json")
    weights = dict(model.state_dict())
    for name, tensor in list(weights.items()):
        if name.startswith("encoder."):
            weights[f"decoder.{name}"] = tensor
    content = {
        "network_weights": weights,
        "init_args": {"configuration": configuration, "fold": 0},
        "trainer_name": "nnUNetTrainerUMambaBot",
        "inference_allowed_mirroring_axes": (0, 1, 2),
        "logging": {"mean_fg_dice": [np.float64(0.5), np.float32(0.25)]},
    }
    torch.save(content, folder / "fold_0" / "checkpoint_final.pth")
    return folder


def test_a_result_folder_of_nnunet_is_imported_and_predicts(
    capsys: pytest.CaptureFixture[str], volumes: dict[str, Path], tmp_path: Path
) -> None:
    data = volumes["data"]
    plan = Workspace.of(str(data)).plans().configuration("3d_fullres")
    from mambasdk.models import find_model
    from mambasdk.plugins import resolve

    config = resolve(find_model("u_mamba")[0].config)
    torch.manual_seed(0)
    model = create_model("u_mamba", **config.for_plan(plan.network(1, 3)), placement="bot")
    results = nnunet_results(tmp_path / "results", data, model, "3d_fullres")
    made = run(capsys, "medical", "import", "u_mamba", results, "--out", tmp_path / "package")
    assert (made["family"], made["configuration"]) == ("u_mamba", "3d_fullres")
    again = load(tmp_path / "package")
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    assert (Manifest.read(tmp_path / "package").head_options or {})["mirror_axes"] == [0, 1, 2]
    image = data / "imagesTr" / "case0_0000.nii.gz"
    run(capsys, "medical", "predict", tmp_path / "package", "-i", image, "-o", tmp_path / "out", "--no-mirroring")
    assert (tmp_path / "out" / "case0.nii.gz").is_file()
    assert "no checkpoint" in fails(
        capsys, "medical", "import", "u_mamba", results, "--fold", "3", "--out", tmp_path / "q"
    )
    (results / "fold_0" / "checkpoint_final.pth").write_bytes(b"no pickle")
    assert "cannot be read" in fails(capsys, "medical", "import", "u_mamba", results, "--out", tmp_path / "q")
