"""The commands of the families' pages run as they stand, on small data: training first, then what uses its packages.

Training takes two steps. What cannot be typed here is listed with the reason; the language page has a test of its own.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = [pytest.mark.install, pytest.mark.slow]
DOCS = Path(__file__).parents[2] / "docs"
FEW_STEPS = "--steps 2 --batch 2 --overwrite --restart --yes"
SIDES = [f"{side}_{part}" for part in ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")
         for side in ("left", "right")]  # fmt: skip
KEYPOINTS = {"id": 1, "name": "person", "keypoints": ["nose", *SIDES], "skeleton": [[1, 2], [1, 3]]}
NOT_TYPED = {
    "pip install": "it would change the environment",
    "--engine aoti": "compiling takes a minute; tests/runtime/test_aoti.py",
    "compiled": "it is made with --engine aoti",
    "predict_cpp": "a C++ program; tests/install/test_examples.py",
    "mambasdk import": "a downloaded checkpoint; the plugins' golden tests",
    "mambasdk medical import": "a checkpoint of nnU-Net; plugins/medical/tests/test_medical_commands.py",
    "echo": "it writes the checkpoint's configuration",
}


def photos(folder: Path) -> None:
    """Photos in class folders, scenes with masks, people with keypoints, pictures with boxes, and one of each name."""
    image = pytest.importorskip("PIL.Image")
    chance = np.random.default_rng(0)
    names = [f"photos/{label}/{i}.png" for label in ("cat", "dog") for i in range(6)]
    for name in [*names, "new.jpg"]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        image.fromarray(chance.integers(0, 256, (40, 48, 3), np.uint8)).save(folder / name)
    people: dict[str, Any] = {"images": [], "annotations": [], "categories": [KEYPOINTS]}
    for i in range(6):
        names = [f"scenes/images/{i}.png", f"images/{i}.png", f"set/images/{i}.png", f"pictures/{i}.png"]
        for name in [*names, f"scenes/masks/{i}.png", "street.jpg", "runner.jpg"]:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            pixels = chance.integers(0, 256, (96, 128, 3), np.uint8)
            image.fromarray(pixels[..., 0] % 3 if "masks" in name else pixels).save(folder / name)
        (folder / "set" / "labels").mkdir(exist_ok=True)
        (folder / "set" / "labels" / f"{i}.txt").write_text("0 0.5 0.5 0.4 0.6\n")
        people["images"].append({"id": i, "file_name": f"{i}.png", "width": 128, "height": 96})
        keypoints = [value for k in range(17) for value in (20 + 4 * k, 20 + 3 * k, 2)]
        person = {"bbox": [10, 10, 90, 70], "area": 5000, "iscrowd": 0, "keypoints": keypoints, "num_keypoints": 17}
        people["annotations"].append({"id": i, "image_id": i, "category_id": 1, **person})
    (folder / "people.json").write_text(json.dumps(people))
    (folder / "data.yaml").write_text("path: set\ntrain: images\nval: images\nnames: [person]\n")


def sounds(folder: Path) -> None:
    """Clips of a second in class folders, unlabelled ones, and one to predict."""
    chance = np.random.default_rng(0)
    names = [f"DATA/{label}/{i}.wav" for label in ("go", "stop") for i in range(6)]
    for name in [*names, *(f"WAVS/{i}.wav" for i in range(4)), "clip.wav"]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with wave.open(str(folder / name), "wb") as clip:
            clip.setparams((1, 2, 16000, 0, "NONE", ""))
            clip.writeframes(chance.integers(-9000, 9000, 16000, np.int16).tobytes())


def graphs(folder: Path) -> None:
    """Rings and stars, and a graph whose nodes have classes."""
    rows = []
    for size in range(4, 14):
        ring = [[i, (i + 1) % size] for i in range(size)]
        star = [[0, i] for i in range(1, size)]
        rows += [{"num_nodes": size, "edges": edges, "y": label} for label, edges in enumerate((ring, star))]
    (folder / "graphs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "graph.json").write_text(json.dumps({"num_nodes": 5, "edges": [[0, i] for i in range(1, 5)]}))
    edges = [[i, j] for i in range(12) for j in range(i) if (i < 6) == (j < 6) or (i, j) == (6, 5)]
    split = {"train": [0, 1, 2, 7, 8], "test": [3, 4, 9, 10]}
    club = {"num_nodes": 12, "edges": edges, "y": [int(i < 6) for i in range(12)], "split": split}
    (folder / "club.json").write_text(json.dumps(club))


def videos(folder: Path) -> None:
    """Three objects that walk for 40 frames: truth and detections, as a video and as the folders of a training set."""
    for name in ("VIDEO", "DanceTrack/train/dance1", "DanceTrack/train/dance2", "mot/walk1", "mot/walk2"):
        place = folder / name
        for part in ("gt", "det"):
            (place / part).mkdir(parents=True)
        rows = [(f, i, 50 * i + 3 * f, 40 + 20 * i + f, 30, 60) for f in range(1, 41) for i in (1, 2, 3)]
        (place / "gt" / "gt.txt").write_text("".join(f"{f},{i},{x},{y},{w},{h},1,1,1\n" for f, i, x, y, w, h in rows))
        (place / "det" / "det.txt").write_text("".join(f"{f},-1,{x},{y},{w},{h},0.9\n" for f, _, x, y, w, h in rows))
        (place / "seqinfo.ini").write_text(
            f"[Sequence]\nname={place.name}\nimDir=img1\nframeRate=30\nseqLength=40\nimWidth=640\nimHeight=360\nimExt=.jpg\n"
        )
    (folder / "det.txt").write_text((folder / "VIDEO" / "det" / "det.txt").read_text())
    detector(folder)


def detector(folder: Path) -> None:
    """A detector with random weights, and a video for it, as a file and as frames."""
    pytest.importorskip("av")
    image = pytest.importorskip("PIL.Image")
    import mambasdk
    from mambasdk_tracking.video_files import write_pictures, write_video

    settings = {"width": 0.03125, "reg_max": 4, "num_classes": 2, "imgsz": 64}
    mambasdk.save_package(mambasdk.create_model("mamba_yolo", **settings), folder / "DETECTOR")
    chance = np.random.default_rng(0)
    for write, name in ((write_video, "VIDEO.mp4"), (write_pictures, "FRAMES")):
        frames = (image.fromarray(chance.integers(0, 256, (48, 64, 3), np.uint8)) for _ in range(8))
        write(folder / name, frames, 25)


def documents(folder: Path) -> None:
    """Texts with images of tokens, and with images of latents; texts alone."""
    chance = np.random.default_rng(0)
    for name, image in (
        ("documents", lambda: {"tokens": chance.integers(0, 256, 9).tolist()}),
        ("latents", lambda: {"latents": chance.standard_normal((6, 4)).round(3).tolist()}),
    ):
        text = {"modality": "text", "text": "a red square: "}
        rows = [json.dumps({"segments": [text, {"modality": "image", **image()}]}) for _ in range(12)]
        (folder / f"{name}.jsonl").write_text("\n".join(rows))
        if name == "documents":
            (folder / "document.json").write_text(rows[0])
    (folder / "texts").mkdir()
    (folder / "texts" / "a.txt").write_text("a red square, a green square, a blue square\n" * 60)


def patients(folder: Path) -> None:
    """Volumes of a bright ball and a brighter box, and pictures of a slice of them."""
    nibabel = pytest.importorskip("nibabel")
    image = pytest.importorskip("PIL.Image")
    chance = np.random.default_rng(0)
    for name, ending, channels in (("Dataset001_Organs", ".nii.gz", "MR"), ("Dataset002_Lesions", ".png", "grey")):
        labels = {"background": 0, "ball": 1, "box": 2}
        description = {"channel_names": {"0": channels}, "labels": labels, "numTraining": 4, "file_ending": ending}
        (folder / name).mkdir()
        (folder / name / "dataset.json").write_text(json.dumps(description))
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, extent) for extent in (24, 20, 10)), indexing="ij"))
    volume = 1 * ((grid + 0.3) ** 2 < 0.05).all(0) + 2 * (np.abs(grid - 0.4) < 0.25).all(0)
    for index in range(4):
        shown = 20 + 30.0 * volume + chance.normal(0, 2, volume.shape)
        for part in ("Tr", "Ts"):
            for place, values in ((f"images{part}/case{index}_0000", shown), (f"labels{part}/case{index}", volume)):
                file = folder / "Dataset001_Organs" / f"{place}.nii.gz"
                file.parent.mkdir(exist_ok=True)
                nibabel.save(nibabel.Nifti1Image(values.astype(np.float32), np.diag([1, 1, 3, 1])), file)
                file = folder / "Dataset002_Lesions" / f"{place}.png"
                file.parent.mkdir(exist_ok=True)
                image.fromarray(values[..., 6].astype(np.uint8)).save(file)


def lines(page: str) -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
    found = [line.split("   #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in found if line and not any(word in line for word in NOT_TYPED)]


@pytest.mark.parametrize(
    ("page", "prepare"),
    [
        ("vision.md", photos),
        ("audio.md", sounds),
        ("graph.md", graphs),
        ("tracking.md", videos),
        ("multimodal.md", documents),
        ("medical.md", patients),
    ],
)
def test_the_commands_of_the_page_run(page: str, prepare: Callable[[Path], None], tmp_path: Path) -> None:
    pytest.importorskip("torch")
    prepare(tmp_path)
    typed = sorted(lines(page), key=lambda line: not line.startswith("mambasdk train"))  # in the page's order otherwise
    assert any(line.startswith("mambasdk train") for line in typed)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for line in typed:
        command = f"{line} {FEW_STEPS}" if line.startswith("mambasdk train") else line
        options: dict[str, Any] = {"cwd": tmp_path, "env": environment, "text": True, "timeout": 600}
        done = subprocess.run(["bash", "-c", command], capture_output=True, check=False, **options)
        assert done.returncode == 0, f"{command}\n{done.stdout[-800:]}{done.stderr[-800:]}"
