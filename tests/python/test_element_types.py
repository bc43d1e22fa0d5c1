"""The table of element types is one: Python's lines are the native library's, and every user knows each of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mambasdk.element_types import ELEMENT_TYPES, WEIGHT_TYPES, linear_operations
from mambasdk.errors import LoweringError
from mambasdk.lowering import Program, registered_signatures

_core = pytest.importorskip("mambasdk._core")
TABLE: list[dict[str, Any]] = _core.dtype_table()
COMPUTED = [line for line in TABLE if line["use"] == "computed"]


def test_python_has_the_lines_of_the_library() -> None:
    ours = [(entry.name, entry.array, entry.stored) for entry in ELEMENT_TYPES]
    assert ours == [(line["name"], line["array"], line["stored"]) for line in COMPUTED]


def test_names_are_unique() -> None:
    for key in ("name", "stored", "dlpack"):
        values = [line[key] for line in TABLE if line[key]]
        assert len(set(values)) == len(values), key


@pytest.mark.parametrize("line", TABLE, ids=lambda line: line["name"])
def test_numpy_arrays_are_taken_or_refused_by_name(line: dict[str, Any]) -> None:
    try:
        array = np.zeros(3, np.dtype(line["array"] or "V1"))
    except TypeError:
        pytest.skip("NumPy has no such type")
    expected = "expected one of float64, float32, float16, complex64, complex128, int64, int32, uint8, bool"
    if line["use"] == "held":
        with pytest.raises(TypeError, match=f"x has dtype {array.dtype}, {expected}"):
            _core.call("relu", x=array)
    elif line["name"] in ("f64", "f32", "f16"):
        y = _core.call("relu", x=array)["y"]
        assert y.dtype == array.dtype
    else:
        with pytest.raises(ValueError, match=f"relu: x is {line['name']}, expected one of"):
            _core.call("relu", x=array)


def test_safetensors_knows_the_stored_names() -> None:
    torch = pytest.importorskip("torch")
    numbers = pytest.importorskip("safetensors.torch")
    import json
    import struct

    for line in TABLE:
        dtype = getattr(torch, line["array"], None) if line["array"] else None
        if dtype is None or not line["stored"]:
            continue
        data = numbers.save({"x": torch.zeros(2, dtype=dtype)})
        (length,) = struct.unpack("<Q", data[:8])
        assert json.loads(data[8 : 8 + length])["x"]["dtype"] == line["stored"], line["name"]


def test_torch_tensors_keep_their_type_or_are_refused_by_name() -> None:
    torch = pytest.importorskip("torch")
    from mambasdk import ops

    for line in TABLE:
        dtype = getattr(torch, line["array"], None) if line["array"] else None
        if dtype is None:
            continue
        x = torch.zeros(2, 3, dtype=dtype)
        if line["name"] in ("f64", "f32", "bf16", "f16"):
            assert ops.call("relu", x=x).dtype == dtype
        else:
            with pytest.raises(ValueError, match=f"relu: x is {line['name']}, expected one of"):
                ops.call("relu", x=x)


def test_a_product_is_chosen_by_the_storage_of_its_weight() -> None:
    assert WEIGHT_TYPES == ("float32", "bfloat16", "float16")
    assert set(linear_operations().values()) <= set(registered_signatures())
    for stored, operation in linear_operations().items():
        program = Program({"head.weight": stored})
        x = program.input("x", "f32", ["B", 4])
        program.output("y", program.linear(x, "head", bias=False), "f32", ["B", 2])
        assert [node["op"] for node in program.to_json()["nodes"]] == [operation]
    program = Program({"head.weight": "i8"})
    with pytest.raises(LoweringError, match=r"head.weight is stored as i8.*expected one of f32, bf16, f16"):
        program.linear(program.input("x", "f32", ["B", 4]), "head", bias=False)
