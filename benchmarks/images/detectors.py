"""Frames a second of Mamba-YOLO at 640 x 640, one at a time: natively and in PyTorch, beside a network of YOLOv8n's
shape in onnxruntime, PyTorch and natively; and where the time of a frame goes, from the bytes of its file to the boxes.
"""

from __future__ import annotations

import io
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timing import Call, medians, multiply_adds

import mambasdk
from mambasdk import runtime
from mambasdk.lowering import as_model
from mambasdk.package import save_package
from mambasdk.pipeline import load_pipeline
from mambasdk_vision import ImageProcessor, ObjectDetection

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from exported import networks  # plain networks of PyTorch, which the tests export too

SIDE, FRAME = 640, (720, 1280)  # of the model; height and width of the file
VARIANTS = ("mamba-yolo-t", "mamba-yolo-b", "mamba-yolo-l")
PEER = "yolov8n-shaped"
FOUND, SHOWN = 200, 0.25  # places of a frame whose score is above the threshold


def measure(quick: bool, rates: dict[str, float], threads: int) -> dict[str, Any]:
    """Rows by model and engine, and the stages of a frame by model; rates: see `speed.measure`."""
    runtime.set_num_threads(threads)
    torch.manual_seed(0)
    variants, repeats = (VARIANTS[:1], 1) if quick else (VARIANTS, 9)
    image = torch.randn(1, 3, SIDE, SIDE)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        models: dict[str, Any] = {name: mambasdk.create_model(name).eval() for name in variants}
        shape = {"x": ["B", 3, SIDE, SIDE]}
        peer = networks.Named(networks.Detector(), {"x": torch.randn(2, 3, SIDE, SIDE)}, shape).eval()
        calls: dict[str, Call] = {}
        for name, model in [*models.items(), (PEER, peer)]:
            given = {"image" if name in models else "x": image}
            save_package(model, place / name, engine="native", golden=False)
            session = runtime.load_package(place / name).session()
            arrays = {key: value.numpy() for key, value in given.items()}
            calls[f"{name}, native"] = partial(session.run, arrays)
            calls[f"{name}, eager"] = partial(as_model(model).native_outputs, given)
        calls[f"{PEER}, onnxruntime"] = _onnx(peer.net, image, place / "peer.onnx", threads)
        seconds = medians(calls, repeats)
        adds = {name: multiply_adds(model, image) for name, model in [*models.items(), (PEER, peer.net)]}
        rows = [_row(name, value, adds[name.split(",")[0]], rates) for name, value in seconds.items()]
        stages = {name: _stages(model, place / name, repeats) for name, model in models.items()}
    _print_table(rows, stages)
    return {"side": SIDE, "rows": rows, "frame": FRAME, "stages": stages, "rates": rates}


def _row(name: str, seconds: float, adds: float, rates: dict[str, float]) -> dict[str, Any]:
    model, engine = name.split(", ")
    row = {"model": model, "engine": engine, "seconds": seconds, "frames_per_second": 1 / seconds}
    row["multiply_adds"] = adds
    if rates:
        row["share_of_rate"] = adds / rates["multiply_adds"] / seconds
    return row


def _onnx(network: Any, image: Any, file: Path, threads: int) -> Call:
    import onnxruntime

    torch.onnx.export(network, (image,), str(file), dynamo=True, external_data=False, optimize=True, verbose=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return partial(session.run, None, {session.get_inputs()[0].name: image.numpy()})


def _stages(model: Any, package: Path, repeats: int) -> dict[str, Any]:
    """Seconds of each stage of a frame, of the whole pipeline, and the share of all that is not the model."""
    entry = as_model(model).package_processors()["image"]
    processor = ImageProcessor(**{name: value for name, value in entry.items() if name != "kind"})
    head = ObjectDetection(**as_model(model).package_head_options())
    pixels, file = _frame()
    prepared = processor.run(image=file)
    session = runtime.load_package(package).session()
    outputs = session.run({"image": prepared["image"]}, ["boxes", "scores"])
    given = {"boxes": outputs["boxes"], "scores": _scores(outputs["scores"].shape)}
    given |= {name: prepared[name] for name in ("image_size", "image_transform")}
    pipeline = load_pipeline(package)
    calls: dict[str, Call] = {
        "file": partial(processor.run, image=file),
        "pixels": partial(processor.run, image=pixels),
        "model": partial(session.run, {"image": prepared["image"]}, ["boxes", "scores"]),
        "post_processing": partial(head.run, **given),
        "whole": partial(pipeline.run, {"image": file}),
    }
    seconds = medians(calls, repeats)
    stages = {
        "decoding": max(seconds["file"] - seconds["pixels"], 0.0),
        "pre_processing": seconds["pixels"],
        "model": seconds["model"],
        "post_processing": seconds["post_processing"],
    }
    share = 1 - stages["model"] / sum(stages.values())
    return {"seconds": stages, "whole": seconds["whole"], "share_around_the_model": share}


def _frame() -> tuple[Any, bytes]:
    """A frame of smooth colours with some noise: uint8 (H, W, 3), and its JPEG."""
    from PIL import Image

    chance = np.random.default_rng(0)
    height, width = FRAME
    coarse = Image.fromarray(chance.integers(0, 256, (height // 40, width // 40, 3), np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.float64)
    pixels = np.clip(smooth + chance.normal(0, 4, smooth.shape), 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    return pixels, file.getvalue()


def _scores(shape: tuple[int, ...]) -> Any:
    """float32 scores as a trained detector gives them: nearly all low, some above the threshold."""
    chance = np.random.default_rng(0)
    scores = chance.uniform(0, SHOWN / 4, shape).astype(np.float32)
    for row in chance.choice(shape[1], FOUND, replace=False):
        scores[0, row, chance.integers(shape[2])] = chance.uniform(SHOWN, 1)
    return scores


def _print_table(rows: list[dict[str, Any]], stages: dict[str, Any]) -> None:
    """As docs/vision.md has it."""
    rate = {(row["model"], row["engine"]): row["frames_per_second"] for row in rows}
    engines = ("eager", "native", "onnxruntime")
    print("| 640², frames a second | G multiply-adds | PyTorch | native | onnxruntime | share of the rate, native |")
    print("|---|---:|---:|---:|---:|---:|")
    for row in (row for row in rows if row["engine"] == "native"):
        found = (rate.get((row["model"], engine)) for engine in engines)
        cells = " | ".join("" if value is None else f"{value:.2f}" for value in found)
        share = f"{row['share_of_rate']:.0%}" if "share_of_rate" in row else ""
        print(f"| `{row['model']}` | {row['multiply_adds'] / 1e9:.1f} | {cells} | {share} |")
    print("\n| milliseconds of a frame | decoding | pre-processing | model | post-processing | around the model |")
    print("|---|---:|---:|---:|---:|---:|")
    for name, found in stages.items():
        cells = " | ".join(f"{1e3 * value:.1f}" for value in found["seconds"].values())
        print(f"| `{name}` | {cells} | {found['share_around_the_model']:.1%} |", flush=True)
