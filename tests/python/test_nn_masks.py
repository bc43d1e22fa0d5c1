"""Masks in the state contract: what a mask leaves out is not there, in outputs, states, losses and gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from mambasdk import nn

D = 16
MASKS = {
    "right": [[1, 1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1, 1]],
    "left": [[0, 0, 0, 0, 1, 1, 1], [0, 0, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 1]],
    "holes": [[1, 0, 1, 1, 0, 0, 1], [0, 1, 0, 1, 0, 1, 0], [1, 0, 0, 0, 0, 0, 1]],
    "empty rows": [[0, 0, 0, 0, 0, 0, 0], [0, 1, 1, 0, 1, 1, 0], [0, 0, 0, 0, 0, 0, 0]],
    "nothing": [[0] * 7] * 3,
}
MIXERS: dict[str, Callable[[], Any]] = {
    "mamba": lambda: nn.Mamba(D, d_state=4, bias=True),
    "mamba2": lambda: nn.Mamba2(D, d_state=8, headdim=8, bias=True),
    "mamba2 with an MLP inside": lambda: nn.Mamba2(D, d_state=4, headdim=8, d_ssm=16, rmsnorm=False),
    "mamba3": lambda: nn.Mamba3(D, d_state=8, headdim=8),
    "mamba3 with ranks": lambda: nn.Mamba3(D, d_state=4, headdim=8, is_mimo=True, mimo_rank=2),
    "mlstm": lambda: nn.MLSTM(D),
    "width 1": lambda: nn.Mamba(D, d_state=4, d_conv=1),
    "width 9": lambda: nn.Mamba(D, d_state=4, d_conv=9),
}


@pytest.fixture(params=MIXERS)
def model(request: pytest.FixtureRequest) -> nn.CausalLM:
    """Two layers; biases that are not zero, so that padding would show."""
    torch.manual_seed(0)
    blocks = [nn.Block(MIXERS[request.param](), nn.LayerNorm(D)) for _ in range(2)]
    model = nn.CausalLM(nn.MixerModel(blocks, nn.LayerNorm(D), D, vocab_size=32), 29)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, atol=2e-5, rtol=2e-5)


def draw(*shape: int) -> torch.Tensor:
    return torch.randint(29, shape, generator=torch.Generator().manual_seed(sum(shape)))


def row_of(state: nn.ModelState, row: int) -> nn.ModelState:
    return state.select([row])


def assert_states(a: nn.ModelState, b: nn.ModelState) -> None:
    assert torch.equal(a.tokens_seen, b.tokens_seen)
    for ours, theirs in zip(a, b, strict=True):
        for x, y in zip(ours, theirs, strict=True):
            close(x, y)


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("continued", [False, True])
@pytest.mark.parametrize("grad", [True, False])
def test_masked_rows_equal_the_rows_alone(model: nn.CausalLM, kind: str, continued: bool, grad: bool) -> None:
    mask, tokens = torch.tensor(MASKS[kind]), draw(3, 7)
    with torch.set_grad_enabled(grad):
        start = model(draw(3, 5)).state if continued else None
        out = model(tokens, start, mask=mask, output_hidden_states=True)
        for row in range(3):
            present = mask[row].bool()
            alone = model(tokens[row : row + 1, present], None if start is None else row_of(start, row))
            close(out.logits[row, present], alone.logits[0])
            assert not out.logits[row, ~present].any()
            assert_states(row_of(out.state, row), alone.state)
        step = draw(3, 1)
        after = model(step, out.state)
        for row in range(3):
            close(after.logits[row], model(step[row : row + 1], row_of(out.state, row)).logits[0])
    assert out.hidden_states is not None
    assert all(hidden.shape == (3, 7, D) for hidden in out.hidden_states)


def test_the_state_is_that_after_the_last_real_token(model: nn.CausalLM) -> None:
    """Right padding [3, pad, pad], then 5."""
    with torch.no_grad():
        padded = model(torch.tensor([[3, 0, 0]]), mask=torch.tensor([[1, 0, 0]]))
        plain = model(torch.tensor([[3]]))
        assert_states(padded.state, plain.state)
        five = torch.tensor([[5]])
        close(model(five, padded.state).logits, model(five, plain.state).logits)


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float32])
def test_a_masked_single_step_leaves_the_state_of_its_row(model: nn.CausalLM, grad: bool, dtype: torch.dtype) -> None:
    with torch.set_grad_enabled(grad):
        before = model(draw(3, 6)).state
        step, mask = draw(3, 1), torch.tensor([[0], [1], [0]]).to(dtype)
        out = model(step, before, mask=mask)
        moved = model(step, before)
        for layer in range(2):
            for old, new, plain in zip(before[layer], out.state[layer], moved.state[layer], strict=True):
                assert torch.equal(old[[0, 2]], new[[0, 2]])
                close(new[1], plain[1])
        assert out.state.tokens_seen.tolist() == [6, 7, 6]
        close(out.logits[1], moved.logits[1])


@pytest.mark.parametrize("kind", ["right", "left", "holes", "empty rows"])
@pytest.mark.parametrize("training", [True, False])
def test_masked_gradients_and_loss_equal_those_of_the_rows_alone(model: nn.CausalLM, kind: str, training: bool) -> None:
    model.train(training)
    mask, tokens = torch.tensor(MASKS[kind]), draw(3, 7)
    parameters = list(model.parameters())
    masked = model(tokens, mask=mask, labels=tokens).loss
    alone, count = torch.zeros(()), 0
    for row in range(3):
        real = tokens[row : row + 1, mask[row].bool()]
        if real.shape[1] > 1:
            alone = alone + model(real, labels=real).loss * (real.shape[1] - 1)
            count += real.shape[1] - 1
    close(masked, alone / count)
    ours = torch.autograd.grad(masked, parameters)
    theirs = torch.autograd.grad(alone / count, parameters)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=2e-5 * max(1.0, float(b.abs().max())), rtol=1e-4)


def test_padding_may_hold_anything(model: nn.CausalLM) -> None:
    """Vectors that are not numbers, and token ids outside the vocabulary."""
    mask = torch.tensor(MASKS["holes"])
    vectors = torch.randn(3, 7, D)
    bad = torch.where(mask.bool()[..., None], vectors, torch.nan)
    torch.testing.assert_close(
        model(inputs_embeds=bad, mask=mask).logits, model(inputs_embeds=vectors, mask=mask).logits, atol=0, rtol=0
    )
    tokens = draw(3, 7)
    outside = torch.where(mask.bool(), tokens, -100)
    assert torch.equal(model(outside, mask=mask).logits, model(tokens, mask=mask).logits)


def test_a_mask_of_ones_changes_no_bit(model: nn.CausalLM) -> None:
    tokens = draw(3, 7)
    assert torch.equal(model(tokens, mask=torch.ones(3, 7)).logits, model(tokens).logits)


def test_a_mask_over_packed_sequences(model: nn.CausalLM) -> None:
    tokens, mask = draw(1, 9), torch.tensor([[1, 0, 1, 1, 0, 0, 1, 1, 0]])
    offsets = torch.tensor([0, 3, 6, 9], dtype=torch.int32)
    out = model(tokens, mask=mask, cu_seqlens=offsets, labels=tokens)
    assert out.state.tokens_seen.tolist() == [2, 1, 2]
    for index in range(3):
        part = slice(3 * index, 3 * index + 3)
        present = mask[0, part].bool()
        alone = model(tokens[:, part][:, present])
        close(out.logits[0, part][present], alone.logits[0])
        assert_states(row_of(out.state, index), alone.state)


@pytest.mark.parametrize("make", [*list(MIXERS.values())[:5], lambda: nn.BidirectionalMamba(D, bias=True)])
def test_mixers_by_themselves(make: Callable[[], Any]) -> None:
    torch.manual_seed(0)
    mixer = make()
    x, mask = torch.randn(3, 7, D), torch.tensor(MASKS["holes"])
    y = mixer(x, mask=mask)
    for row in range(3):
        present = mask[row].bool()
        close(y[row, present], mixer(x[row : row + 1, present])[0])
        assert not y[row, ~present].any()


@pytest.mark.parametrize("grad", [True, False])
def test_compiled_masks_are_one_graph_for_every_mask(model: nn.CausalLM, grad: bool) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend="aot_eager")
    tokens = draw(3, 7)
    with torch.set_grad_enabled(grad):
        start = model(draw(3, 5)).state
        for rows in MASKS.values():
            mask = torch.tensor(rows)
            out, expected = compiled(tokens, start, mask=mask), model(tokens, start, mask=mask)
            close(out.logits, expected.logits)
            assert_states(out.state, expected.state)
