"""The Mamba mixer and language model: the properties of the paper's rules."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch

from mambasdk import nn
from mambasdk.errors import InvalidArgumentError, ShapeError
from mambasdk.nn import Mamba, Mamba2

D = 32


def language_model(**options: object) -> nn.CausalLM:
    blocks = [nn.Block(nn.Mamba(D), nn.RMSNorm(D)) for _ in range(2)]
    return nn.CausalLM(nn.MixerModel(blocks, nn.RMSNorm(D), D, vocab_size=64), 61, **options)


def test_left_padding_is_exact() -> None:
    torch.manual_seed(0)
    model = language_model()
    tokens = torch.randint(61, (1, 11))
    padded = torch.cat([torch.full((1, 6), 3), tokens], 1)
    mask = torch.cat([torch.zeros(1, 6), torch.ones(1, 11)], 1).long()
    alone, masked = model(tokens, labels=tokens), model(padded, mask=mask, labels=padded)
    torch.testing.assert_close(masked.logits[:, 6:], alone.logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(masked.loss, alone.loss)
    torch.testing.assert_close(masked.state[1].ssm, alone.state[1].ssm, atol=1e-5, rtol=1e-5)
    assert masked.state.tokens_seen.tolist() == [11]
    after = model(tokens[:, :2], masked.state, mask=torch.ones(1, 2))
    torch.testing.assert_close(after.logits, model(tokens[:, :2], alone.state).logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("make", [partial(Mamba, d_state=4), partial(Mamba2, d_state=4, headdim=8)])
def test_left_padding_of_a_mixer_with_biases_is_exact(make: Any) -> None:
    torch.manual_seed(0)
    mixer = make(16, bias=True)
    torch.nn.init.normal_(mixer.in_proj.bias)
    torch.nn.init.normal_(mixer.conv1d.bias)
    x = torch.randn(1, 7, 16)
    padded = torch.cat([torch.randn(1, 5, 16), x], 1)
    mask = torch.cat([torch.zeros(1, 5), torch.ones(1, 7)], 1)
    (alone, state), (masked, masked_state) = mixer(x, return_state=True), mixer(padded, return_state=True, mask=mask)
    torch.testing.assert_close(masked[:, 5:], alone, atol=1e-5, rtol=1e-5)
    for got, expected in zip(masked_state, state, strict=True):
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)
    with pytest.raises(ShapeError, match=r"bad mask: expected \(1, 12\), got \(1, 7\)"):
        mixer(padded, mask=mask[:, 5:])


@pytest.mark.parametrize("lengths", [[5, 1, 9], [3, 0, 4], [0, 7], [6, 0]])
def test_packed_sequences_equal_separate_ones(lengths: list[int]) -> None:
    torch.manual_seed(0)
    model = language_model()
    tokens = torch.randint(61, (1, sum(lengths)))
    offsets = torch.tensor([sum(lengths[:i]) for i in range(len(lengths) + 1)], dtype=torch.int32)
    packed = model(tokens, labels=tokens, cu_seqlens=offsets)
    parts = list(tokens.split(lengths, 1))
    separate = [model(part) for part in parts]
    torch.testing.assert_close(packed.logits, torch.cat([out.logits for out in separate], 1), atol=1e-5, rtol=1e-5)
    for layer in range(2):
        ssm = torch.cat([out.state[layer].ssm for out in separate])
        torch.testing.assert_close(packed.state[layer].ssm, ssm, atol=1e-5, rtol=1e-5)
    assert packed.state.tokens_seen.tolist() == lengths
    counts = [length - 1 for length in lengths if length > 1]
    losses = [model(part, labels=part).loss for part in parts if part.shape[1] > 1]
    expected = sum(n * loss for n, loss in zip(counts, losses, strict=True)) / sum(counts)
    torch.testing.assert_close(packed.loss, expected, atol=1e-5, rtol=1e-5)
    continued = model(tokens, packed.state, cu_seqlens=offsets)
    again = [model(part, out.state).logits for part, out in zip(parts, separate, strict=True)]
    torch.testing.assert_close(continued.logits, torch.cat(again, 1), atol=1e-5, rtol=1e-5)


def test_initialisation_follows_the_paper() -> None:
    torch.manual_seed(0)
    mixer = nn.Mamba(256, dt_min=1e-3, dt_max=0.1)
    expected = torch.arange(1.0, 17.0).log().expand(512, 16)
    torch.testing.assert_close(mixer.A_log.detach(), expected)
    assert torch.equal(mixer.D.detach(), torch.ones(512))
    dt = torch.nn.functional.softplus(mixer.dt_proj.bias.detach())
    assert dt.min() >= 1e-3 * 0.999
    assert dt.max() <= 0.1 * 1.001
    # Log-uniform: the median of the logarithm is the middle.
    assert abs(dt.log().median() - (math.log(1e-3) + math.log(0.1)) / 2) < 0.5
    assert mixer.dt_proj.weight.abs().max() <= 16**-0.5
    assert mixer.A_log._no_weight_decay
    assert mixer.D._no_weight_decay
    assert mixer.dt_proj.bias._no_reinit
    constant = nn.Mamba(D, dt_init="constant", dt_scale=2.0)
    assert torch.equal(constant.dt_proj.weight.detach(), torch.full((64, 2), 2 * 2**-0.5))
    with pytest.raises(InvalidArgumentError, match="'random' or 'constant', got 'normal'"):
        nn.Mamba(D, dt_init="normal")  # type: ignore[arg-type]


def test_deep_stacks_end_their_branches_smaller() -> None:
    torch.manual_seed(0)
    deep = nn.MixerModel([nn.Block(nn.Mamba(D), nn.RMSNorm(D)) for _ in range(16)], nn.RMSNorm(D), D)
    bound = 1 / math.sqrt(2 * D) / math.sqrt(16)  # kaiming uniform with a = sqrt(5) is 1/sqrt(fan in)
    weight = deep.layers[3].mixer.out_proj.weight
    assert 0.95 * bound < weight.abs().max() <= bound
    biased = nn.MixerModel([nn.Block(nn.Mamba(D, bias=True), nn.RMSNorm(D))], nn.RMSNorm(D), D)
    assert not biased.layers[0].mixer.in_proj.bias.any()
    assert biased.layers[0].mixer.dt_proj.bias.any()


def test_parameter_groups_decay_only_matrices() -> None:
    model = language_model()
    decayed, plain = nn.parameter_groups(model, 0.1)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    plain_names = {names[id(parameter)].rsplit(".", 1)[-1] for parameter in plain["params"]}
    assert plain_names == {"A_log", "D", "weight", "bias"}
    assert all(names[id(p)].endswith("weight") and p.ndim >= 2 for p in decayed["params"])
    assert len(decayed["params"]) + len(plain["params"]) == len(list(model.parameters()))
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)


def test_marks_and_ties_survive_to_empty_and_assignment() -> None:
    with torch.device("meta"):
        model = language_model()
    state = language_model().state_dict()
    model.to_empty(device="cpu").load_state_dict(state, assign=True)
    model.tie_weights()
    assert model.lm_head.weight is model.backbone.embedding.weight
    assert model.backbone.layers[0].mixer.A_log._no_weight_decay
    assert model.backbone.layers[0].mixer.dt_proj.bias._keep_float32


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_model_follows_the_float32_one(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = language_model()
    tokens = torch.randint(61, (2, 17))
    exact = model(tokens)
    narrow = model.to(dtype)(tokens)
    assert narrow.logits.dtype == dtype
    assert narrow.state[0].ssm.dtype == torch.float32
    assert narrow.state[0].conv.dtype == dtype
    scale = exact.logits.abs().max()
    assert (narrow.logits.float() - exact.logits).abs().max() < 0.05 * scale


def test_autocast_trains_in_bfloat16() -> None:
    torch.manual_seed(0)
    model = language_model()
    tokens = torch.randint(61, (2, 17))
    exact = model(tokens, labels=tokens).loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = model(tokens, labels=tokens)
        after = model(tokens, out.state)
    assert out.logits.dtype == torch.bfloat16
    assert after.state[0].ssm.dtype == torch.float32
    out.loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    torch.testing.assert_close(out.loss, exact, atol=0.02, rtol=0.02)


class _LoRA(torch.nn.Module):
    """What adapter libraries put in place of a linear layer."""

    def __init__(self, base: torch.nn.Linear) -> None:
        super().__init__()
        self.base_layer = base.requires_grad_(False)
        self.down = torch.nn.Linear(base.in_features, 2, bias=False)
        self.up = torch.nn.Linear(2, base.out_features, bias=False)

    @property
    def bias(self) -> torch.Tensor | None:
        return self.base_layer.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base_layer(x) + self.up(self.down(x))


@pytest.mark.parametrize("name", ["in_proj", "x_proj", "dt_proj", "out_proj"])
def test_adapters_on_projections_are_used(name: str) -> None:
    torch.manual_seed(0)
    mixer = nn.Mamba(D)
    x = torch.randn(1, 5, D)
    before = mixer(x)
    base = getattr(mixer, name)
    adapter = _LoRA(base)
    setattr(mixer, name, adapter)
    mixer(x).square().sum().backward()
    assert adapter.up.weight.grad.abs().sum() > 0
    merged = base.weight + adapter.up.weight @ adapter.down.weight
    with torch.no_grad():
        adapted = mixer(x)
        base.weight.copy_(merged)
        setattr(mixer, name, base)
        torch.testing.assert_close(mixer(x), adapted, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(adapted, before)


def test_wrong_inputs_are_named() -> None:
    model = language_model()
    tokens = torch.zeros(2, 4, dtype=torch.int64)
    state = model(tokens).state
    with pytest.raises(ShapeError, match=r"expected 2 layers, batch 3, got 2 layers, batch 2"):
        model(torch.zeros(3, 1, dtype=torch.int64), state)
    with pytest.raises(ShapeError, match=r"bad mask: expected \(2, 4\), got \(2, 3\)"):
        model(tokens, mask=torch.ones(2, 3))
    with pytest.raises(ShapeError, match=r"bad tokens: expected \(B, L\), got \(4,\)"):
        model(tokens[0])
    with pytest.raises(ShapeError, match="packed sequences need batch 1"):
        model(tokens, cu_seqlens=torch.tensor([0, 4], dtype=torch.int32))
    with pytest.raises(InvalidArgumentError, match="either tokens or inputs_embeds"):
        model()
    with pytest.raises(ShapeError, match=r"expected \(B, L, 32\), got \(1, 3, 31\)"):
        nn.Mamba(D)(torch.zeros(1, 3, 31))


def test_last_logits_alone_equal_the_full_ones() -> None:
    model = language_model()
    tokens = torch.randint(61, (2, 7))
    torch.testing.assert_close(model(tokens, logits_to_keep=1).logits, model(tokens).logits[:, -1:])
    torch.testing.assert_close(
        model(inputs_embeds=model.backbone.embedding(tokens)).logits, model(tokens).logits, atol=0, rtol=0
    )


def test_gated_mlp_block_is_the_written_formula() -> None:
    torch.manual_seed(0)
    block = nn.Block(nn.Mamba(D), nn.LayerNorm(D), mlp=nn.GatedMLP(D, 40, multiple_of=16), norm2=nn.LayerNorm(D))
    x = torch.randn(2, 5, D)
    h, residual, _ = block(x)
    first = x + block.mixer(torch.nn.functional.layer_norm(x, (D,), eps=1e-5))
    value, gate = block.mlp.fc1(torch.nn.functional.layer_norm(first, (D,), eps=1e-5)).chunk(2, -1)
    expected = first + block.mlp.fc2(value * torch.nn.functional.silu(gate))
    assert block.mlp.hidden == 48
    torch.testing.assert_close(h + residual, expected, atol=1e-5, rtol=1e-5)
