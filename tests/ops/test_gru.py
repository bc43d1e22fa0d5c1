"""gru against torch.nn.GRU: one way and both, rows of several lengths, initial states, weights of 16 bits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from drawn import draw
from tolerance import RELATIVE, assert_close

from mambasdk import ops

pytestmark = pytest.mark.usefixtures("isa")

# B, L, N: rows and units on either side of the tiles, few weights and many
SHAPES = [(1, 6, 5), (2, 1, 16), (9, 4, 33), (19, 3, 64), (3, 20, 17), (1, 3, 288), (5, 2, 300)]


def peer(B: int, N: int, bias: bool, reverse: bool) -> tuple[torch.nn.GRU, dict[str, torch.Tensor]]:
    """torch's module in float64, and the tensors that gru takes from it, whose numbers are float32's."""
    torch.manual_seed(B * 1000 + N)
    module = torch.nn.GRU(7, N, bias=bias, bidirectional=reverse, batch_first=True).float().double()
    suffix = "_l0_reverse" if reverse else "_l0"
    state = {k.removesuffix(suffix): v.detach() for k, v in module.named_parameters() if k.endswith(suffix)}
    return module, state


def arguments(x: torch.Tensor, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor | None]:
    gates = torch.nn.functional.linear(x, state["weight_ih"], state.get("bias_ih"))
    bias = state.get("bias_hh")
    return {
        "gates": gates.float(),
        "weight": state["weight_hh"].float(),
        "bias": None if bias is None else bias.float(),
    }


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_is_torchs(shape: tuple[int, int, int], reverse: bool, bias: bool) -> None:
    B, L, N = shape
    module, state = peer(B, N, bias, reverse)
    x, initial = draw(B, L, 7).double(), draw(B, N, seed=2)
    first = torch.stack([initial, initial]) if reverse else initial[None]
    with torch.no_grad():
        y, last = module(x, first.double())
    got = ops.call("gru", **arguments(x, state), initial=initial, reverse=reverse)
    assert_close(got[0], y[..., -N:], "y")
    assert_close(got[1], last[-1], "last")
    with torch.no_grad():
        y, last = module(x)
    got = ops.call("gru", **arguments(x, state), reverse=reverse)
    assert_close(got[0], y[..., -N:], "y from zero")
    assert_close(got[1], last[-1], "last from zero")


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("N", [20, 288])
def test_rows_of_several_lengths(N: int, reverse: bool) -> None:
    lengths = torch.tensor([9, 1, 4, 9, 2, 7, 9, 3, 5, 6], dtype=torch.int32)
    B, L = len(lengths), 9
    module, state = peer(B, N, True, reverse)
    x, initial = draw(B, L, 7).double(), draw(B, N, seed=2)
    first = torch.stack([initial, initial]) if reverse else initial[None]
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths.long(), batch_first=True, enforce_sorted=False)
    with torch.no_grad():
        y, last = module(packed, first.double())
    y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, batch_first=True)
    got = ops.call("gru", **arguments(x, state), initial=initial, lengths=lengths, reverse=reverse)
    assert_close(got[0], y[..., -N:], "y")
    assert_close(got[1], last[-1], "last")
    none = ops.call("gru", **arguments(x, state), initial=initial, lengths=lengths * 0, reverse=reverse)
    assert torch.equal(none[0], torch.zeros(B, L, N))
    assert torch.equal(none[1], initial)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("N", [20, 432])
def test_weights_of_16_bits(N: int, dtype: torch.dtype) -> None:
    """As exact as float32 on the weights as they are; 16-bit activations cost their own rounding alone."""
    _, state = peer(3, N, True, False)
    given = arguments(draw(3, 5, 7).double(), state)
    low = {k: v if k == "gates" or v is None else v.to(dtype) for k, v in given.items()}
    exact = {k: None if v is None else v.double() for k, v in low.items()}
    reference = ops.call("gru", **exact)
    for a, b in zip(ops.call("gru", **low), reference, strict=True):
        assert_close(a, b, "float32 gates")
    low["gates"] = given["gates"].to(dtype)
    reference = ops.call("gru", **{**exact, "gates": low["gates"].double()})
    for a, b in zip(ops.call("gru", **low), reference, strict=True):
        assert_close(a, b, "16-bit gates", RELATIVE[dtype])


def test_a_sequence_in_two_calls() -> None:
    _, state = peer(2, 24, True, False)
    given: dict[str, Any] = arguments(draw(2, 11, 7).double(), state)
    y, last = ops.call("gru", **given)
    gates = given.pop("gates")
    first, state_after = ops.call("gru", **given, gates=gates[:, :4])
    second, end = ops.call("gru", **given, gates=gates[:, 4:], initial=state_after)
    assert torch.equal(torch.cat([first, second], 1), y)
    assert torch.equal(end, last)


def test_rows_do_not_depend_on_each_other() -> None:
    """A row has the bits it has alone, whatever tile it is in."""
    for N in (24, 288):
        _, state = peer(2, N, True, False)
        given: dict[str, Any] = arguments(draw(15, 3, 7).double(), state)
        y = ops.call("gru", **given)[0]
        gates = given.pop("gates")
        for b in range(15):
            assert torch.equal(ops.call("gru", **given, gates=gates[b : b + 1])[0][0], y[b])


@pytest.mark.parametrize(("length", "at"), [(-1, 0), (4, 1)])
def test_lengths_out_of_range(length: int, at: int) -> None:
    lengths = torch.tensor([3, 3], dtype=torch.int32)
    lengths[at] = length
    with pytest.raises(ValueError, match=rf"gru: lengths\[{at}\] is {length}, expected 0 to 3, the length of gates"):
        ops.call("gru", gates=torch.zeros(2, 3, 12), weight=torch.zeros(12, 4), lengths=lengths)
