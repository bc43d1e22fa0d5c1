"""Rendered videos: shapes that swing, cross and hide behind pillars, on a textured background."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Floats = NDArray[np.float64]

WIDTH, HEIGHT = 320, 192
SHAPES = 5  # in a video
PILLARS = 2
VISIBLE = 0.5  # least share of a shape that has to be seen for a box
LABELS = ("disc", "square", "triangle")
_FINER = 2  # shapes are drawn so much larger, then reduced


@dataclass(frozen=True)
class Scene:
    """paths: (shapes, frames, 4), centre x, centre y, width, height. kinds: index into LABELS. colours: RGB."""

    paths: Floats
    kinds: NDArray[np.int64]
    colours: NDArray[np.uint8]  # (shapes, 3)
    pillars: Floats  # (pillars, 2), left and width
    background: NDArray[np.uint8]  # (HEIGHT, WIDTH, 3)

    @property
    def frames(self) -> int:
        """How many there are."""
        return int(self.paths.shape[1])


def swing(chance: np.random.Generator, count: int, frames: int, centres: Floats | None = None) -> Floats:
    """Boxes (count, frames, 4), centre x, centre y, width, height: three sine waves an axis about a centre."""
    size = chance.uniform(34, 54, (count, 1))
    if centres is None:
        centres = chance.uniform((60, 60), (WIDTH - 60, HEIGHT - 60), (count, 2))
    time = np.arange(frames)
    waves = []
    for low, high in ((0.2, 0.8), (0.05, 0.3)):  # of the size: x, y
        amplitude = chance.uniform(low, high, (count, 3, 1)) * size[..., None]
        frequency = chance.uniform(0.01, 0.07, (count, 3, 1))
        phase = chance.uniform(0, 2 * np.pi, (count, 3, 1))
        waves.append((amplitude * np.sin(2 * np.pi * frequency * time + phase)).sum(1))
    # As far as the image reaches: nobody leaves it.
    for wave, centre, side in zip(waves, centres.T, (WIDTH, HEIGHT), strict=True):
        room = np.minimum(centre, side - centre)[:, None] - 0.6 * size
        np.multiply(wave, np.minimum(1, room / np.abs(wave).max(1, keepdims=True)), out=wave)
    sides = []
    for _ in range(2):
        share = chance.uniform(0.08, 0.2, (count, 1))
        frequency = chance.uniform(0.01, 0.05, (count, 1))
        sides.append(size * (1 + share * np.sin(2 * np.pi * frequency * time + chance.uniform(0, 6, (count, 1)))))
    return np.stack([centres[:, :1] + waves[0], centres[:, 1:] + waves[1], *sides], -1)


def make_scene(chance: np.random.Generator, frames: int) -> Scene:
    """Shapes side by side, so that they cross again and again, and pillars in front of them."""
    x = np.linspace(70, WIDTH - 70, SHAPES) + chance.uniform(-12, 12, SHAPES)
    y = HEIGHT / 2 + chance.uniform(-34, 34, SHAPES)
    width = chance.uniform(16, 26, PILLARS)
    left = (np.arange(PILLARS) + chance.uniform(0.3, 0.7, PILLARS)) * WIDTH / PILLARS - width / 2
    return Scene(
        swing(chance, SHAPES, frames, np.stack([x, y], 1)),
        chance.integers(0, len(LABELS), SHAPES),
        np.uint8([_bright(chance) for _ in range(SHAPES)]),
        np.stack([left, width], 1),
        _texture(chance),
    )


def render(scene: Scene, frame: int) -> tuple[Image.Image, Floats, Floats]:
    """The picture of a frame, from 0; boxes (shapes, 4), left, top, right, bottom; the share of each that is seen."""
    picture = Image.fromarray(scene.background)
    boxes = corners(scene.paths[:, frame])  # (shapes, 4)
    owner = np.full((HEIGHT, WIDTH), -1)
    sizes = []
    for index, (box, kind, colour) in enumerate(zip(boxes, scene.kinds, scene.colours, strict=True)):
        mask = _mask(LABELS[kind], box)
        picture.paste(tuple(colour.tolist()), mask=mask)
        inside = np.asarray(mask) > 127
        owner[inside] = index
        sizes.append(max(float(inside.sum()), 1.0))
    pen = ImageDraw.Draw(picture)
    for left, width in scene.pillars:
        pen.rectangle((left, 0, left + width, HEIGHT), fill=(70, 64, 60))
        pen.line((left, 0, left, HEIGHT), fill=(110, 100, 92), width=3)
        owner[:, max(round(left), 0) : round(left + width) + 1] = -1
    seen = np.array([(owner == index).sum() for index in range(len(boxes))]) / sizes
    return picture, boxes, seen


def corners(boxes: Floats) -> Floats:
    """(…, 4) from centre and size to left, top, right, bottom."""
    return np.concatenate([boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2], -1)


def _mask(kind: str, box: Floats) -> Any:
    """A shape that fills its box, as a picture of its coverage."""
    large = Image.new("L", (WIDTH * _FINER, HEIGHT * _FINER))
    pen = ImageDraw.Draw(large)
    left, top, right, bottom = (box * _FINER).tolist()
    if kind == "disc":
        pen.ellipse((left, top, right, bottom), fill=255)
    elif kind == "square":
        pen.rectangle((left, top, right, bottom), fill=255)
    else:
        pen.polygon(((left, bottom), ((left + right) / 2, top), (right, bottom)), fill=255)
    return large.reduce(_FINER)


def _bright(chance: np.random.Generator) -> list[int]:
    red, green, blue = colorsys.hsv_to_rgb(chance.random(), chance.uniform(0.3, 0.9), chance.uniform(0.75, 1))
    return [round(255 * red), round(255 * green), round(255 * blue)]


def _texture(chance: np.random.Generator) -> NDArray[np.uint8]:
    """Noise of three scales in muted colours."""
    total = np.zeros((HEIGHT, WIDTH, 3))
    for step, weight in ((4, 10), (16, 14), (64, 20)):
        noise = chance.uniform(-1, 1, (HEIGHT // step + 2, WIDTH // step + 2, 3))
        small = Image.fromarray(np.uint8(127 + 127 * noise)).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
        total += weight * (np.asarray(small, np.float64) / 127 - 1)
    return np.uint8(np.clip(chance.uniform(60, 110, 3) + total, 0, 255))
