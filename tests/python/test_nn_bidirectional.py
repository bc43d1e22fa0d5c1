"""Mixers that run from the last position to the first, alone and beside one that runs forwards."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional

from mambasdk import nn
from mambasdk.errors import InvalidArgumentError, ShapeError
from mambasdk.nn import BidirectionalMamba, Mamba

ACTIVATION = 1e-4  # relative to the tensor's rms; from the golden's README


def perturbed(mixer: Any) -> Any:
    """Every parameter away from its initial value, so that nothing cancels."""
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return mixer


def relative(got: torch.Tensor, expected: torch.Tensor) -> float:
    return float((got - expected).abs().max() / expected.square().mean().sqrt())


@torch.no_grad()
def test_golden_mixer_output(golden: Callable[[str], Path]) -> None:
    folder = golden("vim")
    weights, io = load_file(folder / "weights.safetensors"), load_file(folder / "io.safetensors")
    settings = json.loads((folder / "config.json").read_text())["kwargs"]
    mixer = BidirectionalMamba(settings["embed_dim"], d_state=settings["d_state"])
    prefix = "layers.0.mixer."
    mixer.load_state_dict({name[len(prefix) :]: value for name, value in weights.items() if name.startswith(prefix)})
    x, expected = io["tap.layers0.mixer_in"], io["tap.layers0.mixer_out"]
    assert relative(mixer(x), expected) < ACTIVATION
    exact = formula(mixer.double(), x.double())
    assert relative(exact, expected.double()) < ACTIVATION


def formula(mixer: BidirectionalMamba, v: torch.Tensor) -> torch.Tensor:
    """The mixer of section 2 of the specification, one step at a time, with flips."""

    def direction(x: torch.Tensor, z: torch.Tensor, suffix: str, A_log: torch.Tensor) -> torch.Tensor:
        conv = getattr(mixer, f"conv1d{suffix}")
        dt_proj, x_proj = getattr(mixer, f"dt_proj{suffix}"), getattr(mixer, f"x_proj{suffix}")
        width = conv.weight.shape[-1]
        padded = functional.pad(x.mT, (width - 1, 0))
        u = functional.silu(functional.conv1d(padded, conv.weight, conv.bias, groups=x.shape[-1])).mT
        N = A_log.shape[1]
        low = u @ x_proj.weight.T
        rank = low.shape[-1] - 2 * N
        delta = functional.softplus(low[..., :rank] @ dt_proj.weight.T + dt_proj.bias)
        B, C = low[..., rank : rank + N], low[..., rank + N :]
        h = torch.zeros(*x.shape[:1], x.shape[2], N, dtype=x.dtype)
        rows = []
        for t in range(x.shape[1]):
            step = delta[:, t, :, None]
            h = torch.exp(-step * torch.exp(A_log)) * h + step * u[:, t, :, None] * B[:, t, None]
            rows.append((h * C[:, t, None]).sum(-1))
        s = torch.stack(rows, 1) + getattr(mixer, f"D{suffix}") * u
        return s * functional.silu(z)

    x, z = (v @ mixer.in_proj.weight.T).chunk(2, -1)
    backward = direction(x.flip(1), z.flip(1), "_b", mixer.A_b_log).flip(1)
    y = direction(x, z, "", mixer.A_log) + backward
    out = (y / 2 if mixer.divide_out else y) @ mixer.out_proj.weight.T
    return out if mixer.gamma is None else out * mixer.gamma


@pytest.mark.parametrize("options", [{}, {"divide_out": False}, {"layer_scale": 0.3}, {"d_conv": 3, "d_state": 4}])
def test_equals_the_written_formula_with_gradients(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    mixer = perturbed(BidirectionalMamba(24, **options)).double()
    x = torch.randn(2, 19, 24, dtype=torch.float64, requires_grad=True)
    got, expected = mixer(x), formula(mixer, x)
    torch.testing.assert_close(got, expected, atol=1e-12, rtol=1e-12)
    inputs = [x, *mixer.parameters()]
    ours = torch.autograd.grad(got.square().sum(), inputs)
    theirs = torch.autograd.grad(expected.square().sum(), inputs)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("make", [Mamba, BidirectionalMamba])
@pytest.mark.parametrize("length", [0, 1, 2, 37])
def test_reverse_is_flipping_before_and_after(make: Any, length: int) -> None:
    torch.manual_seed(0)
    forward = perturbed(make(16, d_state=4))
    reverse = make(16, d_state=4, reverse=True)
    reverse.load_state_dict(forward.state_dict())
    x = torch.randn(2, length, 16)
    torch.testing.assert_close(reverse(x), forward(x.flip(1)).flip(1), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("make", [lambda: Mamba(16, reverse=True), lambda: BidirectionalMamba(16)])
def test_packed_and_padded_sequences_equal_separate_ones(make: Any) -> None:
    torch.manual_seed(0)
    mixer = perturbed(make())
    parts = [torch.randn(1, length, 16) for length in (5, 1, 0, 9)]
    separate = [mixer(part) for part in parts]
    offsets = torch.tensor([0, 5, 6, 6, 15], dtype=torch.int32)
    packed = mixer(torch.cat(parts, 1), cu_seqlens=offsets)
    torch.testing.assert_close(packed, torch.cat(separate, 1), atol=1e-5, rtol=1e-5)
    for first in (0, 3):  # padding behind, and on both sides
        padded, mask = torch.randn(1, 12, 16), torch.zeros(1, 12)
        padded[:, first : first + 9], mask[:, first : first + 9] = parts[3], 1
        masked = mixer(padded, mask=mask)[:, first : first + 9]
        torch.testing.assert_close(masked, separate[3], atol=1e-5, rtol=1e-5)


def test_initialisation_keeps_what_the_published_code_does() -> None:
    torch.manual_seed(0)
    mixer = BidirectionalMamba(256)
    expected = torch.arange(1.0, 17.0).log().expand(512, 16)
    for A_log in (mixer.A_log, mixer.A_b_log):
        torch.testing.assert_close(A_log.detach(), expected)
    assert torch.equal(mixer.D_b.detach(), torch.ones(512))
    assert not mixer.dt_proj_b.bias.any()
    assert mixer.dt_proj_b.weight.abs().max() <= 16**-0.5
    steps = functional.softplus(BidirectionalMamba(256, symmetric_init=True).dt_proj_b.bias.detach())
    assert 1e-3 * 0.999 <= steps.min() <= steps.max() <= 0.1 * 1.001
    assert mixer.gamma is None
    assert torch.equal(BidirectionalMamba(16, layer_scale=1e-5).gamma, torch.full((16,), 1e-5))
    narrow = mixer.to(torch.bfloat16)
    kept = {name for name, p in narrow.named_parameters() if p.dtype == torch.float32}
    assert kept == {"A_log", "D", "A_b_log", "D_b", "dt_proj.bias", "dt_proj_b.bias"}
    assert narrow.A_b_log._no_weight_decay


def test_it_stands_in_a_stack_and_compiles_to_one_graph() -> None:
    torch.manual_seed(0)
    blocks = [nn.Block(BidirectionalMamba(16, d_state=4), nn.RMSNorm(16)) for _ in range(2)]
    stack = nn.MixerModel(blocks, nn.RMSNorm(16), 16)
    x = torch.randn(2, 9, 16)

    def run(v: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = stack(inputs_embeds=v, return_state=False).hidden
        return hidden

    torch._dynamo.reset()
    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), run(x))


def test_states_and_wrong_shapes_are_refused() -> None:
    bidirectional, reverse = BidirectionalMamba(16), Mamba(16, reverse=True)
    x = torch.zeros(1, 3, 16)
    for mixer in (bidirectional, reverse):
        with pytest.raises(InvalidArgumentError, match="has no state that continues a sequence"):
            mixer(x, return_state=True)
    with pytest.raises(InvalidArgumentError, match="reverse=True has no state"):
        reverse.initial_state(1)
    with pytest.raises(ShapeError, match=r"BidirectionalMamba: bad x: expected \(B, L, 16\), got \(1, 3, 15\)"):
        bidirectional(torch.zeros(1, 3, 15))
    with pytest.raises(InvalidArgumentError, match="'random' or 'constant', got 'normal'"):
        BidirectionalMamba(16, dt_init="normal")  # type: ignore[arg-type]
