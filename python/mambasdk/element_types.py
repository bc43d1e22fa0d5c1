"""The element types of tensors: their names here, in torch and NumPy, and in safetensors. Imports no torch.

The same lines as the native library's table (`cpp/core/dtype_table.hpp`), which a test compares.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class ElementType:
    """One type.

    name: in signatures, manifests and programs. array: in torch and NumPy. stored: in safetensors files, "" where the
    format lacks it. linear: the operation that multiplies by a weight that is stored so, "" where there is none.
    """

    name: str
    array: str
    stored: str
    linear: str = ""


# Those that operations take.
ELEMENT_TYPES = (
    ElementType("f64", "float64", "F64"),
    ElementType("f32", "float32", "F32", linear="linear"),
    ElementType("bf16", "bfloat16", "BF16", linear="linear"),
    ElementType("f16", "float16", "F16", linear="linear"),
    ElementType("c64", "complex64", "C64"),
    ElementType("c128", "complex128", ""),
    ElementType("i64", "int64", "I64"),
    ElementType("i32", "int32", "I32"),
    ElementType("u8", "uint8", "U8"),
    ElementType("bool", "bool", "BOOL"),
)

# What the weights of a package may be stored as.
WEIGHT_TYPES = tuple(entry.array for entry in ELEMENT_TYPES if entry.linear)


def torch_dtypes() -> dict[str, torch.dtype]:
    """Names of the types -> torch's dtypes. Imports torch."""
    import torch

    return {entry.name: getattr(torch, entry.array) for entry in ELEMENT_TYPES}


def linear_operations() -> dict[str, str]:
    """Names of the types that a weight may be stored as -> the operation that multiplies by it."""
    return {entry.name: entry.linear for entry in ELEMENT_TYPES if entry.linear}
