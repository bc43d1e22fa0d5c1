"""rotary against complex products."""

from __future__ import annotations

import pytest
import torch
from drawn import draw
from tolerance import assert_close

from mambasdk import ops

pytestmark = pytest.mark.usefixtures("isa")

WIDTHS = [(2, 1), (6, 2), (16, 8), (64, 32), (66, 33), (80, 20), (40, 15), (7, 3), (5, 0)]


def tables(length: int, pairs: int) -> tuple[torch.Tensor, torch.Tensor]:
    angles = torch.arange(length)[:, None] * 10.0 ** -torch.linspace(0, 4, pairs)
    return angles.cos(), angles.sin()


def turned(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, interleaved: bool) -> torch.Tensor:
    """x (B, L, H, E): each pair as a complex number, times that of its angle."""
    R = cos.shape[1]
    if R == 0:
        return x.double()
    head, rest = x.double()[..., : 2 * R], x.double()[..., 2 * R :]
    pairs = head.unflatten(-1, (R, 2)) if interleaved else head.unflatten(-1, (2, R)).transpose(-1, -2)
    product = torch.view_as_complex(pairs.contiguous()) * torch.complex(cos.double(), sin.double())[:, None]
    out = torch.view_as_real(product)
    return torch.cat([(out if interleaved else out.transpose(-1, -2)).flatten(-2), rest], -1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize(("width", "pairs"), WIDTHS)
def test_pairs_turn(width: int, pairs: int, interleaved: bool, dtype: torch.dtype) -> None:
    x = draw(2, 9, 3, width).to(dtype)
    cos, sin = tables(9, pairs)
    expected = turned(x, cos, sin, interleaved)
    for what, view in {
        "contiguous": x,
        "part": torch.cat([x, x, x], 2)[:, :, 3:6],
        "heads first": x.transpose(1, 2).contiguous().transpose(1, 2),
        "apart": torch.stack([x, x], -1)[..., 0],
    }.items():
        y = ops.call("rotary", x=view, cos=cos, sin=sin, interleaved=interleaved)
        assert_close(y, expected, what)
        assert torch.equal(y[..., 2 * pairs :], x[..., 2 * pairs :])
    transposed = [t.T.contiguous().T for t in (cos, sin)]
    assert_close(ops.call("rotary", x=x, cos=transposed[0], sin=sin, interleaved=interleaved), expected, "cos")
    assert_close(ops.call("rotary", x=x, cos=cos, sin=transposed[1], interleaved=interleaved), expected, "sin")


def test_products_depend_on_distances_alone() -> None:
    cos, sin = tables(50, 16)
    q, k = draw(1, 1, 1, 32).expand(1, 50, 1, 32), draw(1, 1, 1, 32, seed=2).expand(1, 50, 1, 32)
    a, b = (ops.call("rotary", x=x, cos=cos, sin=sin)[0, :, 0] for x in (q, k))
    products = a @ b.T
    for distance in (0, 3, -7):
        along = products.diagonal(distance)
        torch.testing.assert_close(along, along[:1].expand_as(along), atol=1e-4, rtol=1e-4)


def test_too_many_angles() -> None:
    table = torch.ones(3, 4)
    with pytest.raises(
        ValueError, match="rotary: cos has 4 angles, expected at most 3: two channels of x turn by each"
    ):
        ops.call("rotary", x=torch.ones(1, 3, 2, 7), cos=table, sin=table)
