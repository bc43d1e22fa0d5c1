"""Hydra and the matrix mixers: the matrices that they are, masks, packed sequences, gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional

from mambasdk.errors import InvalidArgumentError, ShapeError
from mambasdk.nn import MATRIX_MIXERS, CentredConv1d, Hydra, MatrixMixer
from mambasdk.testing.golden import scatter

LENGTH = 9


def hydra(**options: Any) -> Any:
    torch.manual_seed(0)
    return scatter(Hydra(8, d_state=3, d_conv=5, headdim=4, ngroups=2, **options), 1).double()


def matrix_mixer(kind: str, **options: Any) -> Any:
    torch.manual_seed(0)
    return scatter(MatrixMixer(8, kind, 12, qk_dim=2, d_conv=3, headdim=8, **options), 1).double()


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(7))


def values(model: Any, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(z, v by head) inside of a mixer."""
    if isinstance(model, Hydra):
        z, v, *_ = model._parts(x, None)
        return z, v
    z, v, *_ = model._parts(x, None)
    return z, model.matrix_mixer.by_head(v)


@pytest.mark.parametrize("name", ["hydra", *MATRIX_MIXERS])
def test_the_mixer_is_the_product_with_its_matrix(name: str) -> None:
    model, x = hydra() if name == "hydra" else matrix_mixer(name), noise(2, LENGTH, 8)
    z, v = values(model, x)
    y = torch.einsum("bhij,bjhp->bihp", model.matrix(x).expand(2, -1, -1, -1), v)
    torch.testing.assert_close(model(x), model.out_proj(model.norm(y.flatten(-2), z)))


@pytest.mark.parametrize("model", [hydra(), matrix_mixer("quasiseparable_dd")], ids=["hydra", "shared B and C"])
def test_off_diagonal_blocks_have_the_rank_of_the_state(model: Any) -> None:
    """Every block wholly below or above the diagonal, and the sub-diagonal band too: the definition of the class."""
    length, rank = 24, 3 if isinstance(model, Hydra) else 2 * model.nheads
    with torch.no_grad():
        matrix = model.matrix(noise(2, 12 if isinstance(model, MatrixMixer) else length, 8))
    for cut in range(1, matrix.shape[-1]):
        for block in (matrix[..., cut:, :cut], matrix[..., :cut, cut:]):
            values = torch.linalg.svdvals(block)
            assert bool((values[..., rank:] <= 1e-10 * values[..., :1]).all()), cut
    # It is no low-rank matrix: the diagonal is free.
    assert int(torch.linalg.matrix_rank(matrix).min()) == matrix.shape[-1]


@pytest.mark.parametrize(
    "model",
    [hydra(learnable_init_states=True, dt_limit=(0.01, 0.5)), *map(matrix_mixer, MATRIX_MIXERS)],
    ids=["hydra", *MATRIX_MIXERS],
)
def test_gradients_of_the_input_and_of_every_parameter_are_right(model: Any) -> None:
    """Against differences in float64."""
    names = [name for name, _ in model.named_parameters()]

    def run(x: torch.Tensor, *parameters: torch.Tensor) -> Any:
        return torch.func.functional_call(model, dict(zip(names, parameters, strict=True)), (x,))

    inputs = [noise(1, 4, 8), *(parameter.detach().clone() for parameter in model.parameters())]
    assert torch.autograd.gradcheck(run, [tensor.requires_grad_() for tensor in inputs], fast_mode=True)


@pytest.mark.parametrize("name", ["hydra", *MATRIX_MIXERS])
def test_what_a_mask_leaves_out_is_not_there(name: str) -> None:
    """Padding on either side, holes, and a row without a token, whose content does not matter; gradients follow."""
    model, x = hydra() if name == "hydra" else matrix_mixer(name), noise(4, LENGTH, 8)
    mask = torch.ones(4, LENGTH)
    mask[0, 6:] = mask[1, :2] = mask[2, [0, 3, 4]] = mask[3] = 0
    left_out = mask[..., None] == 0
    given = x.masked_fill(left_out, torch.nan).requires_grad_()
    y = model(given, mask=mask)
    assert not y[left_out.expand_as(y)].any()
    for row in range(3):
        there = mask[row] != 0
        torch.testing.assert_close(y[row, there], model(x[row : row + 1, there])[0])
    y.square().sum().backward()
    assert given.grad is not None
    assert not given.grad[left_out.expand_as(y)].any()


def test_packed_sequences_are_as_if_alone() -> None:
    model, lengths = hydra(learnable_init_states=True), [3, 0, 5, 1]
    parts = [noise(1, length, 8) for length in lengths]
    offsets = torch.tensor([0, 3, 3, 8, 9], dtype=torch.int32)
    y = model(torch.cat(parts, 1), cu_seqlens=offsets)
    torch.testing.assert_close(y, torch.cat([model(part) for part in parts], 1))


def test_a_reversed_sequence_is_read_as_well_as_the_other_way_round() -> None:
    """With the halves of B, C, dt and the taps of the convolution swapped, flipping commutes with the mixer."""
    model, other = hydra(), hydra()
    x = noise(2, LENGTH, 8)
    inner, width, heads = model.d_inner, 2 * 3, model.nheads
    sizes = [inner, inner, *[width] * 4, heads, heads]
    order = (0, 1, 4, 5, 2, 3, 7, 6)
    with torch.no_grad():
        rows = model.in_proj.weight.split(sizes)
        other.in_proj.weight.copy_(torch.cat([rows[i] for i in order]))
        channels = [1, 4, 5, 2, 3]
        for mine, theirs in ((other.conv1d.weight, model.conv1d.weight), (other.conv1d.bias, model.conv1d.bias)):
            pieces = theirs.split(sizes[1:6])
            moved = torch.cat([pieces[i - 1] for i in channels])
            mine.copy_(moved.flip(-1) if moved.ndim == 3 else moved)
    torch.testing.assert_close(other(x.flip(1)).flip(1), model(x))


@pytest.mark.parametrize("width", [1, 3, 7, 9])
@pytest.mark.parametrize("length", [0, 1, 2, 12])
def test_centred_convolution_is_torchs(width: int, length: int) -> None:
    torch.manual_seed(0)
    layer = CentredConv1d(5, width).double()
    x = noise(2, length, 5)
    expected = (
        functional.conv1d(functional.pad(x.mT, (width // 2, width // 2)), layer.weight, layer.bias, groups=5).mT
        if length
        else x
    )
    torch.testing.assert_close(layer(x), expected)


def test_toeplitz_weighs_by_distance_and_the_published_code_by_one_more() -> None:
    x = noise(1, 12, 8)
    ours, theirs = (matrix_mixer("toeplitz_di", shifted=shifted).matrix_mixer for shifted in (False, True))
    nothing = x[..., :0]
    right, shifted = (model.matrix(x, nothing, nothing)[0] for model in (ours, theirs))
    weights = ours.conv_params / (2 * 12**0.5)
    for found, place in (
        (right[:, 5, 3], 11 + 2),
        (right[:, 3, 5], 11 - 2),
        (shifted[:, 5, 3], 11 + 3),
        (shifted[:, 11, 0], 0),  # wrapped
    ):
        torch.testing.assert_close(found, weights[:, place])
    with pytest.raises(ShapeError, match="one size"):
        theirs.matrix(x[:, :5], nothing, nothing)


def test_hydra_keeps_no_state_and_names_what_it_cannot_be() -> None:
    with pytest.raises(InvalidArgumentError, match="no state"):
        hydra()(noise(1, 2, 8), return_state=True)
    with pytest.raises(InvalidArgumentError, match="odd"):
        Hydra(8, d_conv=4, headdim=4)
    with pytest.raises(InvalidArgumentError, match="divisor of 16 channels"):
        Hydra(8, headdim=5)
    with pytest.raises(ShapeError, match="at most 12"):
        matrix_mixer("attention_dd")(noise(1, 13, 8))
    with pytest.raises(InvalidArgumentError, match="cauchy_dd"):
        MatrixMixer(8, "cauchy", headdim=8)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sixteen_bits_keep_the_steps_in_float32(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = Hydra(16, d_state=4, headdim=8)
    x = torch.randn(2, 20, 16)
    expected = model(x)
    low = model.to(dtype)
    assert {name for name, p in low.named_parameters() if p.dtype == torch.float32} == {"A_log", "D", "dt_bias"}
    error = (low(x.to(dtype)).float() - expected).norm() / expected.norm()
    assert error.item() < 0.02
