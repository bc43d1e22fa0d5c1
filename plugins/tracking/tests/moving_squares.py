"""A video of two squares that cross, and a detector package that sees them: what the tests of videos share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import toy_pipelines

from mambasdk.lowering import Program
from mambasdk_tracking.mot import Table, make_table

HEIGHT, WIDTH, SIDE = 64, 128, 16
FRAMES = 24
LABELS = ["red", "green"]
HIDDEN = range(11, 14)  # frames in which the green square is not there
_CELL = SIDE // 2  # of the model's image, which is half as large


def position(label: int, number: int) -> tuple[int, int]:
    """Left and top of a square in a frame: red goes right, green left, four pixels a frame, in rows of their own."""
    left = 4 * (number - 1)
    return (left, 8) if label == 0 else (WIDTH - SIDE - left, 36)


def pixels(number: int) -> npt.NDArray[np.uint8]:
    """A frame, uint8 (H, W, 3)."""
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for label in (0, 1):
        if label == 1 and number in HIDDEN:
            continue
        left, top = position(label, number)
        image[top : top + SIDE, left : left + SIDE, label] = 255
    return image


def truth(every: int = 1) -> Table:
    """Where the squares are seen, in frames 1, 1 + every and so on."""
    rows = [
        (number, label + 1, *position(label, number), SIDE, SIDE)
        for number in range(1, FRAMES + 1, every)
        for label in (0, 1)
        if not (label == 1 and number in HIDDEN)
    ]
    table = np.array(rows)
    return make_table(table[:, 0], table[:, 1], table[:, 2:])


def write_pictures(folder: Path, ending: str = ".png") -> list[Path]:
    """The frames as files 1.png to 24.png, whose names sort as numbers do."""
    from PIL import Image

    folder.mkdir(parents=True)
    files = [folder / f"{number}{ending}" for number in range(1, FRAMES + 1)]
    for number, path in enumerate(files, 1):
        Image.fromarray(pixels(number)).save(path)
    return files


def write_detector(folder: Path, **head_options: Any) -> Path:
    """A package that knows a red and a green square by the mean of a channel over each cell of a grid of pixels."""
    height, width = HEIGHT // 2, WIDTH // 2
    corners = [(y, x) for y in range(0, height - _CELL + 1, 2) for x in range(0, width - _CELL + 1, 2)]
    seen = np.zeros((len(corners), 2, 3, height, width), np.float32)
    for index, (y, x) in enumerate(corners):
        for label in (0, 1):
            seen[index, label, label, y : y + _CELL, x : x + _CELL] = 1 / _CELL**2
    boxes = np.array([[x, y, x + _CELL, y + _CELL] for y, x in corners], np.float32)
    program = Program()
    flat = program.reshape(program.input("image", "f32", [1, 3, height, width]), [1, 3 * height * width])
    count = len(corners)
    program.output(
        "scores", program.reshape(program.linear(flat, "scores", bias=False), [1, count, 2]), "f32", [1, count, 2]
    )
    where = program.linear(program.linear(flat, "nothing", bias=False), "boxes", bias=True)
    program.output("boxes", program.reshape(where, [1, count, 4]), "f32", [1, count, 4])
    weights = {
        "scores.weight": seen.reshape(2 * count, -1),
        "nothing.weight": np.zeros((1, 3 * height * width), np.float32),
        "boxes.weight": np.zeros((4 * count, 1), np.float32),
        "boxes.bias": boxes.reshape(-1),
    }
    return toy_pipelines.write_package(
        folder,
        program,
        weights,
        processors={
            "image": {"kind": "image", "size": [height, width], "resize": "exact", "interpolation": "bilinear"}
        },
        head="object_detection",
        head_options={"labels": LABELS, "box_format": "xyxy", "iou_threshold": 0.1, **head_options},
        plugin="mambasdk-vision",
    )
