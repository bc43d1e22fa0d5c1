"""torch.compile and torch.export through whole models: one graph, dynamic batch and length, the same results."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.export import Dim

from mambasdk import nn

D = 32


MIXERS: dict[str, Callable[[], torch.nn.Module]] = {
    "mamba": lambda: nn.Mamba(D),
    "mamba2": lambda: nn.Mamba2(D, d_state=8, headdim=16),
}


@pytest.fixture(params=MIXERS)
def model(request: pytest.FixtureRequest) -> nn.CausalLM:
    """One layer with an MLP and one without; a clean slate for the compiler."""
    torch._dynamo.reset()
    torch.manual_seed(0)
    mixer = MIXERS[request.param]
    first = nn.Block(mixer(), nn.RMSNorm(D), mlp=nn.GatedMLP(D, 32, multiple_of=16), norm2=nn.RMSNorm(D))
    return nn.CausalLM(nn.MixerModel([first, nn.Block(mixer(), nn.RMSNorm(D))], nn.RMSNorm(D), D, vocab_size=64), 61)


def tokens(batch: int, length: int) -> torch.Tensor:
    return torch.randint(61, (batch, length), generator=torch.Generator().manual_seed(batch * 100 + length))


def same(a: nn.ModelOutput, b: nn.ModelOutput) -> None:
    torch.testing.assert_close(a.logits, b.logits, atol=1e-4, rtol=1e-4)
    for ours, theirs in zip(a.state, b.state, strict=True):
        for x, y in zip(ours, theirs, strict=True):
            torch.testing.assert_close(x, y, atol=1e-4, rtol=1e-4)
    assert torch.equal(a.state.tokens_seen, b.state.tokens_seen)


@pytest.mark.parametrize("grad", [True, False])
def test_compiled_model_is_one_graph_and_equals_eager(model: nn.CausalLM, grad: bool) -> None:
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend="aot_eager")
    with torch.set_grad_enabled(grad):
        for shape in ((2, 9), (3, 5)):
            out = compiled(tokens(*shape))
            same(out, model(tokens(*shape)))
            step = tokens(shape[0], 1)
            same(compiled(step, out.state), model(step, out.state))


def test_compiled_gradients_equal_eager_ones(model: nn.CausalLM) -> None:
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    x = tokens(2, 11)
    grads = []
    for run in (compiled, model):
        model.zero_grad()
        run(x, labels=x, return_state=False).loss.backward()
        grads.append({name: p.grad.clone() for name, p in model.named_parameters()})
    for name, gradient in grads[1].items():
        torch.testing.assert_close(grads[0][name], gradient, atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.slow
def test_inductor_compiles_the_model(model: nn.CausalLM) -> None:
    compiled = torch.compile(model, fullgraph=True)
    with torch.no_grad():
        same(compiled(tokens(2, 9)), model(tokens(2, 9)))


def test_exported_model_takes_any_batch_and_length(model: nn.CausalLM) -> None:
    model.eval()
    batch, length = Dim("batch", max=64), Dim("length", max=4096)
    program = torch.export.export(
        model, (tokens(2, 9),), dynamic_shapes={"tokens": {0: batch, 1: length}}, strict=False
    )
    for shape in ((2, 9), (5, 33), (1, 3)):
        same(program.module()(tokens(*shape)), model(tokens(*shape)))


def test_exported_model_continues_a_state(model: nn.CausalLM) -> None:
    model.eval()
    state = model(tokens(2, 6)).state.detach()
    batch, length = Dim("batch", max=64), Dim("length", max=4096)
    layer = type(state[0])({0: batch}, {0: batch})
    # The specification of a dataclass is the list of its fields' specifications.
    shapes = {"tokens": {0: batch, 1: length}, "state": [[layer] * len(state), {0: batch}]}
    program = torch.export.export(model, (tokens(2, 9), state), dynamic_shapes=shapes, strict=False)
    other = model(tokens(3, 4)).state.detach()
    same(program.module()(tokens(3, 7), other), model(tokens(3, 7), other))
