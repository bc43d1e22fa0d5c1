"""Whole models: every split of a sequence gives the same result; compiled and exported they are one dynamic graph."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.export import Dim

TOLERANCE = 1e-4  # of the largest logit


def tokens(batch: int, length: int) -> torch.Tensor:
    return torch.randint(256, (batch, length), generator=torch.Generator().manual_seed(100 * batch + length))


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    scale = max(1.0, float(expected.detach().abs().max())) if expected.numel() else 1.0
    torch.testing.assert_close(found, expected, atol=TOLERANCE * scale, rtol=0)


def same(a: Any, b: Any) -> None:
    close(a.logits, b.logits)
    for ours, theirs in zip(a.state, b.state, strict=True):
        for x, y in zip(ours, theirs, strict=True):
            close(x, y)
    assert torch.equal(a.state.tokens_seen, b.state.tokens_seen)


@pytest.mark.parametrize("grad", [False, True])
def test_any_split_continues_as_the_full_forward(make_tiny: Any, family: str, grad: bool) -> None:
    model = make_tiny(family)
    x = tokens(2, 37)
    with torch.set_grad_enabled(grad):
        whole = model(x)

        @settings(max_examples=15, deadline=None)
        @given(st.lists(st.integers(0, 37), max_size=6))
        def check(cuts: list[int]) -> None:
            ends = [*sorted(cuts), 37]
            state, logits = None, []
            for start, end in zip([0, *ends], ends, strict=False):
                out = model(x[:, start:end], state)
                state = out.state
                logits.append(out.logits)
            out.logits = torch.cat(logits, 1)
            same(out, whole)

        check()


def test_packed_sequences_equal_separate_ones(tiny: Any) -> None:
    lengths = [5, 1, 17, 3]
    packed = tokens(1, sum(lengths))
    offsets = torch.tensor([0, 5, 6, 23, 26], dtype=torch.int32)
    out = tiny(packed, cu_seqlens=offsets)
    for index, part in enumerate(packed.split(lengths, 1)):
        alone = tiny(part)
        close(out.logits[:, offsets[index] : offsets[index + 1]], alone.logits)
        for ours, theirs in zip(out.state, alone.state, strict=True):
            close(ours.ssm[index : index + 1], theirs.ssm)


@pytest.mark.parametrize("grad", [True, False])
def test_compiled_model_is_one_graph_with_the_same_results(tiny: Any, grad: bool) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(tiny, fullgraph=True, dynamic=True, backend="aot_eager")
    with torch.set_grad_enabled(grad):
        for shape in ((2, 9), (3, 5), (1, 17)):
            out = compiled(tokens(*shape))
            same(out, tiny(tokens(*shape)))
            step = tokens(shape[0], 1)
            same(compiled(step, out.state), tiny(step, out.state))


def test_compiled_gradients_equal_eager_ones(tiny: Any) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(tiny, fullgraph=True, backend="aot_eager")
    x = tokens(2, 11)
    gradients = []
    for run in (compiled, tiny):
        tiny.zero_grad()
        run(x, labels=x, return_state=False).loss.backward()
        gradients.append({name: parameter.grad.clone() for name, parameter in tiny.named_parameters()})
    for name, expected in gradients[1].items():
        torch.testing.assert_close(gradients[0][name], expected, atol=1e-5, rtol=1e-4, msg=name)


def test_exported_model_takes_any_batch_and_length(tiny: Any) -> None:
    dynamic = {0: Dim("batch", min=1, max=64), 1: Dim("length", min=1, max=4096)}
    with torch.no_grad():
        program = torch.export.export(tiny, (tokens(2, 9),), dynamic_shapes={"tokens": dynamic})
        module = program.module()
        for shape in ((2, 9), (1, 1), (5, 3), (1, 40)):
            same(module(tokens(*shape)), tiny(tokens(*shape)))


def test_bfloat16_model_follows_the_float32_one(tiny: Any) -> None:
    x = tokens(2, 24)
    with torch.no_grad():
        expected = tiny(x).logits
        found = tiny.to(torch.bfloat16)(x).logits
    assert tiny.backbone.layers[0].mixer.A_log.dtype == torch.float32
    error = (found.float() - expected).norm() / expected.norm()
    assert error < 0.02  # bfloat16 has 8 bits of mantissa: 0.4 % a rounding
