"""Mixture-of-Mamba beyond its goldens: the dense model as a special case, modalities, gradients, costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import mambasdk
from mambasdk import runtime
from mambasdk.errors import InvalidArgumentError, ShapeError
from mambasdk.nn import Mamba
from mambasdk.nn.groups import Groups
from mambasdk_multimodal import upcycle
from mambasdk_multimodal.nn import PROJECTIONS, MixtureOfMamba

D, M = 24, 3
SHARED = [(), ("x",), ("dt",), ("in", "out"), ("x", "dt"), PROJECTIONS]


def mixture(**options: Any) -> MixtureOfMamba:
    torch.manual_seed(0)
    return MixtureOfMamba(D, M, d_state=6, **options)


def copies(shared: tuple[str, ...], **options: Any) -> tuple[Mamba, MixtureOfMamba]:
    """A dense mixer, and a mixture all of whose modalities have its projections."""
    torch.manual_seed(1)
    dense = Mamba(D, d_state=6, **options)
    made = mixture(shared=shared, **options)
    state = {}
    for name in made.state_dict():
        parts = name.removeprefix("local_experts_").split(".")
        state[name] = dense.state_dict()[".".join(part for part in parts if not part.isdigit())]
    made.load_state_dict(state)
    return dense, made


def tokens_of(*shape: int) -> torch.Tensor:
    return torch.randint(M, shape, generator=torch.Generator().manual_seed(3))


# ---- the dense model ----


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shared", SHARED, ids=lambda names: "+".join(names) or "none")
def test_tokens_of_one_modality_have_the_bits_of_mamba(shared: tuple[str, ...], bias: bool) -> None:
    """Outputs, states, single steps and gradients."""
    dense, made = copies(shared, bias=bias)
    for modality in range(M):
        x = torch.randn(2, 9, D)
        ids = torch.full((2, 9), modality)
        mine, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
        y, state = made(mine, modality=ids, return_state=True)
        expected, after = dense(theirs, return_state=True)
        assert torch.equal(y, expected)
        assert all(torch.equal(a, b) for a, b in zip(state, after, strict=True))
        y.square().sum().backward()
        expected.square().sum().backward()
        assert mine.grad is not None
        assert theirs.grad is not None
        assert torch.equal(mine.grad, theirs.grad)
        with torch.no_grad():
            step, _ = made(x[:, :1], state, modality=ids[:, :1], return_state=True)
            assert torch.equal(step, dense(x[:, :1], after, return_state=True)[0])


@pytest.mark.parametrize("shared", SHARED, ids=lambda names: "+".join(names) or "none")
def test_equal_projections_of_mixed_tokens_are_mamba(shared: tuple[str, ...]) -> None:
    dense, made = (mixer.double() for mixer in copies(shared))
    x = torch.randn(2, 9, D, dtype=torch.float64)
    torch.testing.assert_close(made(x, modality=tokens_of(2, 9)), dense(x), atol=1e-12, rtol=0)


def test_flops_are_those_of_mamba() -> None:
    dense, made = copies(())
    x, ids = torch.randn(2, 16, D), tokens_of(2, 16)
    counted = []
    for run in (lambda: made(x, modality=ids).sum().backward(), lambda: dense(x).sum().backward()):
        with FlopCounterMode(display=False) as counter:
            run()
        counted.append(counter.get_total_flops())
    assert counted[0] == counted[1]


# ---- modalities ----


@pytest.mark.parametrize("shared", SHARED, ids=lambda names: "+".join(names) or "none")
def test_rows_may_have_different_modalities_in_one_step(shared: tuple[str, ...]) -> None:
    """Each row as it is alone, in single steps too."""
    made = mixture(shared=shared)
    x, ids = torch.randn(3, 7, D), tokens_of(3, 7)
    whole = made(x, modality=ids)
    for row in range(3):
        one = slice(row, row + 1)
        torch.testing.assert_close(made(x[one], modality=ids[one]), whole[one], atol=1e-5, rtol=0)
    state = None
    with torch.no_grad():
        for t in range(7):
            step, state = made(x[:, t : t + 1], state, modality=ids[:, t : t + 1], return_state=True)
            torch.testing.assert_close(step, whole[:, t : t + 1], atol=1e-5, rtol=0)


def test_a_mask_holds_the_state_whatever_modality_is_behind_it() -> None:
    made = mixture()
    x, ids = torch.randn(2, 6, D), tokens_of(2, 6)
    mask = torch.tensor([[1, 1, 0, 1, 0, 0], [0, 0, 1, 1, 1, 1]])
    ids[mask == 0] = -7  # what is not there is not looked at
    y, state = made(x, modality=ids, mask=mask, return_state=True)
    for row in range(2):
        there = mask[row].bool()
        alone, after = made(x[row : row + 1, there], modality=ids[row : row + 1, there], return_state=True)
        torch.testing.assert_close(y[row, there], alone[0], atol=1e-5, rtol=0)
        for held, expected in zip(state, after, strict=True):
            torch.testing.assert_close(held[row], expected[0], atol=1e-5, rtol=0)
    _, kept = made(x, state, modality=ids, mask=torch.zeros(2, 6), return_state=True)
    assert all(torch.equal(a, b) for a, b in zip(kept, state, strict=True))


def test_a_modality_that_is_none_is_named_with_its_place() -> None:
    made = mixture()
    ids = tokens_of(2, 5)
    ids[1, 3] = 3
    with pytest.raises(InvalidArgumentError, match=r"the modality of token \(1, 3\) is 3.*0 to 2"):
        made(torch.randn(2, 5, D), modality=ids)
    with pytest.raises(ShapeError, match="bad modality"):
        made(torch.randn(2, 5, D), modality=ids[:, :4])
    with pytest.raises(InvalidArgumentError, match="bad shared"):
        mixture(shared=("conv",))


def test_an_absent_modality_has_gradients_of_zero() -> None:
    """In a mixed batch and in one of a single modality; every weight has a gradient, as distributed training needs."""
    for ids in (torch.full((2, 5), 1), torch.tensor([[0, 1, 0, 1, 1]] * 2)):
        made = mixture()
        made(torch.randn(2, 5, D), modality=ids).square().sum().backward()
        present = set(ids.flatten().tolist())
        for name, parameter in made.named_parameters():
            assert parameter.grad is not None, name
            parts = name.split(".")
            if name.startswith("local_experts_"):
                assert bool(parameter.grad.any()) == (int(parts[1]) in present), name


def test_traced_groups_have_the_gradients_of_sorted_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = tokens_of(2, 9)
    x = torch.randn(2, 9, D)
    found = []
    for traced in (False, True):
        monkeypatch.setattr(torch.compiler, "is_exporting", lambda traced=traced: traced)
        made = mixture()
        made(x, modality=ids).square().sum().backward()
        found.append({name: parameter.grad for name, parameter in made.named_parameters()})
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, atol=1e-4, rtol=1e-4, msg=name)


def test_tokens_are_sorted_once_for_all_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    of = Groups.of
    monkeypatch.setattr(Groups, "of", lambda *arguments: calls.append(1) or of(*arguments))
    model: Any = mambasdk.create_model("mixture_of_mamba", d_model=16, n_layer=3)
    model(torch.tensor([[1, 300, 2, 301]]))
    assert len(calls) == 1


def test_a_given_modality_stands_above_the_range_of_the_id() -> None:
    model: Any = mambasdk.create_model("mixture_of_mamba", d_model=16, n_layer=1).eval()
    tokens = torch.tensor([[1, 300, 2, 301]])
    by_id = model(tokens).logits
    assert torch.equal(model(tokens, modality=torch.tensor([[0, 1, 0, 1]])).logits, by_id)
    assert not torch.equal(model(tokens, modality=torch.tensor([[1, 1, 0, 1]])).logits, by_id)
    with pytest.raises(InvalidArgumentError, match=r"token \(0, 2\) is 2"):
        model(tokens, modality=torch.tensor([[0, 1, 2, 1]]))


# ---- initialisation, configuration ----


def test_modalities_are_drawn_by_themselves() -> None:
    made = mixture()
    for name in PROJECTIONS:
        first, second, _ = made.get_submodule(f"local_experts_{name}_proj").children()
        assert not torch.equal(first.weight, second.weight)  # type: ignore[arg-type]
    steps = [torch.nn.functional.softplus(each.bias.detach()) for each in made._own("dt")]
    assert all(1e-3 <= float(step.min()) <= float(step.max()) <= 0.1 + 1e-6 for step in steps)
    assert not torch.equal(steps[0], steps[1])
    deep: Any = mambasdk.create_model("mixture_of_mamba", d_model=64, n_layer=8)
    weights = [block.mamba_model.local_experts_out_proj[1].weight for block in deep.backbone._blocks()]
    bound = 1 / (128**0.5 * 16**0.5)  # uniform in +-1/sqrt(I), smaller by sqrt of 16 blocks
    assert all(0.95 * bound < float(weight.detach().abs().max()) <= bound for weight in weights)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"modality_ranges": [256]}, "bad modality_ranges"),
        ({"modality_ranges": [256, 256]}, "bad modality_ranges"),
        ({"modalities": ["text", "text"]}, "a modality twice"),
        ({"latent_dim": -1}, "bad latent_dim"),
        ({"shared": ["y"]}, "bad shared"),
        ({"dt_bias": "none"}, "bad dt_bias"),
    ],
)
def test_configurations_that_cannot_be_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidArgumentError, match=said):
        mambasdk.create_model("mixture_of_mamba", **{"d_model": 16, "n_layer": 1, **settings})


def test_models_with_and_without_latents_say_what_they_take() -> None:
    words: Any = mambasdk.create_model("mixture_of_mamba", d_model=16, n_layer=1)
    with pytest.raises(InvalidArgumentError, match="takes no latents"):
        words(torch.zeros(1, 3, dtype=torch.int64), latents=torch.zeros(1, 3, 4))
    images: Any = mambasdk.create_model("mixture_of_mamba", d_model=16, n_layer=1, latent_dim=4)
    with pytest.raises(ShapeError, match="bad latents or times"):
        images(torch.zeros(1, 3, dtype=torch.int64), latents=torch.zeros(1, 3, 5))


def test_latents_are_read_where_they_are_and_nowhere_else() -> None:
    model: Any = mambasdk.create_model("mixture_of_mamba", d_model=16, n_layer=1, latent_dim=4).eval()
    tokens = torch.tensor([[1, 256, 256, 2]])
    latents, times = torch.randn(1, 4, 4), torch.full((1, 4), 7.0)
    out = model(tokens, latents=latents, times=times)
    other = latents.clone()
    other[:, [0, 3]] = torch.nan
    assert torch.equal(model(tokens, latents=other, times=times).logits, out.logits)
    other = latents.clone()
    other[:, 1] += 1
    changed = model(tokens, latents=other, times=times)
    assert torch.equal(changed.logits[:, 0], out.logits[:, 0])
    assert not torch.equal(changed.noise[:, 1], out.noise[:, 1])
    assert not torch.equal(changed.logits[:, 3], out.logits[:, 3])


# ---- upcycling, packages ----

DENSE = {"d_model": 32, "n_layer": 4, "vocab_size": 256, "d_state": 8}


@pytest.mark.parametrize("tied", [True, False])
def test_an_upcycled_model_is_the_dense_one(tied: bool, tmp_path: Path) -> None:
    """Bit for bit on its tokens, from a model and from its package; also with other sizes."""
    dense: Any = mambasdk.create_model("mamba", **DENSE, tie_embeddings=tied, dt_rank=3, conv_bias=False).eval()
    mambasdk.save_package(dense, tmp_path / "dense", engine="torch")
    tokens = torch.randint(256, (2, 12))
    expected = dense(tokens).logits
    for source in (dense, tmp_path / "dense"):
        made: Any = upcycle(source, modalities=["text", "image", "sound"], shared=["dt"]).eval()
        assert made.config.modality_ranges == [256, 512, 768]
        assert torch.equal(made(tokens).logits[..., :256], expected)
        mixed = made(torch.tensor([[1, 600, 300, 2]])).logits
        assert mixed.shape == (1, 4, 768)
        assert mixed.isfinite().all()


def test_what_cannot_be_upcycled_is_said() -> None:
    with pytest.raises(InvalidArgumentError, match="an even number of blocks"):
        upcycle(mambasdk.create_model("mamba", **{**DENSE, "n_layer": 3}))
    with pytest.raises(InvalidArgumentError, match="not a stack of Mamba blocks"):
        upcycle(mambasdk.create_model("mamba2", d_model=32, n_layer=2, vocab_size=256, headdim=8))
    with pytest.raises(InvalidArgumentError, match="not a stack of Mamba blocks"):
        upcycle(mambasdk.create_model("mamba", **DENSE, d_intermediate=8))
    with pytest.raises(InvalidArgumentError, match="smaller than the dense vocabulary"):
        upcycle(mambasdk.create_model("mamba", **DENSE), modality_ranges=[255, 300])


def test_a_native_session_of_one_modality_is_that_of_the_dense_package(tmp_path: Path) -> None:
    """Token by token and many at once; the bias of the step sizes is added in another place, so not bit for bit."""
    dense: Any = mambasdk.create_model("mamba", **DENSE).eval()
    made: Any = upcycle(dense).eval()
    for name, model in (("dense", dense), ("mixture", made)):
        mambasdk.save_package(model, tmp_path / name)
    tokens = np.arange(40, dtype=np.int32)[None] * 7 % 256
    for split in ([40], [1] * 40, [33, 7]):
        sessions = [runtime.load_package(tmp_path / name).session() for name in ("dense", "mixture")]
        for piece in np.split(tokens, np.cumsum(split)[:-1], 1):
            left, right = (session.run({"tokens": piece}, ["logits"])["logits"] for session in sessions)
            np.testing.assert_allclose(right[..., :256], left, atol=2e-5)
