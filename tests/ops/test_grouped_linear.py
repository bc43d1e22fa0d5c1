"""grouped_linear: its groups are products of `linear`, and a row that is in no group is named."""

from __future__ import annotations

import pytest
import torch

from mambasdk import ops


@pytest.mark.parametrize("rows", [1, 7, 40, 300])
@pytest.mark.parametrize("groups", [1, 2, 5])
def test_a_group_has_the_bits_of_linear(rows: int, groups: int) -> None:
    """Of its rows alone, in their order; with views of any strides too."""
    torch.manual_seed(rows + groups)
    weight, bias = torch.randn(groups, 33, 70), torch.randn(groups, 33)
    group = torch.randint(0, groups, (rows,), dtype=torch.int32)
    for x in (torch.randn(rows, 70), torch.randn(70, rows).t(), torch.randn(rows, 2, 70)[:, 1]):
        y = ops.call("grouped_linear", x=x, weight=weight, group=group, bias=bias)
        assert isinstance(y, torch.Tensor)
        for g in range(groups):
            expected = ops.call("linear", x=x[group == g], weight=weight[g], bias=bias[g])
            assert torch.equal(y[group == g], expected)


@pytest.mark.parametrize("bad", [-1, 3, 1 << 30])
def test_a_group_that_is_none_is_named(bad: int) -> None:
    x, weight = torch.ones(4, 5), torch.ones(3, 2, 5)
    group = torch.tensor([0, 2, bad, 1], dtype=torch.int32)
    with pytest.raises(ValueError, match=rf"element 2 of group is {bad}, expected 0 to 2: weight has 3 groups"):
        ops.call("grouped_linear", x=x, weight=weight, group=group)


def test_gradients_of_a_group_without_rows_are_zero() -> None:
    x = torch.randn(6, 5, requires_grad=True)
    weight, bias = torch.randn(3, 4, 5, requires_grad=True), torch.randn(3, 4, requires_grad=True)
    group = torch.tensor([2, 0, 2, 2, 0, 2], dtype=torch.int32)
    y = ops.call("grouped_linear", x=x, weight=weight, group=group, bias=bias)
    assert isinstance(y, torch.Tensor)
    y.square().sum().backward()
    assert weight.grad is not None
    assert bias.grad is not None
    assert not weight.grad[1].any()
    assert not bias.grad[1].any()
    assert weight.grad[2].any()
    assert bias.grad[0].any()
