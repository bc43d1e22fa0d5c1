"""States that grow: written by hand and exported, run step by step against the whole sequence in one run."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mambasdk.errors import InvalidArgumentError, LoweringError
from mambasdk.lowering.program import Program
from mambasdk.nn import Model
from mambasdk.package import save_package
from mambasdk.runtime import load_package

_WIDTH, _HEADS, _ROWS = 8, 2, 64


class Attention(nn.Module, Model):
    """Causal attention over what came before, whose keys and values are the state; two layers share their length."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(_WIDTH, 3 * _WIDTH) for _ in range(2))
        self.positions = nn.Parameter(torch.randn(_ROWS, _WIDTH))

    def example_inputs(self) -> dict[str, Tensor]:
        return {"x": torch.randn(2, 5, _WIDTH, generator=torch.Generator().manual_seed(0))}

    def input_shapes(self) -> dict[str, list[int | str]]:
        return {"x": ["B", "L", _WIDTH]}

    def initial_state(self, batch_size: int) -> Any:
        empty = torch.zeros(batch_size, 0, _HEADS, _WIDTH // _HEADS)
        return [(empty, empty.clone(), torch.zeros(batch_size, _WIDTH)) for _ in self.layers]

    def native_outputs(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        return self.native_step(inputs, self.initial_state(inputs["x"].shape[0]))[0]

    def native_step(self, inputs: dict[str, Tensor], state: Any) -> tuple[dict[str, Tensor], Any]:
        x, after = inputs["x"], []
        length, past = x.shape[1], state[0][0].shape[1]
        x = x + self.positions[past : past + length]
        seen = torch.arange(past + length)[None, :] <= torch.arange(length)[:, None] + past
        for layer, (old_keys, old_values, summed) in zip(self.layers, state, strict=True):
            query, key, value = layer(x).view(*x.shape[:2], 3, _HEADS, _WIDTH // _HEADS).unbind(2)
            keys, values = torch.cat([old_keys, key], 1), torch.cat([old_values, value], 1)
            scores = torch.einsum("blhe,bshe->bhls", query, keys).masked_fill(~seen, -1e9)
            x = x + torch.einsum("bhls,bshe->blhe", scores.softmax(-1), values).flatten(2) + summed[:, None]
            after.append((keys, values, summed + x.sum(1) * 0.01))
        return {"y": x}, after


def by_hand(program: Program) -> Program:
    """Attention of one layer."""
    x = program.input("x", "f32", ["B", "L", _WIDTH])
    q, k, v = (
        program.reshape(program.linear(x, name, bias=False), ["B", "L", _HEADS, _WIDTH // _HEADS]) for name in "qkv"
    )
    held = [
        program.state(name, "f32", ["B", "past", _HEADS, _WIDTH // _HEADS], grows=1, limit=_ROWS) for name in ("k", "v")
    ]
    keys, values = (program.append(state, rows) for state, rows in zip(held, (k, v), strict=True))
    y = program.op("attention", q=q, k=keys, v=values, scale=0.5, causal=True)
    program.output("y", program.reshape(y, ["B", "L", _WIDTH]), "f32", ["B", "L", _WIDTH])
    return program


class Written(nn.Module, Model):
    """What `by_hand` computes, in torch."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(_WIDTH, _WIDTH, bias=False) for _ in range(3))

    def example_inputs(self) -> dict[str, Tensor]:
        return {"x": torch.randn(2, 5, _WIDTH, generator=torch.Generator().manual_seed(0))}

    def input_shapes(self) -> dict[str, list[int | str]]:
        return {"x": ["B", "L", _WIDTH]}

    def native_outputs(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        x = inputs["x"]
        q, k, v = (layer(x).unflatten(-1, (_HEADS, -1)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        y = nn.functional.scaled_dot_product_attention(q, k, v, scale=0.5, is_causal=True)
        return {"y": y.transpose(1, 2).flatten(2)}

    def lower(self, program: Program) -> Program:
        return by_hand(program)


@pytest.fixture(params=[Attention, Written])
def net(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(3)
    return request.param().eval()


def steps(session: Any, x: NDArray[np.float32], pieces: Sequence[int]) -> NDArray[np.float32]:
    at = np.cumsum([0, *pieces])
    parts = [session.run({"x": x[:, a:b]}, ["y"])["y"] for a, b in pairwise(at)]
    return np.concatenate(parts, axis=1)


@pytest.mark.parametrize("pieces", [[30], [1] * 30, [7, 1, 1, 20, 1], [0, 29, 0, 1]])
def test_steps_give_what_the_whole_sequence_gives(net: Any, tmp_path: Path, pieces: list[int]) -> None:
    save_package(net, tmp_path, engine="native", golden=False)
    x = torch.randn(2, sum(pieces), _WIDTH, generator=torch.Generator().manual_seed(5))
    found = steps(load_package(tmp_path).session(), x.numpy(), pieces)
    with torch.no_grad():
        if isinstance(net, Attention):  # its second state depends on how the sequence is cut
            state, parts = net.initial_state(2), []
            for part in x.split(pieces, 1):
                made, state = net.native_step({"x": part}, state)
                parts.append(made["y"])
            expected = torch.cat(parts, 1)
        else:
            expected = net.native_outputs({"x": x})["y"]
    np.testing.assert_allclose(found, expected.numpy(), atol=2e-5)


def test_a_session_is_saved_restored_and_cloned_and_a_failed_run_takes_nothing(net: Any, tmp_path: Path) -> None:
    save_package(net, tmp_path, engine="native", golden=False)
    model = load_package(tmp_path)
    x = np.random.default_rng(1).standard_normal((2, _ROWS + 1, _WIDTH)).astype(np.float32)
    session = model.session()
    session.run({"x": x[:, :40]})
    image, again, other = session.save(), session.clone(), model.session()
    other.restore(image)
    with pytest.raises(InvalidArgumentError):
        session.run({"x": x[:, : _ROWS - 39]})  # one row more than there may be
    assert session.save() == image
    expected = session.run({"x": x[:, 40:_ROWS]}, ["y"])["y"]
    for copy in (again, other):
        assert np.array_equal(copy.run({"x": x[:, 40:_ROWS]}, ["y"])["y"], expected)
    assert session.save() == again.save() != image


def test_the_program_says_what_grows(net: Any, tmp_path: Path) -> None:
    save_package(net, tmp_path, engine="native", golden=False)
    program = json.loads((tmp_path / "program.json").read_text())
    growing = [port for port in program["states"] if "grows" in port]
    assert program["format"] == 3
    assert {port["shape"][port["grows"]] for port in growing} == {"past"}
    assert [node["append"] for node in program["nodes"] if "append" in node] == [f"${port['name']}" for port in growing]


def _state(program: Program, shape: list[int | str], **options: Any) -> Callable[[], object]:
    return lambda: program.state("s", "f32", shape, **options)


def test_mistakes_are_named_where_they_are_made() -> None:
    program = by_hand(Program())
    x = program.input("rows", "f32", ["B", "L", 2, 4])
    fixed = program.state("fixed", "f32", ["B", 4])
    cases: list[tuple[Callable[[], object], str]] = [
        (_state(program, ["B", 4], grows=1), "dim 1 grows"),
        (_state(program, ["B", "past"], grows=2), "dim 2 grows"),
        (_state(program, ["B", "L"], grows=1), "L is the extent of an input"),
        (_state(program, ["B", "past"], grows=1, limit=0), "limit 0"),
        (_state(program, ["B", 4], limit=3), "of a state that grows"),
        (lambda: program.append(fixed, x), "fixed is no state that grows"),
    ]
    for make, message in cases:
        with pytest.raises(LoweringError, match=message):
            make()
    held = program.state("held", "f32", ["B", "past", 2, 4], grows=1)
    program.append(held, x)
    with pytest.raises(LoweringError, match="held has been appended to"):
        program.append(held, x)


def test_a_next_value_that_is_no_concatenation_is_refused(tmp_path: Path) -> None:
    class Backwards(Attention):
        def native_step(self, inputs: dict[str, Tensor], state: Any) -> tuple[dict[str, Tensor], Any]:
            x, old = inputs["x"], state
            after = torch.cat([x, old], 1)
            return {"y": x + after.sum(1, keepdim=True)}, after

        def initial_state(self, batch_size: int) -> Any:
            return torch.zeros(batch_size, 0, _WIDTH)

    with pytest.raises(LoweringError, match=r"native_step returns torch.cat\(\[old, new\], 1\)"):
        save_package(Backwards(), tmp_path, engine="native", golden=False)
    with pytest.raises(LoweringError, match="a compiled model cannot have a state that grows"):
        save_package(Attention(), tmp_path / "aoti", engine="aoti", golden=False)
