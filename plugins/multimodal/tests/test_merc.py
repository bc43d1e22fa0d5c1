"""Broad Mamba: a naive recomputation, padding, missing modalities, online steps, the ridge head, edge cases."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import mambasdk
from mambasdk import pipeline
from mambasdk.errors import InvalidArgumentError, ShapeError
from mambasdk.package import save_package
from mambasdk.testing.golden import scatter
from mambasdk_multimodal.families.merc import fit_ridge, fusion, solve_ridge
from mambasdk_multimodal.families.merc.block import convolve

TINY: dict[str, Any] = {
    "d_model": 12,
    "in_dims": [9, 7, 5],
    "d_state": 4,
    "bls_groups": 2,
    "bls_group_width": 3,
    "bls_enhance": 5,
    "n_speakers": 3,
    "n_classes": 4,
}
NAMES = ("text", "audio", "visual")


def made(**options: Any) -> Any:
    torch.manual_seed(0)
    return scatter(mambasdk.create_model("merc", **{**TINY, **options}).eval(), 1)


def drawn(batch: int, length: int, seed: int = 0) -> tuple[dict[str, Tensor], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    features = {
        n: torch.randn(batch, length, d, generator=generator) for n, d in zip(NAMES, TINY["in_dims"], strict=True)
    }
    return features, torch.randint(3, (batch, length), generator=generator)


def one_direction(x: Tensor, p: dict[str, Tensor]) -> Tensor:
    """Of one row (L, I), step by step in float64, as section 4 of the reading writes it."""
    taps, states = p["conv1d.weight"].shape[-1], p["A_log"].shape[1]
    padded = functional.pad(x, (0, 0, taps - 1, 0))
    u = torch.stack([(padded[t : t + taps].T * p["conv1d.weight"][:, 0]).sum(1) for t in range(len(x))])
    u = functional.silu(u + p["conv1d.bias"])
    low, B, C = (u @ p["x_proj.weight"].T).split([p["x_proj.weight"].shape[0] - 2 * states, states, states], -1)
    delta = functional.softplus(low @ p["dt_proj.weight"].T + p["dt_proj.bias"])
    A, state, y = -torch.exp(p["A_log"]), torch.zeros_like(p["A_log"]), []
    for t in range(len(x)):
        state = torch.exp(delta[t, :, None] * A) * state + delta[t, :, None] * B[t] * u[t, :, None]
        y.append(state @ C[t] + p["D"] * u[t])
    return torch.stack(y)


def naive(model: Any, features: dict[str, Tensor], speakers: Tensor) -> tuple[Tensor, Tensor]:
    """(logits (L, C), weights (L, M)) of one conversation without padding."""
    w = {name: tensor.double() for name, tensor in model.state_dict().items()}

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", torch.zeros((), dtype=torch.float64))

    def norm(x: Tensor, name: str) -> Tensor:
        return functional.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"], 1e-5)

    hidden, guesses = [], []
    for name in NAMES:
        h = linear(features[name][0].double(), f"proj.{name}") + w["speaker.weight"][speakers[0]]
        for layer in range(model.config.n_layer):
            at = f"enc.{name}.{layer}"
            x, z = linear(norm(h, f"{at}.norm"), f"{at}.in_proj").chunk(2, -1)
            own = {
                d: {k.removeprefix(f"{at}.{d}."): t for k, t in w.items() if k.startswith(f"{at}.{d}.")}
                for d in ("fwd", "bwd")
            }
            y = one_direction(x, own["fwd"]) + one_direction(x.flip(0), own["bwd"]).flip(0)
            h = h + linear(y * functional.silu(z), f"{at}.out_proj")
            nodes = linear(norm(h, f"{at}.bls_norm"), f"{at}.feature")
            h = h + linear(torch.cat([nodes, torch.tanh(linear(nodes, f"{at}.enhance"))], -1), f"{at}.bls_out")
        hidden.append(h)
        guesses.append(linear(h, f"head.{name}").softmax(-1).amax(-1))
    share = torch.stack(guesses, -1)
    share = share / share.sum(-1, keepdim=True)
    fused = sum(share[:, m : m + 1] * h for m, h in enumerate(hidden))
    assert isinstance(fused, Tensor)
    return linear(functional.relu(linear(fused, "cls.0")), "cls.2"), share


@pytest.mark.parametrize("length", [1, 2, 7])
@torch.no_grad()
def test_equals_the_reading_step_by_step(length: int) -> None:
    model = made(n_layer=2)
    features, speakers = drawn(1, length)
    logits, share = naive(model, features, speakers)
    out = model(features, speakers)
    torch.testing.assert_close(out.logits[0], logits.float(), atol=2e-5, rtol=0)
    torch.testing.assert_close(out.weights[0], share.float(), atol=2e-6, rtol=0)


@pytest.mark.parametrize("options", [{}, {"ssm": "lti_conv"}, {"online": True}, {"classifier": "ridge"}])
def test_padding_changes_nothing_whatever_is_in_it(options: dict[str, Any]) -> None:
    """Rows of a padded batch are as if alone, also backwards: reversal is by length. Gradients too."""
    model = made(**options)
    features, speakers = drawn(3, 8)
    lengths = [8, 3, 1]
    mask = torch.arange(8) < torch.tensor(lengths).unsqueeze(1)
    spoilt = {n: torch.where(mask.unsqueeze(-1), x, 1e4).requires_grad_() for n, x in features.items()}
    out = model(spoilt, torch.where(mask, speakers, 77), mask=mask)
    out.logits[mask].square().sum().backward()
    for row, length in enumerate(lengths):
        own = {n: x[row : row + 1, :length].clone().requires_grad_() for n, x in features.items()}
        alone = model(own, speakers[row : row + 1, :length])
        alone.logits.square().sum().backward()
        torch.testing.assert_close(out.logits[row, :length], alone.logits[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(out.weights[row, :length], alone.weights[0], atol=1e-6, rtol=0)
        for name, x in spoilt.items():
            assert x.grad is not None
            assert not x.grad[row, length:].any()
            torch.testing.assert_close(x.grad[row, :length], own[name].grad[0], atol=1e-4, rtol=1e-4)  # type: ignore[index]


@pytest.mark.parametrize("confidence", ["max", "fused", "entropy", "equal"])
@pytest.mark.parametrize("weighting", ["share", "softmax"])
@torch.no_grad()
def test_missing_modalities_are_dropped_and_weights_renormalised(confidence: str, weighting: str) -> None:
    model = made(confidence=confidence, weighting=weighting)
    features, speakers = drawn(2, 5)
    present = torch.ones(2, 5, 3, dtype=torch.int64)
    present[:, :, 1] = 0
    out = model(features, speakers, present=present)
    left_out = model({n: x for n, x in features.items() if n != "audio"}, speakers)
    assert torch.equal(out.logits, left_out.logits)
    assert not out.weights[..., 1].any()
    torch.testing.assert_close(out.weights.sum(-1), torch.ones(2, 5))
    one = made(confidence=confidence, weighting=weighting, modalities=["text"], in_dims=[9])
    state = {name: tensor for name, tensor in model.state_dict().items() if name in one.state_dict()}
    one.load_state_dict(state)
    alone = model({"text": features["text"]}, speakers)
    torch.testing.assert_close(alone.logits, one({"text": features["text"]}, speakers).logits)
    present[0, 2] = 0  # an utterance without anything
    out = model(features, speakers, present=present)
    assert out.logits.isfinite().all()
    assert not out.weights[0, 2].any()


@torch.no_grad()
def test_a_hole_is_no_step_of_the_scan() -> None:
    """Where an utterance lacks a modality its features do not matter, and the state is held."""
    model = made()
    features, speakers = drawn(1, 6)
    present = torch.ones(1, 6, 3, dtype=torch.int64)
    present[0, 2, 0] = 0
    other = {**features, "text": features["text"].clone()}
    other["text"][0, 2] = 50.0
    a, b = (model(f, speakers, present=present) for f in (features, other))
    assert torch.equal(a.logits, b.logits)


@torch.no_grad()
def test_fusion_kinds_by_hand() -> None:
    p = torch.tensor([[[[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.6, 0.3, 0.1]]]])  # (1, 1, M, C)
    assert fusion.confidence(p, "max")[0, 0].tolist() == pytest.approx([0.7, 0.8, 0.6])
    assert fusion.confidence(p, "fused")[0, 0].tolist() == pytest.approx([0.7, 0.1, 0.6])  # class 0: 1.4 against 1.3
    entropy = [1 + sum(v * math.log(v) for v in row) / math.log(3) for row in p[0, 0].tolist()]
    assert fusion.confidence(p, "entropy")[0, 0].tolist() == pytest.approx(entropy, abs=1e-6)
    sure = torch.tensor([[[[1.0, 0.0, 0.0]]]])
    assert fusion.confidence(sure, "entropy").item() == pytest.approx(1.0)
    equal = fusion.weights(torch.full((1, 1, 3), 0.4), None, "share")
    assert equal[0, 0].tolist() == pytest.approx([1 / 3] * 3)
    k = torch.tensor([[[0.7, 0.8, 0.6]]])
    assert fusion.weights(k, None, "softmax")[0, 0].tolist() == pytest.approx(k[0, 0].softmax(0).tolist())
    assert fusion.weights(torch.zeros(1, 1, 2), None, "share").tolist() == [[[0.0, 0.0]]]
    h = torch.arange(6.0).reshape(1, 1, 3, 2)
    assert fusion.fuse(h, k, "sum")[0, 0].tolist() == pytest.approx([0.8 * 2 + 0.6 * 4, 0.7 + 0.8 * 3 + 0.6 * 5])
    assert fusion.fuse(h, k, "concat").shape == (1, 1, 6)


def test_detached_weights_have_no_gradient_and_temperature_flattens_them() -> None:
    features, speakers = drawn(2, 4)
    for detach in (False, True):
        model = made(detach_weights=detach)
        out = model(features, speakers)
        out.logits.square().sum().backward()
        assert (model.head["text"].weight.grad is None) == detach
    sharp, flat = (made(temperature=t)(features, speakers).weights for t in (0.2, 50.0))
    third = torch.full_like(flat, 1 / 3)
    assert (flat - third).abs().max() < 0.01 < (sharp - third).abs().max()


@pytest.mark.parametrize("split", [[1] * 7, [3, 4], [6, 1], [0, 7]])
@torch.no_grad()
def test_online_steps_equal_the_whole(split: list[int]) -> None:
    """With utterances that lack a modality, and the state after them."""
    model = made(online=True, n_layer=2)
    features, speakers = drawn(2, 7)
    present = torch.ones(2, 7, 3, dtype=torch.int64)
    present[0, 3, 1] = present[1, 6, 2] = 0
    whole = model(features, speakers, present=present)
    state, logits, start = None, [], 0
    for size in split:
        part = slice(start, start + size)
        out = model(
            {n: x[:, part] for n, x in features.items()}, speakers[:, part], present=present[:, part], state=state
        )
        logits.append(out.logits)
        state, start = out.state, start + size
    torch.testing.assert_close(torch.cat(logits, 1), whole.logits, atol=1e-5, rtol=1e-5)
    assert state is not None
    assert state.tokens_seen.tolist() == [7, 7]
    for ours, theirs in zip(state, whole.state, strict=True):
        torch.testing.assert_close(ours.ssm, theirs.ssm, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_online_model_is_causal_and_runs_natively_with_its_state(tmp_path: Any) -> None:
    model = made(online=True)
    inputs = model.example_inputs()
    later = {name: tensor.clone() for name, tensor in inputs.items()}
    later["text"][:, 4:] += 1
    before = model.native_outputs(inputs)["logits"]
    assert torch.equal(model.native_outputs(later)["logits"][:, :4], before[:, :4])
    save_package(model, tmp_path / "package", engine="native")
    loaded = pipeline.load_model(tmp_path / "package")
    assert loaded.states
    session = loaded.session()
    steps = [
        session.run({n: t[:, u : u + 1].contiguous().numpy() for n, t in inputs.items()}, ["logits"])["logits"]
        for u in range(inputs["speakers"].shape[1])
    ]
    torch.testing.assert_close(torch.cat([torch.from_numpy(s) for s in steps], 1), before, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("reverse", [False, True])
def test_time_invariant_form_is_one_convolution(reverse: bool) -> None:
    """The operation, torch's transforms (which have gradients) and the sum over n agree; the kernel is C A^k B."""
    generator = torch.Generator().manual_seed(2)
    x, kernel = torch.randn(2, 150, 5, generator=generator), torch.randn(150, 5, generator=generator) * 0.1
    skip = torch.randn(5, generator=generator)
    by_sum = torch.stack(
        [
            sum(
                (
                    kernel[k].double() * x[:, s].double()
                    for k in range(150)
                    if 0 <= (s := t + k if reverse else t - k) < 150
                ),
                skip.double() * x[:, t].double(),
            )
            for t in range(150)
        ],
        1,
    )
    with torch.no_grad():
        torch.testing.assert_close(convolve(x, kernel, skip, reverse=reverse), by_sum.float(), atol=1e-4, rtol=0)
    tracked = convolve(x.requires_grad_(), kernel, skip, reverse=reverse)
    torch.testing.assert_close(tracked.detach(), by_sum.float(), atol=1e-4, rtol=0)
    direction = made(ssm="lti_conv").enc["text"][0].fwd
    dt = functional.softplus(direction.dt_bias)
    A = torch.exp(-dt[:, None] * torch.exp(direction.A_log))
    expected = torch.stack([(direction.C * A**k * dt[:, None]).sum(1) for k in range(9)])
    torch.testing.assert_close(direction.kernel(9), expected, atol=1e-5, rtol=1e-5)


def test_ridge_head_is_the_minimum_and_learns_without_training() -> None:
    generator = torch.Generator().manual_seed(3)
    nodes, labels = torch.randn(60, 8, generator=generator), torch.randint(3, (60,), generator=generator)
    weight, bias = solve_ridge(nodes, labels, 3, 0.05)
    weight.requires_grad_()
    bias.requires_grad_()
    error = nodes.double() @ weight.T + bias - functional.one_hot(labels, 3).double()
    (error.square().sum() / 60 + 0.05 * weight.square().sum()).backward()
    assert weight.grad is not None
    assert bias.grad is not None
    assert max(weight.grad.abs().max(), bias.grad.abs().max()) < 1e-12
    model = mambasdk.create_model("merc", **{**TINY, "bls_enhance": 40}, classifier="ridge")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    features, speakers = drawn(16, 6)
    classes = features["text"][..., :4].argmax(-1)
    classes[0, 0] = -1
    fit_ridge(model, [({"features": features, "speakers": speakers}, classes)], 1e-3)
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"ridge.weight", "ridge.bias"}
    with torch.no_grad():
        right = (model(features, speakers).logits.argmax(-1) == classes)[classes >= 0].float().mean()
    assert right > 0.6  # chance is 0.25
    with pytest.raises(InvalidArgumentError, match="ridge"):
        fit_ridge(made(), [])
    with pytest.raises(InvalidArgumentError, match="a number above 0"):
        solve_ridge(nodes, labels, 3, 0.0)


@torch.no_grad()
def test_zero_features_equal_confidences_and_unknown_speakers() -> None:
    model = made()
    features, speakers = drawn(1, 1)
    assert model(features, speakers).logits.shape == (1, 1, 4)
    zeros = {**features, "visual": torch.zeros(1, 1, 5)}
    out = model(zeros, speakers)
    assert out.logits.isfinite().all()
    assert float(out.weights[0, 0, 2]) > 0  # zero features are features; a missing modality is another thing
    for head in model.head.values():
        head.weight.zero_()
        head.bias.zero_()
    torch.testing.assert_close(model(features, speakers).weights, torch.full((1, 1, 3), 1 / 3))
    with pytest.raises(InvalidArgumentError, match="speaker beyond the table"):
        model(features, speakers + 3)
    hashed = made(unknown_speakers="hash")
    assert torch.equal(hashed(features, speakers + 3).logits, hashed(features, speakers).logits)


def test_wrong_inputs_are_named() -> None:
    model = made()
    features, speakers = drawn(2, 3)
    with pytest.raises(InvalidArgumentError, match="no modality smell"):
        model({"smell": features["text"]}, speakers)
    with pytest.raises(ShapeError, match="bad audio"):
        model({**features, "audio": features["text"]}, speakers)
    with pytest.raises(ShapeError, match="bad present"):
        model(features, speakers, present=torch.ones(2, 3))
    with pytest.raises(InvalidArgumentError, match="no features"):
        model({}, speakers)
    for options, what in (
        ({"in_dims": [3]}, "in_dims"),
        ({"modalities": ["text", "text", "a"]}, "modalities"),
        ({"ssm": "lti_conv", "online": True}, "ssm"),
        ({"classifier": "ridge", "bls_groups": 0}, "classifier"),
        ({"confidence": "guess"}, "confidence"),
        ({"temperature": 0.0}, "temperature"),
    ):
        with pytest.raises(InvalidArgumentError, match=f"bad {what}"):
            mambasdk.create_model("merc", **{**TINY, **options})


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_two_hundred_steps_of_mixed_precision_stay_finite(dtype: torch.dtype) -> None:
    model = made().train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    features, speakers = drawn(4, 6)
    labels = features["text"][..., :4].argmax(-1)
    mask = torch.arange(6) < torch.tensor([6, 4, 1, 5]).unsqueeze(1)
    losses = []
    for _ in range(200):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype):
            loss = model.loss(model(features, speakers, mask=mask), torch.where(mask, labels, -1))
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert all(map(math.isfinite, losses))
    assert all(p.isfinite().all() for p in model.parameters())
    assert losses[-1] < 0.7 * losses[0]


@torch.no_grad()
def test_a_thousand_utterances_take_less_than_ten_seconds() -> None:
    import time

    model = mambasdk.create_model("merc").eval()
    assert sum(p.numel() for p in model.parameters()) == 1_660_512  # the paper says 1.73 million
    features = {n: torch.randn(1, 1000, d) for n, d in zip(NAMES, (1024, 1582, 342), strict=True)}
    start = time.perf_counter()
    model(features, torch.zeros(1, 1000, dtype=torch.int64))
    assert time.perf_counter() - start < 10
