"""What programs of graphs compute, what passes leave equal, and how entries of the table come in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mambasdk.errors import InvalidArgumentError, LoweringError
from mambasdk.lowering import passes, table
from mambasdk.lowering.exported import export_model
from mambasdk.lowering.graph import program_of_graph
from mambasdk.package import save_package
from mambasdk.runtime import load_package

from .networks import Named, named, noise


def native(net: Named, folder: Path) -> list[Tensor]:
    save_package(net, folder, engine="native", golden=False)
    inputs = {name: tensor.numpy() for name, tensor in net.example_inputs().items()}
    with torch.no_grad():
        names = list(net.native_outputs(net.example_inputs()))
    found = load_package(folder).session().run(inputs, names)
    return [torch.from_numpy(np.array(found[name])) for name in names]


def assigned(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, 1:3] = 0.5
    y[:, :, -1] = x[:, :, 0]
    return y.repeat_interleave(2, 3)


X = noise(2, 6, 5, 4)
IDS = torch.tensor([[2, 0, 5], [1, 1, 3]], dtype=torch.int32)

FUNCTIONS: dict[str, tuple[Callable[..., Any], tuple[Tensor, ...]]] = {
    "views of a permuted slice": (lambda _, x: x[:, 1:5].permute(0, 2, 3, 1).flatten(1, 2)[:, ::3], (X,)),
    "reshapes of what was chosen along a dim": (
        lambda _, x: (
            x[:, 1].flatten(1) + 1,
            x[:, :, 2].flatten(1, 2) * 2,
            x.view(x.shape[0], 3, 2, 5, 4)[:, :, 1, 1:3, None].flatten(1, 2) + 1,
            x.view(x.shape[0], 2, 3, 5, 4)[:, 1, 2].permute(0, 2, 1).flatten(1) * 2,
        ),
        (X,),
    ),
    "reshape that needs a copy": (lambda _, x: x.transpose(1, 3).reshape(x.shape[0], -1) + 1, (X,)),
    "windows": (
        lambda _, x: x.view(x.shape[0], 3, 2, 5, 2, 2).permute(0, 1, 4, 2, 3, 5).reshape(x.shape[0], 6, -1) * 2,
        (X,),
    ),
    "roll, flip, pad, repeat": (
        lambda _, x: torch.cat((x.roll((1, -2), (2, 3)).flip(1, 3), F.pad(x, (1, 2, 0, 3))[:, :, :5, :4]), 1).repeat(
            1, 2, 1, 1
        ),
        (X,),
    ),
    "padding modes": (
        lambda _, x: (F.pad(x, (1, 2, 2, 1), mode="reflect"), F.pad(x, (1, 2, 2, 1), mode="replicate")),
        (X,),
    ),
    "broadcast arithmetic": (
        lambda _, x: (x - x.mean((2, 3), keepdim=True)) / (x.var(1, keepdim=True) + 0.1).sqrt() * 2.5 - 1 / (x**2 + 1),
        (X,),
    ),
    "comparisons and where": (
        lambda _, x: torch.where((x > 0.2) & (x <= 1) | (x < -1), x.clamp(-0.5, 0.7), x.abs().sqrt()).masked_fill(
            x == 0, 9.0
        ),
        (X,),
    ),
    "functions": (
        lambda _, x: (
            F.mish(x)
            + F.elu(x, 0.7)
            + F.hardswish(x)
            + F.softplus(x)
            + F.gelu(x, approximate="tanh")
            + x.erf()
            + x.sin() * x.cos()
            + F.logsigmoid(x)
            + x.round()
            + x.floor()
            - x.ceil()
            + x.sign()
            + x.trunc()
            + x.exp().log1p()
        ),
        (X,),
    ),
    "reductions": (
        lambda _, x: (
            x.sum(1),
            x.amax((1, 3)),
            x.amin(2, keepdim=True),
            x.std((1, 2)),
            x.max(3)[0],
            x.norm(dim=1),
            x.logsumexp(2),
            x.cumsum(2),
            x.prod(3),
        ),
        (X,),
    ),
    "largest and sorted": (
        lambda _, x: (
            x.argmax(1).float(),
            x.argmin(3).float(),
            x.topk(3, 1)[0],
            x.topk(2, 2, largest=False)[1].float(),
            x.sort(1, descending=True)[0],
            x.argsort(3).float(),
        ),
        (X,),
    ),
    "softmax over any dim": (lambda _, x: x.softmax(1) + x.log_softmax(2) + x.softmax(-1), (X,)),
    "gather and scatter": (
        lambda _, x, i: (
            x[:, :, 0].gather(1, i.long()[:, :, None].expand(-1, -1, 4)),
            torch.zeros_like(x[:, :, 0]).scatter_add(1, i.long()[:, :, None].expand(-1, -1, 4), x[:, :3, 1]),
            *(
                x[:, :, 0].scatter_reduce(
                    1, i.long()[:, :, None].expand(-1, -1, 4), x[:, :3, 1], "amax", include_self=s
                )
                for s in (False, True)
            ),
        ),
        (X, IDS),
    ),
    "rows by index": (
        lambda _, x, i: (x[:, i[0].long()], x.index_select(3, i[0].long() % 4), x[0][i.long()]),
        (X, IDS),
    ),
    "matrices": (
        lambda _, x: (
            x @ x.transpose(2, 3),
            torch.einsum("bchw,bdhw->bcd", x, x),
            torch.einsum("bchw,bchv->bwv", x, x),
        ),
        (X,),
    ),
    "masks by position": (
        lambda _, x: (x @ x.transpose(2, 3)).masked_fill(torch.ones(5, 5).triu(1).bool(), float("-inf")).softmax(-1),
        (X,),
    ),
    "attention with a mask": (
        lambda _, x: (
            F.scaled_dot_product_attention(x, x, x, attn_mask=torch.ones(5, 5).tril().bool())
            + F.scaled_dot_product_attention(x, x, x, is_causal=True)
        ),
        (X,),
    ),
    "resizing": (
        lambda _, x: (
            F.interpolate(x, (7, 9), mode="bilinear"),
            F.interpolate(x, scale_factor=2.0, mode="bicubic", align_corners=True),
            F.interpolate(x, (3, 2), mode="nearest-exact"),
            F.interpolate(x[:, :, 0], 9, mode="linear"),
        ),
        (X,),
    ),
    "pooling": (
        lambda _, x: (
            F.avg_pool2d(x, 3, 2, 1),
            F.max_pool2d(x, 2, 2, ceil_mode=True),
            F.adaptive_max_pool2d(x, (2, 3)),
            F.avg_pool2d(x, 2, 2, ceil_mode=True, count_include_pad=False),
            F.avg_pool1d(x[:, :, 0], 2),
        ),
        (X,),
    ),
    "norms": (
        lambda _, x: (
            F.layer_norm(x, (5, 4))
            + F.group_norm(x, 3)
            + F.instance_norm(x)
            + F.rms_norm(x.permute(0, 2, 3, 1), (6,)).permute(0, 3, 1, 2)
        ),
        (X,),
    ),
    "what torch takes apart": (
        lambda _, x: (
            F.glu(x, 1) + F.pixel_shuffle(x[:, :4], 2)[:, :, :5, :4],
            F.selu(x) + torch.addcmul(x, x, x, value=0.5),
            F.cosine_similarity(x, x.flip(1), 1),
            F.one_hot(x.argmax(1), 6).float(),
        ),
        (X,),
    ),
    "assignments": (lambda _, x: assigned(x), (X,)),
    "samples of a map": (
        lambda _, x: F.grid_sample(x, x[:, :2].permute(0, 2, 3, 1), align_corners=False, padding_mode="border"),
        (X,),
    ),
    "sums over letters": (
        lambda _, x: torch.einsum("bchw,bdhw,bdk->bck", x, x, x[:, :, 0]),
        (X,),
    ),
    "numbers that are extents": (lambda _, x: x * x.shape[0] + (x.shape[0] + 1), (X,)),
    "integers and masks": (lambda _, x: (x.argmax(1), x > 0, x.sort(1)[1], (x * 3).long()), (X,)),
    "many parts": (lambda _, x: torch.cat([x * i for i in range(20)], 1), (X,)),
    "a chunked gate": (lambda _, x: x.chunk(2, 1)[0] * x.chunk(2, 1)[1].sigmoid(), (X,)),
}


@pytest.mark.parametrize("name", list(FUNCTIONS))
def test_functions_give_what_torch_gives(name: str, tmp_path: Path) -> None:
    function, inputs = FUNCTIONS[name]
    net = named(function, *inputs)
    with torch.no_grad():
        expected = list(net.native_outputs(net.example_inputs()).values())
    for found, tensor in zip(native(net, tmp_path / "package"), expected, strict=True):
        # The engine gives integers as int32, and masks as 1 and 0.
        wanted = tensor if tensor.is_floating_point() else tensor.to(found.dtype)
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4, equal_nan=True)


class ChosenWeights(nn.Module):
    """A layer whose weights lie in every second row of a table, which is prepared once."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(noise(6, 2, 4))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.exp(self.table.view(3, 2, 2, 4)[:, 1].reshape(24)) + self.table[:, 0].reshape(24)


LAYERS: dict[str, tuple[nn.Module, Tensor]] = {
    "conv1d": (nn.Conv1d(6, 8, 3, 2, 1), noise(2, 6, 11)),
    "conv1d same": (nn.Conv1d(6, 8, 5, padding="same"), noise(2, 6, 11)),
    "conv2d dilated": (nn.Conv2d(6, 7, 3, dilation=2, padding=2), noise(2, 6, 9, 10)),
    "conv2d grouped": (nn.Conv2d(6, 12, 3, groups=3), noise(2, 6, 9, 10)),
    "conv2d depthwise": (nn.Conv2d(16, 16, 7, padding=3, groups=16), noise(2, 16, 9, 10)),
    "conv3d": (nn.Conv3d(3, 4, (3, 1, 2), (1, 2, 1)), noise(2, 3, 5, 6, 7)),
    "transposed 1d": (nn.ConvTranspose1d(6, 4, 4, 2, 1), noise(2, 6, 9)),
    "transposed 2d": (nn.ConvTranspose2d(6, 4, 3, 2, 1, 1), noise(2, 6, 5, 4)),
    "transposed 3d": (nn.ConvTranspose3d(4, 6, 2, 2, groups=2), noise(2, 4, 3, 4, 5)),
    "conv2d, then channels last": (
        nn.Sequential(nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.Unflatten(1, (2, 3)), nn.Flatten(1, 2), nn.SiLU()),
        X,
    ),
    "transposed 2d dilated, one in": (nn.ConvTranspose2d(1, 3, 3, 2, dilation=2), noise(2, 1, 5, 4)),
    "batch norm alone": (nn.BatchNorm2d(6), X),
    "batch norm behind a dense layer": (nn.Sequential(nn.Linear(8, 5), nn.BatchNorm1d(5)), noise(3, 8)),
    "gru both ways": (nn.GRU(8, 5, 2, bidirectional=True, batch_first=True), noise(2, 7, 8)),
    "gru, steps first": (nn.GRU(8, 5, bias=False), noise(7, 2, 8).transpose(0, 1).contiguous()),
    "chosen rows of a table": (ChosenWeights(), noise(3, 24)),
    "embedding": (nn.Embedding(9, 4), IDS),
    "attention of torch": (nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, norm_first=True), noise(2, 5, 16)),
}


@pytest.mark.parametrize("name", list(LAYERS))
def test_layers_give_what_torch_gives(name: str, tmp_path: Path) -> None:
    layer, x = LAYERS[name]
    torch.manual_seed(0)
    for module in layer.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
    net = named(lambda self, x: self.layer(x)[0] if "gru" in name else self.layer(x), x, layer=layer)
    with torch.no_grad():
        [expected] = net.native_outputs(net.example_inputs()).values()
    [found] = native(net, tmp_path / "package")
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_norm_over_the_steps_is_no_part_of_the_layer_before_it(tmp_path: Path) -> None:
    """Of as many steps as the layer has features."""
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(5)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2.0)
    net = named(lambda self, x: self.norm(self.dense(x)), noise(2, 5, 8), dense=nn.Linear(8, 5), norm=norm)
    with torch.no_grad():
        [expected] = net.native_outputs(net.example_inputs()).values()
    torch.testing.assert_close(native(net, tmp_path / "package")[0], expected, rtol=1e-4, atol=1e-4)


def test_without_a_native_program_a_package_is_for_python_and_says_why(tmp_path: Path) -> None:
    net = named(lambda _, x: torch.linalg.inv(x), noise(2, 3, 3))
    with pytest.warns(UserWarning, match=r"runs in Python only: .*linalg_inv"):
        manifest = save_package(net, tmp_path / "package")
    assert manifest.engine["name"] == "torch"


@pytest.mark.parametrize(
    "rewrite", [passes.drop_copies, passes.fold_batch_norm, passes.fuse_activations, passes.fuse_residuals,
                passes.select_first, passes.narrow_features, passes.merge_duplicates, passes.advance_activations]
)  # fmt: skip
def test_passes_change_the_graph_and_not_what_it_computes(rewrite: Callable[[Any], None]) -> None:
    torch.manual_seed(0)
    layers = {
        "conv": nn.Conv2d(6, 6, 3, padding=1),
        "norm": nn.BatchNorm2d(6),
        "dense": nn.Linear(4, 9),
        "second": nn.Conv2d(6, 6, 1),
    }
    layers["norm"].running_var.uniform_(0.5, 2.0)

    def forward(self: Any, x: Tensor) -> Any:
        h = x + self.second(F.relu(self.norm(self.conv(x)))).clone()
        rows = F.silu(self.second(h).permute(0, 2, 3, 1).flatten(1, 2))
        return self.dense(h)[..., :7][:, :, -1], F.leaky_relu(self.second(h) + h), F.silu(self.second(h)), rows

    net = named(forward, X, **layers)
    module = export_model(net).program.run_decompositions({}).module()
    expected = module(X)
    before = [str(node.target) for node in module.graph.nodes]
    rewrite(module.graph)
    module.graph.lint()
    module.recompile()
    after = [str(node.target) for node in module.graph.nodes]
    if rewrite not in (passes.select_first,):  # there is nothing to it before the features are cut
        assert before != after
    for found, tensor in zip(module(X), expected, strict=True):
        torch.testing.assert_close(found, tensor, rtol=1e-5, atol=1e-5)


def test_what_is_computed_twice_is_computed_once() -> None:
    def forward(self: Any, x: Tensor) -> Any:
        return x.flip(1) * 2 + x.exp(), x.flip(1) * 2 - x.exp(), x.flip(1) * 2.5

    nodes = program_of_graph(named(forward, noise(2, 5, 4))).to_json()["nodes"]
    called = [node["op"] for node in nodes if "op" in node]
    assert sorted(called) == ["add", "exp", "flip", "multiply", "multiply", "subtract"]


def test_the_last_row_of_a_dense_layer_is_computed_alone() -> None:
    net = named(
        lambda self, x: (self.dense(x)[..., :7], self.dense(x)[..., :7][:, -1]), noise(2, 5, 4), dense=nn.Linear(4, 9)
    )
    nodes = program_of_graph(net).to_json()["nodes"]
    products = [node for node in nodes if node.get("op", "").startswith("linear")]
    assert len(products) >= 2


def test_entries_have_one_owner_and_plugins_add_theirs() -> None:
    with pytest.raises(InvalidArgumentError, match=r"aten\.relu\.default has an entry already"):
        table.lowers("aten.relu.default")(lambda g, x: x)
    library = torch.library.Library("acme_exported", "DEF")
    library.define("twice(Tensor x) -> Tensor")
    library.impl("twice", lambda x: 2 * x, "CompositeExplicitAutograd")
    library.impl("twice", torch.empty_like, "Meta")
    net = named(lambda _, x: torch.ops.acme_exported.twice(x), X)
    with pytest.raises(LoweringError, match=r"no acme_exported\.twice\.default"):
        program_of_graph(net)
    table.lowers("acme_exported.twice.default")(lambda g, x: g.operand(g.op("scale", x=x, factor=2.0), x.shape))
    assert [node["op"] for node in program_of_graph(net).to_json()["nodes"] if "op" in node] == ["scale"]
