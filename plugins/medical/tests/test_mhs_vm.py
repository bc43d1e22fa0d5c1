"""MHS-VM: its routes and its mixer by their definitions, the weighing of routes, costs, files, mixed precision."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from medical_training import train_in_mixed_precision
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

import mambasdk
import mambasdk.ops.flops
from mambasdk.errors import CheckpointError, InvalidArgumentError, ShapeError
from mambasdk.plugins import get_host
from mambasdk.testing.golden import scatter
from mambasdk_medical.families.mhs_vm import MultiHeadScan, VSSGate, base_routes, route_attention
from mambasdk_medical.families.mhs_vm.routes import visits

SIZES = [(1, 1), (1, 6), (6, 1), (2, 2), (2, 7), (3, 4), (4, 3), (5, 5), (7, 5)]


def tiny(**overrides: Any) -> Any:
    torch.manual_seed(0)
    model: Any = mambasdk.create_model("mhs_vm", **{**get_host().family("mhs_vm").tiny, **overrides})
    return scatter(model, 2).eval()


# ---- routes ----


def walked(height: int, width: int) -> list[list[int]]:
    """The eight base routes, step by step."""
    snake = [(i, j if i % 2 == 0 else width - 1 - j) for i in range(height) for j in range(width)]
    upright = [(i if j % 2 == 0 else height - 1 - i, j) for j in range(width) for i in range(height)]
    diagonal = []
    for which in range(height + width - 1):
        pixels = [(i, which - i) for i in range(height) if 0 <= which - i < width]
        diagonal += pixels[::-1] if which % 2 == 0 else pixels
    left = {(i, j) for i in range(height) for j in range(width)}
    spiral = [(0, 0)]
    left.remove((0, 0))
    turn, moves = 0, [(0, 1), (1, 0), (0, -1), (-1, 0)]
    while left:
        (i, j), (down, right) = spiral[-1], moves[turn % 4]
        if (i + down, j + right) in left:
            spiral.append((i + down, j + right))
            left.remove(spiral[-1])
        else:
            turn += 1
    mirrored = [(i, width - 1 - j) for i, j in diagonal]
    risen = [(height - 1 - i, j) for i, j in spiral]
    rows = [(i, j) for i in range(height) for j in range(width)]
    columns = [(i, j) for j in range(width) for i in range(height)]
    return [[i * width + j for i, j in r] for r in (snake, upright, diagonal, mirrored, spiral, risen, rows, columns)]


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_routes_are_those_walked_step_by_step(height: int, width: int) -> None:
    """A single row, column and pixel too, where upstream has no spiral."""
    assert base_routes(height, width).tolist() == walked(height, width)


def test_routes_are_made_once_for_each_size() -> None:
    cpu = torch.device("cpu")
    assert visits(4, 5, device=cpu) is visits(4, 5, device=cpu)
    assert visits(4, 5, device=cpu) is not visits(5, 4, device=cpu)


# ---- the mixer ----


def by_definition(mixer: MultiHeadScan, u: Tensor) -> list[Tensor]:
    """What each of the four routes gives, (n, S, L), for one map u (H, W, C): one pixel after the other."""
    height, width, _ = u.shape
    w, S = mixer.state_dict(), mixer.channels
    v = (u @ w["x_ssproj.weight"].T).flatten(0, 1)  # (L, n * S)
    tables = walked(height, width)
    outputs = [torch.zeros(mixer.heads, S, height * width, dtype=u.dtype) for _ in range(4)]
    for head, kind in enumerate("CXSZ"[: mixer.heads]):
        own = {name: w[f"scanhead_{kind}.mambaeng.{name}"] for name in _PARAMETERS}
        first, second = tables[2 * head : 2 * head + 2]
        for k, route in enumerate((first, first[::-1], second, second[::-1])):
            A, D = -own["A_logs"][k * S : (k + 1) * S].exp(), own["Ds"][k * S : (k + 1) * S]
            h = torch.zeros_like(A)
            for pixel in route:
                x = v[pixel, head * S : (head + 1) * S]
                low, B, C = (own["x_proj_weight"][k] @ x).split([own["dt_projs_weight"].shape[2], *[A.shape[1]] * 2])
                delta = functional.softplus(own["dt_projs_weight"][k] @ low + own["dt_projs_bias"][k])
                h = torch.exp(delta[:, None] * A) * h + delta[:, None] * B * x[:, None]
                outputs[k][head, :, pixel] = h @ C + D * x
    return outputs


_PARAMETERS = ("x_proj_weight", "dt_projs_weight", "dt_projs_bias", "A_logs", "Ds")


@pytest.mark.parametrize(("channels", "heads"), [(8, 4), (11, 4), (34, 3), (7, 3)])
@torch.no_grad()
def test_routes_of_all_heads_equal_the_definition(channels: int, heads: int) -> None:
    """Channels that the heads do not divide are projected to fewer; a rank of dt above 1 is among them."""
    torch.manual_seed(1)
    mixer: Any = scatter(MultiHeadScan(channels, 3, heads), 1).double()
    u = torch.randn(2, 3, 5, channels, dtype=torch.float64)
    found = mixer.route_outputs(u)
    for row in range(2):
        expected = by_definition(mixer, u[row])
        for head, outputs in enumerate(found):
            for ours, theirs in zip(outputs, expected, strict=True):
                torch.testing.assert_close(ours[row].T, theirs[head], atol=1e-12, rtol=1e-10)
    assert mixer(u).shape == u.shape


def test_gradients_of_the_mixer_are_those_of_differences() -> None:
    torch.manual_seed(2)
    mixer: Any = scatter(MultiHeadScan(8, 2, threshold=0.3), 1).double()
    u = torch.randn(1, 2, 3, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(mixer, (u,))


def test_a_map_of_other_channels_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"VSSGate.*\(B, H, W, 8\).*\(1, 2, 2, 9\)"):
        VSSGate(8)(torch.zeros(1, 2, 2, 9))


# ---- the weighing of routes ----


def weighed(outputs: Tensor, threshold: float) -> Tensor:
    """As it is published, of outputs (4, …)."""
    distance = (outputs - outputs.min(dim=0).values).mean(dim=0)
    variation = outputs.std(dim=0) / (distance + 1e-5)
    return outputs.sum(dim=0) * (variation - threshold).clamp(min=0)


@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.2])
def test_routes_are_weighed_as_published(threshold: float) -> None:
    """Values and gradients, where all four are apart; at 1.2 some have weight and some have none."""
    torch.manual_seed(4)
    outputs = torch.randn(4, 6, 50, dtype=torch.float64, requires_grad=True)
    (expected := weighed(outputs, threshold)).backward(cotangent := torch.randn_like(expected))
    theirs, outputs.grad = outputs.grad, None
    found = route_attention(tuple(outputs), threshold)  # type: ignore[arg-type]
    found.backward(cotangent)
    assert threshold < 1 or 0 < int((expected == 0).sum()) < expected.numel()
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-10)
    torch.testing.assert_close(outputs.grad, theirs, atol=1e-10, rtol=1e-8)
    low = route_attention(tuple(outputs.detach().bfloat16()), threshold)  # type: ignore[arg-type]
    assert low.dtype == torch.float32


def gradient_of(values: list[float], threshold: float = 0.0) -> list[float]:
    outputs = torch.tensor(values, dtype=torch.float64)[:, None].requires_grad_()
    route_attention(tuple(outputs), threshold).sum().backward()  # type: ignore[arg-type]
    assert outputs.grad is not None
    found: list[float] = outputs.grad[:, 0].tolist()
    return found


@pytest.mark.parametrize("value", [0.0, 1.5, -3e4])
def test_equal_routes_have_no_weight_and_no_gradient(value: float) -> None:
    """Where upstream has NaN."""
    assert gradient_of([value] * 4) == [0.0] * 4
    assert gradient_of([value] * 4, 0.5) == [0.0] * 4
    assert float(route_attention(tuple(torch.full((4, 1), value)), 0.0)) == 0.0  # type: ignore[arg-type]


def test_of_equal_smallest_outputs_the_first_counts() -> None:
    """As `min` along a dim has it: with the second one a little larger the gradients are the same."""
    equal, apart = gradient_of([2.0, 1.0, 1.0, 3.0]), gradient_of([2.0, 1.0, 1.0 + 1e-9, 3.0])
    assert equal == pytest.approx(apart, abs=1e-6)
    assert equal[1] != pytest.approx(equal[2], abs=1e-2)


def test_below_the_threshold_is_no_gradient() -> None:
    assert gradient_of([1.0, 2.0, 2.0, 2.0], 2.0) == [0.0] * 4


def test_outputs_that_hardly_differ_stay_finite() -> None:
    for distance in (1e-20, 1e-30, 1e-39):
        outputs = torch.tensor([0.0, distance, 0.0, distance])[:, None].requires_grad_()
        route_attention(tuple(outputs), 0.0).sum().backward()  # type: ignore[arg-type]
        assert outputs.grad is not None
        assert bool(outputs.grad.isfinite().all())


# ---- costs ----

_SCAN = torch.ops.mambasdk.selective_scan


class Scans(TorchDispatchMode):
    """Adds up batch * steps * channels * states of the scans that are run."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func._overloadpacket == _SCAN:
            given = {argument.name: value for argument, value in zip(func._schema.arguments, args, strict=False)}
            self.elements += given["u"].numel() * given["A"].shape[-1]
        return out


@pytest.mark.parametrize(("variant", "products"), [("mhs-vm-3-heads", 3.334), ("mhs-vm-4-heads", 3.315)])
@torch.no_grad()
def test_multiply_adds_are_the_published_ones(variant: str, products: float) -> None:
    """10^9 of them at 256 x 256: of products, and 9 for an element of a scan's state (arXiv 2401.10166)."""
    model: Any = mambasdk.create_model(variant, device="meta").eval()
    image = torch.empty(1, 3, 256, 256, device="meta")
    with FlopCounterMode(display=False) as counter:
        model(image)
    with Scans() as scans:
        model(image)
    counts = dict(counter.get_flop_counts()["Global"])
    assert counts.pop(_SCAN) > 0
    assert sum(counts.values()) / 2e9 == pytest.approx(products, rel=0.01)
    assert 9 * scans.elements / 1e9 == pytest.approx(1.472, rel=0.01)


# ---- files ----


@pytest.mark.parametrize("heads", [3, 4])
@torch.no_grad()
def test_upstreams_files_load_without_their_copies(heads: int) -> None:
    model = tiny(head_num=heads, gfu_t=0.2, in_channels=3)
    weights: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        weights[f"vmunet.{name}"] = tensor
        weights[f"vmunet.{name.replace('.mambaeng.', '.scanning.seq2seq_engine.')}"] = tensor
        weights[f"vmunet.{name.replace('.x_ssproj.weight', '.x_ssproj_W')}"] = tensor
    assert len(weights) > len(model.state_dict())
    options = {"para_dict": {"gfu_t": 0.2, "head_num": heads, "with_proj": True}, "dims_decoder": [12, 8]}
    again: Any = mambasdk.import_checkpoint("mhs_vm", options, weights).eval()
    image = model.example_inputs()["image"]
    assert torch.equal(again(image), model(image))
    plain: Any = mambasdk.import_checkpoint("mhs_vm", {}, weights)
    assert (plain.config.gfu_t, plain.config.head_num) == (0.5, heads)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"para_dict": {"head_num": 3}}, "head_num = 3.*'head_num': 4"),
        ({"para_dict": {"with_proj": False}}, "with_proj = False"),
        ({"para_dict": {"gfu": 0.5}}, "gfu = 0.5"),
        ({"dims_decoder": [16, 8]}, "the encoder's reversed"),
        ({"d_state": 16}, "d_state = 16 in the configuration, 4 in the weights"),
    ],
)
def test_a_configuration_of_another_model_is_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        mambasdk.import_checkpoint("mhs_vm", config, tiny().state_dict())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"head_num": 2}, "bad head_num: expected 3 or 4, got 2"),
        ({"gfu_t": -0.1}, "bad gfu_t"),
        ({"with_proj": False, "head_num": 3}, "widths that 3 divides"),
        ({"dims": [4, 3]}, "a channel for each head"),
    ],
)
def test_what_cannot_be_built_is_refused(overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        tiny(**overrides)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("heads", [3, 4])
def test_two_hundred_steps_of_mixed_precision_are_finite(heads: int, dtype: torch.dtype) -> None:
    train_in_mixed_precision(tiny(head_num=heads, drop_path_rate=0.1), dtype)
