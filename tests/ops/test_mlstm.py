"""The forms of the mLSTM against each other and against golden tensors: recurrent, parallel and chunkwise."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import abi
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from mambasdk import ops
from mambasdk.nn import mlstm_chunkwise, mlstm_parallel
from mambasdk.ops._library import adapter
from mambasdk.testing.golden import Tolerance

LENGTH = 37
CHUNKS = (1, 7, 16, LENGTH)
NAMES = ("q", "k", "v", "igate", "fgate")


def draw(length: int, *, batch: int = 2, heads: int = 3, width: int = 8, dtype: torch.dtype = torch.float64) -> Any:
    """Inputs whose normaliser is now the sum of products, now its least value."""
    generator = torch.Generator().manual_seed(length)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    rows = {name: normal(batch, length, heads, width) for name in ("q", "k", "v")}
    return {**rows, "igate": normal(batch, length, heads), "fgate": 2 * normal(batch, length, heads) + 2}


def draw_state(batch: int = 2, heads: int = 3, width: int = 8) -> ops.MLSTMMemory:
    generator = torch.Generator().manual_seed(1)
    shapes = ((batch, heads, width, width), (batch, heads, width), (batch, heads))
    return ops.MLSTMMemory(*(torch.randn(*s, generator=generator, dtype=torch.float64) for s in shapes))


def leaves(tensors: Any) -> Any:
    return {name: tensor.clone().requires_grad_() for name, tensor in tensors.items()}


def gradients(h: Tensor, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    weights = torch.randn(h.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64).to(h.dtype)
    return dict(zip(inputs, torch.autograd.grad((h * weights).sum(), list(inputs.values())), strict=True))


def close(found: Any, expected: Any, limit: float) -> None:
    for name, tensor in expected.items():
        Tolerance(limit, "largest").check(found[name], tensor, name)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("form", ["operation", "parallel", "chunkwise"])
def test_golden(golden: Callable[[str], Path], form: str, dtype: torch.dtype) -> None:
    """The bare operation of golden/xlstm-unet, where heads come before the length."""
    io = load_file(golden("xlstm-unet") / "io.safetensors")
    q, k, v = (io[f"op.mlstm.{name}"].transpose(1, 2).to(dtype) for name in ("q", "k", "v"))
    igate, fgate = (io[f"op.mlstm.{name}"].squeeze(-1).transpose(1, 2).to(dtype) for name in ("igate", "fgate"))
    forms: dict[str, Callable[..., Tensor]] = {
        "operation": ops.mlstm,
        "parallel": mlstm_parallel,
        "chunkwise": lambda *given: mlstm_chunkwise(*given, chunk=16)[0],
    }
    h = forms[form](q, k, v, igate, fgate)
    Tolerance(1e-4, "largest").check(h.transpose(1, 2), io["op.mlstm.h"], "h")


@pytest.mark.parametrize("chunk", CHUNKS)
def test_forms_are_equal_in_double(chunk: int) -> None:
    """Recurrent (the reference in float64) = parallel = chunkwise, with their gradients, to 1e-10."""
    given = draw(LENGTH)
    found = []
    for form in (ops.mlstm, mlstm_parallel, lambda **x: mlstm_chunkwise(**x, chunk=chunk)[0]):
        inputs = leaves(given)
        h = form(**inputs)
        found.append({"h": h.detach(), **gradients(h, inputs)})
    close(found[1], found[0], 1e-10)
    close(found[2], found[0], 1e-10)


@pytest.mark.parametrize("chunk", CHUNKS)
def test_a_state_continues_every_form(chunk: int) -> None:
    given, state = draw(LENGTH), draw_state()
    h, final = ops.mlstm(**given, initial_state=state, return_final_state=True)
    rows, torchs = mlstm_chunkwise(**given, initial_state=state, chunk=chunk)
    close({"h": rows, **torchs._asdict()}, {"h": h, **final._asdict()}, 1e-10)
    pieces = []
    for start in range(0, LENGTH, chunk):
        part = {name: tensor[:, start : start + chunk] for name, tensor in given.items()}
        piece, state = ops.mlstm(**part, initial_state=state, return_final_state=True)
        pieces.append(piece)
    close({"h": torch.cat(pieces, 1), **state._asdict()}, {"h": h, **final._asdict()}, 1e-10)


@pytest.mark.parametrize("chunk", [*CHUNKS, 64, 1024])
@pytest.mark.parametrize("length", [LENGTH, 150])
def test_chunks_of_the_kernel_change_roundings_alone(chunk: int, length: int) -> None:
    """Values and gradients, with a state before and after, against the recurrent form in float64."""
    given = {**draw(length, width=20), **{f"initial_{n}": t for n, t in draw_state(width=20)._asdict().items()}}
    found = []
    for dtype in (torch.float32, torch.float64):
        inputs = leaves({name: tensor.to(dtype) for name, tensor in given.items()})
        outputs = ops.call("mlstm", **inputs, chunk=chunk, return_final_state=True)
        total = sum(gradients_of(o) for o in outputs)
        grads = torch.autograd.grad(total, list(inputs.values()))
        found.append(dict(zip(("h", "C", "n", "m", *(f"grad {n}" for n in inputs)), (*outputs, *grads), strict=True)))
    close(found[0], found[1], 3e-5)


def gradients_of(output: Tensor) -> Tensor:
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return (output * weights.to(output.dtype)).sum()


def test_steps_go_through_the_sequence() -> None:
    """From a state of zeros in place of none: the difference is the 1e-6 beside the normaliser."""
    given = draw(9, dtype=torch.float32)
    h, final = ops.mlstm(**given, return_final_state=True)
    state = ops.MLSTMMemory(*(torch.zeros_like(t) for t in final))
    for t in range(9):
        row, state = ops.mlstm_state_update(state, **{name: tensor[:, t] for name, tensor in given.items()})
        Tolerance(1e-5, "largest").check(row, h[:, t], f"step {t}")
    scale = torch.exp(state.m - final.m)
    torch.testing.assert_close(state.n * scale.unsqueeze(-1), final.n, rtol=1e-5, atol=1e-5)


def test_packed_sequences_are_apart() -> None:
    given = draw(LENGTH, batch=1, dtype=torch.float32)
    offsets = [0, 5, 5, 30, LENGTH]
    state = ops.MLSTMMemory(*(t.float() for t in draw_state(batch=4)))
    inputs = leaves(given)
    h, final = ops.mlstm(
        **inputs,
        initial_state=state,
        return_final_state=True,
        cu_seqlens=torch.tensor(offsets, dtype=torch.int32),
        chunk=8,
    )
    whole = gradients(h, inputs)
    weights = torch.randn(h.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64).float()
    for s in range(4):
        part = slice(offsets[s], offsets[s + 1])
        alone = leaves({name: tensor[:, part] for name, tensor in given.items()})
        own = ops.MLSTMMemory(*(t[s : s + 1] for t in state))
        piece, last = ops.mlstm(**alone, initial_state=own, return_final_state=True, chunk=8)
        assert torch.equal(piece, h[:, part])
        assert all(torch.equal(a, b[s : s + 1]) for a, b in zip(last, final, strict=True))
        grads = torch.autograd.grad((piece * weights[:, part]).sum(), list(alone.values()))
        assert all(torch.equal(g, whole[name][:, part]) for name, g in zip(alone, grads, strict=True))


@pytest.mark.parametrize("forget", [-1e4, -90.0, 0.0, 90.0])
@pytest.mark.parametrize("input_", [-1e4, -90.0, 90.0, 1e4])
def test_gates_of_any_size(forget: float, input_: float) -> None:
    """What exponentials alone could not hold: nothing overflows, and the values are those of float64.

    Where every step forgets all before it, h does not depend on the size of q and k: parts of gradients of about 1
    cancel, so an error counts in units of 1.
    """
    found = []
    for dtype in (torch.float32, torch.float64):
        given = draw(LENGTH, dtype=torch.float32)
        given["igate"], given["fgate"] = given["igate"] + input_, given["fgate"] + forget
        inputs = leaves({name: tensor.to(dtype) for name, tensor in given.items()})
        h = ops.mlstm(**inputs, chunk=16)
        found.append({"h": h.detach(), **gradients(h, inputs)})
    for name, exact in found[1].items():
        assert found[0][name].isfinite().all(), name
        error = (found[0][name].double() - exact).abs().max()
        assert error <= 3e-5 * max(float(exact.abs().max()), 1.0), f"{name}: {error:.3g}"


def test_no_step_hears_a_later_one() -> None:
    given = draw(LENGTH, dtype=torch.float32)
    h = ops.mlstm(**given, chunk=16)
    for t in (0, 5, 16, 30):
        changed = {name: tensor.clone() for name, tensor in given.items()}
        for tensor in changed.values():
            tensor[:, t:] += 3.0
        assert torch.equal(ops.mlstm(**changed, chunk=16)[:, :t], h[:, :t])


def test_memory_is_linear_and_under_a_tenth_of_the_parallel_forms() -> None:
    """What a forward and a backward work in and keep, counted: L 1024 and 2048, 4 heads of 64."""
    taken = {length: _taken_by_the_kernel(length) for length in (1024, 2048)}
    assert taken[2048] < 2.1 * taken[1024]
    inputs = leaves(draw(1024, batch=1, heads=4, width=64, dtype=torch.float32))
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        h = mlstm_parallel(**inputs)
    own = sum(tensor.nbytes for tensor in inputs.values())
    assert h.shape == (1, 1024, 4, 64)
    assert taken[1024] < 0.1 * (sum(kept.values()) - own)


def _taken_by_the_kernel(length: int) -> int:
    """Bytes of the largest workspace; the derivative saves nothing but the inputs."""
    given = draw(length, batch=1, heads=4, width=64, dtype=torch.float32)

    def run(op: str, **values: Any) -> None:
        abi.call(op, [values.get(a.name, a.default) for a in adapter.signature(op).inputs])

    with abi.scratch() as forward:
        run("mlstm", **given)
    with abi.scratch() as backward:
        run("mlstm_backward", grad_h=given["v"], **given)
    return max(forward.peak, backward.peak)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chunk": 0}, "mlstm: chunk is 0, expected 1 to 1024"),
        ({"chunk": 1025}, "mlstm: chunk is 1025, expected 1 to 1024"),
        ({"initial_n": torch.zeros(2, 3, 8)}, "mlstm: of initial_C, initial_n and initial_m some are given"),
        ({"igate": torch.zeros(2, LENGTH, 4)}, "igate"),
        ({"cu_seqlens": torch.tensor([0, LENGTH], dtype=torch.int32)}, "cu_seqlens"),
    ],
)
def test_wrong_arguments_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ops.call("mlstm", **{**draw(LENGTH, dtype=torch.float32), **change})


def test_a_wrong_rank_is_named() -> None:
    given = draw(3, dtype=torch.float32)
    with pytest.raises(ValueError, match=r"\(batch, length, heads, E\)"):
        ops.mlstm(**{**given, "q": given["q"][0]})
    with pytest.raises(ValueError, match=r"\(batch, heads, E\)"):
        ops.mlstm_state_update(ops.MLSTMMemory(*(t.float() for t in draw_state())), **given)


def test_the_first_step_of_an_untouched_state() -> None:
    """h = v (k' q) b / max(|k' q| b, exp(-m)) with m = igate and b = 1, written out."""
    given = draw(1)
    h = ops.mlstm(**given)
    product = (given["k"] * given["q"]).sum(-1) / math.sqrt(8)
    divisor = torch.maximum(product.abs(), torch.exp(-given["igate"])) + 1e-6
    torch.testing.assert_close(h, given["v"] * (product / divisor).unsqueeze(-1), rtol=1e-12, atol=1e-12)
