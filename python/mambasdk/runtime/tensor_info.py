"""What a model says of a tensor that it takes, makes or carries."""

from __future__ import annotations

from typing import TypedDict


class TensorInfo(TypedDict):
    """dtype: "f32", "i32", …; shape: extents, and names of those that are free, such as "B" and "L"."""

    name: str
    dtype: str
    shape: list[int | str]
