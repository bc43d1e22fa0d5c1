"""What a native program cannot say is refused by the operation's name, with the module and the line that call it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mambasdk.errors import LoweringError
from mambasdk.lowering.graph import program_of_graph
from mambasdk.package import save_package

from .networks import named, noise

X = noise(3, 5, 4)


class Refused(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.linalg.inv(x)


def test_a_missing_operation_is_named_with_its_module_line_and_shapes(tmp_path: Path) -> None:
    net = named(lambda self, x: self.deep(x), noise(2, 3, 3), deep=nn.Sequential(nn.Identity(), Refused()))
    with pytest.raises(LoweringError) as caught:
        save_package(net, tmp_path / "package", engine="native")
    text = str(caught.value)
    assert "aten.linalg_inv" in text
    assert "net.deep.1 (test_refused.py:" in text
    assert "float32 (s" in text
    assert ", 3, 3)" in text
    assert 'engine="aoti"' in text
    assert not (tmp_path / "package").exists()


class Inner(nn.Module):
    """A function of x as the layer of a network."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def refusal(function: Callable[[Tensor], Tensor]) -> str:
    """What is said of a network that has it as a layer; the layer's module and this file are named in it."""
    net = named(lambda self, x: self.deep(x), X, deep=nn.Sequential(nn.Identity(), Inner(function)))
    with pytest.raises(LoweringError) as caught:
        program_of_graph(net)
    text = str(caught.value)
    assert "in module net.deep.1 (test_refused.py:" in text, text
    return text


@pytest.mark.parametrize(
    ("function", "operation"),
    [
        (lambda x: x + torch.rand(x.shape), "aten.rand.default"),
        (lambda x: x + torch.randn_like(x), "aten.randn_like.default"),
        (lambda x: x + torch.randint(0, 5, x.shape), "aten.randint.low"),
        (lambda x: x[:, torch.randperm(x.shape[1])], "aten.randperm.default"),
        (lambda x: x + torch.empty_like(x).uniform_(), "aten.uniform.default"),
        (lambda x: torch.normal(x, 1.0), "aten.normal.Tensor_float"),
        (lambda x: torch.bernoulli(x.sigmoid()), "aten.bernoulli.default"),
        (lambda x: torch.poisson(x.abs()), "aten.poisson.default"),
        (lambda x: x + torch.multinomial(x.abs().flatten(1), 1).unsqueeze(1), "aten.multinomial.default"),
        (lambda x: F.dropout(x, 0.5, training=True), "aten.native_dropout.default"),
        (F.gumbel_softmax, "aten.exponential.default"),
        (lambda x: F.rrelu(x, training=True), "aten.rrelu.default"),
        (lambda x: F.scaled_dot_product_attention(x, x, x, dropout_p=0.5), "at random; pass dropout_p=0"),
    ],
)
def test_random_operations_are_refused_by_name_and_place(function: Callable[[Tensor], Tensor], operation: str) -> None:
    text = refusal(function)
    assert operation in text
    assert "as an input" in text or "dropout_p" in text
    assert "free dims" not in text  # the graph is right: two runs draw other numbers


def test_numbers_that_nothing_reads_may_be_random() -> None:
    program_of_graph(named(lambda _, x: (torch.rand(3), x)[1], X))


@pytest.mark.parametrize(
    ("function", "operation"),
    [
        (lambda x: x + x.nonzero().sum(), "aten.nonzero.default"),
        (lambda x: x + torch.where(x > 0)[0].sum(), "aten.nonzero.default"),
        (lambda x: x + x.masked_select(x > 0).sum(), "aten.masked_select.default"),
        (lambda x: x + x[x > 0].sum(), "aten.index.Tensor"),
        (lambda x: x + torch.unique(x).sum(), "aten._unique2.default"),
        (lambda x: x + torch.bincount(x.long().abs().flatten()).sum(), "aten.bincount.default"),
        (lambda x: x * x[0, 0, 0].item(), "aten.item.default"),
        (lambda x: x * x[0, 0].tolist()[0], "aten.item.default"),
        (lambda x: x[:, : x.long().abs()[0, 0, 0].item()], "aten.item.default"),
        (lambda x: x + x.repeat_interleave(x[:, 0, 0].long().abs(), 0).sum(), "aten.repeat_interleave.Tensor"),
    ],
)
def test_operations_whose_sizes_or_numbers_depend_on_values_are_refused_by_name_and_place(
    function: Callable[[Tensor], Tensor], operation: str
) -> None:
    assert operation in refusal(function)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x if x.sum() > 0 else -x,
        lambda x: x if bool((x > 0).any()) else -x,
        lambda x: x * torch.equal(x, x),
        lambda x: x if torch.allclose(x, x + 1) else -x,
    ],
)
def test_branches_that_depend_on_values_are_refused_with_their_place(function: Callable[[Tensor], Tensor]) -> None:
    text = refusal(function)
    assert "depends on the values of tensors" in text
    assert "torch.where" in text
    assert "TORCH_LOGS" not in text


@pytest.mark.parametrize(
    ("function", "inputs", "message"),
    [
        (lambda _, x: x * (x.shape[0] / 3), (X,), "computed from extents"),
        (lambda _, x: x + torch.tensor([2**40, 1, 2, 3]), (X,), "beyond 32 bits"),
        (lambda _, x: x.float() + 1, (torch.ones(2, 3, dtype=torch.uint8),), r"input x0.*got u8"),
        (lambda _, x: x.roll(1), (X,), "all elements at once|cannot be exported"),
    ],
)
def test_what_a_program_cannot_say_is_refused_when_it_is_written(
    function: Callable[..., Any], inputs: tuple[Tensor, ...], message: str
) -> None:
    with pytest.raises(LoweringError, match=message):
        program_of_graph(named(function, *inputs))
