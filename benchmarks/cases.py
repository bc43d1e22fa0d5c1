"""What is measured: one case is an operation on one shape, ours and a peer's on the same tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import tensor_cases
import torch
from peers import convolution, maps, norm, state_updates
from peers.cross_scan import cross_scan
from peers.diagonal_scan import diagonal_scan
from peers.mamba_block import mixers
from peers.selective_scan import selective_scan
from peers.ssd_torch import inputs, ssd_torch
from torch import Tensor

from mambasdk import ops


@dataclass
class Case:
    """`ours` and `peer` take the tensors by name; the first output is compared, and differentiated where `backward`."""

    operation: str
    shape: str
    tensors: dict[str, Tensor]
    ours: Callable[..., Any]
    peer: Callable[..., Any]
    peer_name: str
    backward: bool = True
    compiled: bool = False  # measure the peer under torch.compile too
    length: int = 0  # of dimension 1 of the tensors named in `sequences`
    sequences: tuple[str, ...] = ()
    longest_peer: int = 4096  # a per-step loop on longer sequences takes minutes, so it is not measured there
    longest_check: int = 4096  # beyond it only the results of a prefix are compared
    goals: Mapping[str, float] = field(default_factory=dict)  # pass -> least ratio to the peer

    @property
    def dtype(self) -> str:
        """Of the first tensor."""
        return str(next(iter(self.tensors.values())).dtype).removeprefix("torch.")

    @property
    def measures_peer(self) -> bool:
        """Whether the peer runs on the whole case."""
        return self.length <= self.longest_peer or not self.sequences

    def prefix(self, steps: int) -> dict[str, Tensor]:
        """The tensors with their first steps only."""
        return {name: t[:, :steps] if name in self.sequences else t for name, t in self.tensors.items()}


# Many tiny sequences as in tracking models (4096 x 10 x 64); the routes of vision models have a case of their own.
_SCANS = [
    (1, 64, 1536),
    (1, 512, 1536),
    (1, 2048, 1536),
    (1, 8192, 1536),
    (1, 65536, 1536),
    (8, 512, 1536),
    (4096, 10, 64),
]
_PASSES = ("forward", "forward+backward")
# Channels, height and width, features, kernel, stride, groups, depth (1: a plane).
_CONVOLUTIONS = [
    (3, 224, 64, 7, 2, 1, 1),  # ResNet-50
    (64, 56, 64, 3, 1, 1, 1),
    (256, 56, 64, 1, 1, 1, 1),
    (128, 56, 128, 3, 2, 1, 1),
    (128, 28, 128, 3, 1, 1, 1),
    (256, 14, 256, 3, 1, 1, 1),
    (512, 7, 512, 3, 1, 1, 1),
    (32, 256, 32, 3, 1, 1, 1),  # U-Net
    (64, 128, 64, 3, 1, 1, 1),
    (128, 64, 128, 3, 1, 1, 1),
    (512, 16, 512, 3, 1, 1, 1),
    (16, 64, 16, 3, 1, 1, 64),
    (64, 16, 64, 3, 1, 1, 16),
    (3, 640, 16, 3, 2, 1, 1),  # YOLOv8n
    (32, 80, 32, 3, 1, 1, 1),
    (64, 80, 80, 3, 1, 1, 1),
    (128, 20, 128, 3, 1, 1, 1),
    (96, 56, 96, 3, 1, 96, 1),  # depthwise, grouped
    (128, 56, 128, 3, 1, 32, 1),
]
_GOALS = {(1, 2048, 1536): {"forward": 20.0, "forward+backward": 15.0}}


def all_cases(only: str = "") -> Iterator[Case]:
    """The cases of operations whose name contains `only`; one at a time, each freed before the next."""
    for operation, make in _makers():
        if only in operation:
            yield make()


def _makers() -> Iterator[tuple[str, Callable[[], Case]]]:
    for shape in _SCANS:
        yield "selective_scan", partial(_selective_scan, *shape, torch.float32, _GOALS.get(shape, {}))
    yield "selective_scan", partial(_selective_scan, 1, 2048, 1536, torch.bfloat16, {})
    yield "selective_scan", partial(_selective_scan, 1, 2048, 1536, torch.float32, {}, gated=True)
    yield "selective_scan", partial(_routed_scan, 1, 3136, 192, 4)
    for batch in (1, 8):
        yield "selective_state_update", partial(_selective_state_update, batch, 1536)
    for batch, length in ((1, 64), (1, 512), (1, 2048), (1, 8192), (1, 65536), (8, 512)):
        yield "ssd", partial(_ssd, batch, length, torch.float32)
    yield "ssd", partial(_ssd, 1, 2048, torch.bfloat16)
    for batch in (1, 8):
        yield "ssd_state_update", partial(_ssd_state_update, batch)
    for dtype in (torch.float32, torch.complex64):
        yield "diagonal_scan", partial(_diagonal_scan, 1, 2048, 1536, dtype)
    yield "diagonal_scan", partial(_diagonal_scan, 1, 65536, 1536, torch.float32)
    for dtype in (torch.float32, torch.bfloat16):
        for batch in (1, 8):
            yield "causal_conv1d", partial(_causal_conv1d, batch, 2048, 1536, dtype)
            yield "causal_conv1d_update", partial(_causal_conv1d_update, batch, 1536, dtype)
        for rows in (2048, 16384):
            yield "rms_norm", partial(_rms_norm, rows, 768, dtype)
        yield "layer_norm", partial(_layer_norm, 2048, 768, dtype)
    yield "max_pool", partial(_pool, "max_pool", 1, 112, 64, 3, 2)
    yield "max_pool", partial(_pool, "max_pool", 1, 20, 256, 5, 1)
    yield "average_pool", partial(_pool, "average_pool", 1, 112, 64, 2, 2)
    for side, channels in ((7, 2048), (112, 64)):
        yield "adaptive_average_pool", partial(_global_average, 1, side, channels)
    for mode in _RESIZE:
        for side, channels in ((64, 64), (64, 19), (256, 1)):
            yield "resize", partial(_resize, 1, side, channels, mode)
    for side, channels in ((128, 64), (512, 3)):
        yield "grid_sample", partial(_grid_sample, 1, side, channels)
    for side, channels, groups in ((256, 64, 8), (64, 256, 32), (512, 32, 32), (512, 3, 3)):
        yield "group_norm", partial(_group_norm, 1, side, channels, groups)
    for side, channels in ((56, 96), (64, 192), (14, 768)):
        yield "layer_norm of a view", partial(_permuted_layer_norm, 1, side, channels)
    for operation, make in tensor_cases.makers():
        yield operation, lambda make=make: Case(**make())  # type: ignore[misc]
    yield "mamba_block", partial(_mamba_block, 1, 1024, 768)
    for sizes in _CONVOLUTIONS:
        yield "convolution", partial(_convolution, *sizes)
    for rows, channels, features in ((1, 768, 3072), (197, 384, 1536), (512, 768, 3072)):
        yield "linear_packed", partial(_linear_packed, rows, channels, features)
    for rows, groups, channels, features in ((2, 2, 768, 3072), (1024, 2, 768, 3072), (1024, 8, 768, 1536)):
        yield "grouped_linear", partial(_grouped_linear, rows, groups, channels, features)
    from activations import makers  # which makes cases itself

    yield from makers()


def _random(*shape: int, dtype: torch.dtype = torch.float32, scale: float = 1.0) -> Tensor:
    return (torch.randn(*shape) * scale).to(dtype)


def _steps(batch: int, length: int, channels: int, dtype: torch.dtype) -> Tensor:
    """Positive time steps up to 0.1, the range in which Mamba's delta starts."""
    return (torch.rand(batch, length, channels) * 0.1).to(dtype)


def _selective_scan(
    batch: int, length: int, channels: int, dtype: torch.dtype, goals: Mapping[str, float], *, gated: bool = False
) -> Case:
    """The scan alone, delta given; `gated`: with softplus and bias of delta and the gate z, as inside a Mamba block."""
    states = 16
    tensors = {
        "u": _random(batch, length, channels, dtype=dtype),
        "delta": _random(batch, length, channels, dtype=dtype, scale=0.5)
        if gated
        else _steps(batch, length, channels, dtype),
        "A": -torch.arange(1, states + 1, dtype=torch.float32).repeat(channels, 1),
        "B": _random(batch, length, states, dtype=dtype),
        "C": _random(batch, length, states, dtype=dtype),
        "D": torch.ones(channels),
    }
    if gated:
        tensors |= {
            "z": _random(batch, length, channels, dtype=dtype),
            "delta_bias": torch.full((channels,), -3.0),
        }
    return Case(
        operation="selective_scan",
        shape=f"B{batch} L{length} D{channels} N{states}" + (" gated" if gated else ""),
        tensors=tensors,
        ours=lambda **t: ops.selective_scan(**t, delta_softplus=gated),
        peer=selective_scan,
        peer_name="per-step loop",
        length=length,
        sequences=("u", "delta", "B", "C", "z"),
        goals=goals,
    )


def _selective_state_update(batch: int, channels: int) -> Case:
    states = 16
    tensors = {
        "x": _random(batch, channels),
        "state": _random(batch, channels, states),
        "dt": _random(batch, channels),
        "A": -torch.arange(1, states + 1, dtype=torch.float32).repeat(channels, 1),
        "B": _random(batch, states),
        "C": _random(batch, states),
        "D": torch.ones(channels),
        "z": _random(batch, channels),
        "dt_bias": torch.full((channels,), -3.0),
    }
    return Case(
        operation="selective_state_update",
        shape=f"B{batch} D{channels} N{states}",
        tensors=tensors,
        ours=lambda **t: ops.selective_state_update(**t, dt_softplus=True),
        peer=state_updates.selective_state_update,
        peer_name="torch expressions",
        backward=False,
    )


def _routed_scan(batch: int, length: int, channels: int, routes: int) -> Case:
    """Rows and columns of an image, forwards and backwards, as VMamba takes them."""
    states, side = 16, round(length**0.5)
    rows = torch.arange(length, dtype=torch.int32)
    columns = rows.view(side, side).T.flatten()
    tensors = {
        "u": _random(batch, length, channels),
        "delta": torch.rand(batch, routes, length, channels) * 0.1,
        "A": -torch.arange(1, states + 1, dtype=torch.float32).repeat(routes, channels, 1),
        "B": _random(batch, routes, length, states),
        "C": _random(batch, routes, length, states),
        "D": torch.ones(routes, channels),
    }
    order = torch.stack([rows, columns, rows.flip(0), columns.flip(0)][:routes])
    return Case(
        operation="selective_scan",
        shape=f"B{batch} L{length} D{channels} N{states} K{routes}",
        tensors=tensors,
        ours=partial(ops.selective_scan, order=order),
        peer=partial(cross_scan, order=order),
        peer_name="copies per route, our scan",
    )


def _ssd(batch: int, length: int, dtype: torch.dtype) -> Case:
    heads, headdim, states = 24, 64, 128
    names = ("x", "dt", "A", "B", "C", "D", "dt_bias")
    is_goal = (batch, length) == (1, 2048)
    goals = {"forward": 2.0, "forward+backward": 3.0} if dtype == torch.float32 else dict.fromkeys(_PASSES, 4.0)
    return Case(
        operation="ssd",
        shape=f"B{batch} L{length} H{heads} P{headdim} N{states}",
        tensors=dict(zip(names, inputs(batch, length, heads, headdim, 1, states, dtype), strict=True)),
        ours=lambda **t: ops.ssd(**t, dt_softplus=True),
        peer=partial(ssd_torch, chunk=min(128, length)),
        peer_name="chunked",
        compiled=length in (512, 2048),
        length=length,
        sequences=("x", "dt", "B", "C"),
        longest_peer=16384,
        longest_check=16384,
        goals=goals if is_goal else {},
    )


def _ssd_state_update(batch: int) -> Case:
    heads, headdim, states = 24, 64, 128
    tensors = {
        "x": _random(batch, heads, headdim),
        "state": _random(batch, heads, headdim, states),
        "dt": _random(batch, heads),
        "A": -torch.linspace(1, 16, heads),
        "B": _random(batch, states),
        "C": _random(batch, states),
        "D": torch.ones(heads),
        "dt_bias": torch.full((heads,), -3.0),
    }
    return Case(
        operation="ssd_state_update",
        shape=f"B{batch} H{heads} P{headdim} N{states}",
        tensors=tensors,
        ours=lambda **t: ops.ssd_state_update(**t, dt_softplus=True),
        peer=state_updates.ssd_state_update,
        peer_name="torch expressions",
        backward=False,
    )


def _diagonal_scan(batch: int, length: int, channels: int, dtype: torch.dtype) -> Case:
    rate = torch.rand(channels)
    angle = torch.rand(channels) * 6.28
    return Case(
        operation="diagonal_scan",
        shape=f"B{batch} L{length} D{channels}",
        tensors={
            "b": torch.randn(batch, length, channels, dtype=dtype),
            "a": torch.polar(rate, angle) if dtype.is_complex else rate,
        },
        ours=ops.diagonal_scan,
        peer=diagonal_scan,
        peer_name="per-step loop",
        length=length,
        sequences=("b",),
    )


def _causal_conv1d(batch: int, length: int, channels: int, dtype: torch.dtype) -> Case:
    tensors = {
        "x": _random(batch, length, channels, dtype=dtype),
        "weight": _random(channels, 4, dtype=dtype, scale=0.5),
        "bias": _random(channels, dtype=dtype),
    }
    return Case(
        operation="causal_conv1d",
        shape=f"B{batch} L{length} D{channels} K4",
        tensors=tensors,
        ours=lambda **t: ops.causal_conv1d(**t, silu=True),
        peer=convolution.causal_conv1d,
        peer_name="torch conv1d",
    )


def _causal_conv1d_update(batch: int, channels: int, dtype: torch.dtype) -> Case:
    tensors = {
        "x": _random(batch, channels, dtype=dtype),
        "state": _random(batch, 3, channels, dtype=dtype),
        "weight": _random(channels, 4, dtype=dtype, scale=0.5),
        "bias": _random(channels, dtype=dtype),
    }
    return Case(
        operation="causal_conv1d_update",
        shape=f"B{batch} D{channels} K4",
        tensors=tensors,
        ours=lambda **t: ops.causal_conv1d_update(**t, silu=True),
        peer=state_updates.causal_conv1d_update,
        peer_name="torch expressions",
        backward=False,
    )


def _rms_norm(rows: int, channels: int, dtype: torch.dtype) -> Case:
    tensors = {
        "x": _random(rows, channels, dtype=dtype),
        "weight": torch.ones(channels, dtype=dtype),
        "residual": _random(rows, channels, dtype=dtype),
    }
    shape = f"{rows} rows of {channels}"
    return Case("rms_norm", shape, tensors, ops.rms_norm, norm.rms_norm, "torch add, rms_norm")


def _layer_norm(rows: int, channels: int, dtype: torch.dtype) -> Case:
    tensors = {
        "x": _random(rows, channels, dtype=dtype),
        "weight": torch.ones(channels, dtype=dtype),
        "bias": torch.zeros(channels, dtype=dtype),
        "residual": _random(rows, channels, dtype=dtype),
    }
    shape = f"{rows} rows of {channels}"
    return Case("layer_norm", shape, tensors, ops.layer_norm, norm.layer_norm, "torch add, layer_norm")


def _convolution(channels: int, side: int, features: int, kernel: int, stride: int, groups: int, depth: int) -> Case:
    """Channels last on both sides; ours with weights packed before, as a program has them, where there is one group."""
    dims = 2 if depth == 1 else 3
    memory = torch.channels_last if dims == 2 else torch.channels_last_3d
    weight = _random(features, channels // groups, *[kernel] * dims, scale=(channels // groups * kernel**dims) ** -0.5)
    tensors = {
        "x": _random(1, channels, *([depth] if dims == 3 else []), side, side).to(memory_format=memory),
        "weight": weight.to(memory_format=memory),
        "bias": _random(features),
    }
    places = {"stride": stride, "padding": kernel // 2, "groups": groups}
    return Case(
        operation="convolution",
        shape=f"{channels}>{features} {side}{f'^{dims}' if depth > 1 else ''} k{kernel} s{stride}"
        + (f" g{groups}" if groups > 1 else ""),
        tensors=tensors,
        ours=convolution.PackedConvolution(weight, stride, groups),
        peer=partial(convolution.torch_convolution, **places),
        peer_name="torch channels_last",
        backward=False,
    )


def _linear_packed(rows: int, channels: int, features: int) -> Case:
    weight = _random(features, channels, scale=channels**-0.5)
    matrix = ops.call("pack_weights", weight=weight)
    return Case(
        operation="linear_packed",
        shape=f"{rows} rows {channels}>{features}",
        tensors={"x": _random(rows, channels), "weight": weight, "bias": _random(features)},
        ours=lambda x, weight, bias: ops.call("linear_packed", x=x, weight=matrix, bias=bias, features=features),
        peer=torch.nn.functional.linear,
        peer_name="torch linear",
        backward=False,
    )


def _grouped_linear(rows: int, groups: int, channels: int, features: int) -> Case:
    def peer(x: Tensor, weight: Tensor, group: Tensor) -> Tensor:
        """Rows sorted by group, a product of each, and back."""
        order = group.argsort(stable=True)
        parts = x[order].split(torch.bincount(group, minlength=groups).tolist())
        made = torch.cat([torch.nn.functional.linear(part, weight[g]) for g, part in enumerate(parts)])
        return torch.empty_like(made).index_copy(0, order, made)

    return Case(
        operation="grouped_linear",
        shape=f"{rows} rows of {groups} groups {channels}>{features}",
        tensors={
            "x": _random(rows, channels),
            "weight": _random(groups, features, channels, scale=channels**-0.5),
            "group": torch.randint(0, groups, (rows,), dtype=torch.int32),
        },
        ours=partial(ops.call, "grouped_linear"),
        peer=peer,
        peer_name="torch linear by group",
        backward=False,
    )


def _map(batch: int, side: int, channels: int) -> Tensor:
    return _random(batch, 1, side, side, channels)


def _map_case(
    operation: str, shape: str, tensors: dict[str, Tensor], peer: Callable[..., Any], peer_name: str, **scalars: Any
) -> Case:
    ours = partial(ops.call, operation, **scalars)
    return Case(operation, shape, tensors, ours, peer, f"torch {peer_name}", backward=False)


def _pool(operation: str, batch: int, side: int, channels: int, kernel: int, stride: int) -> Case:
    padding = (kernel - 1) // 2
    sides = {"kernel": kernel, "stride": stride, "padding": padding, "padding_after": padding}
    arguments = {f"{name}_{axis}": value for name, value in sides.items() for axis in "hw"}
    return _map_case(
        operation,
        f"B{batch} {side}x{side} C{channels} {kernel}/{stride}",
        {"x": _map(batch, side, channels)},
        partial(getattr(maps, operation), kernel=kernel, stride=stride),
        "channels_last",
        kernel_d=1,
        stride_d=1,
        **arguments,
    )


def _global_average(batch: int, side: int, channels: int) -> Case:
    return _map_case(
        "adaptive_average_pool",
        f"B{batch} {side}x{side} C{channels} to 1",
        {"x": _map(batch, side, channels)},
        maps.adaptive_average_pool,
        "channels_last",
        depth=1,
        height=1,
        width=1,
    )


_RESIZE = {"nearest": 0, "bilinear": 2, "bicubic": 3}


def _resize(batch: int, side: int, channels: int, mode: str) -> Case:
    return _map_case(
        "resize",
        f"B{batch} {side}x{side} C{channels} {mode} x2",
        {"x": _map(batch, side, channels)},
        partial(maps.resize, mode=mode),
        "channels_last",
        depth=1,
        height=2 * side,
        width=2 * side,
        mode=_RESIZE[mode],
    )


def _grid_sample(batch: int, side: int, channels: int) -> Case:
    """Positions a pixel or so away from their own."""
    center = (torch.arange(side) + 0.5) * 2 / side - 1
    grid = torch.stack([center.expand(side, side), center[:, None].expand(side, side)], -1)
    return _map_case(
        "grid_sample",
        f"B{batch} {side}x{side} C{channels}",
        {"x": _map(batch, side, channels), "grid": grid + _random(batch, 1, side, side, 2, scale=2 / side)},
        maps.grid_sample,
        "channels_last",
    )


def _norm_tensors(x: Tensor) -> dict[str, Tensor]:
    return {"x": x, "weight": _random(x.shape[-1]), "bias": _random(x.shape[-1])}


def _group_norm(batch: int, side: int, channels: int, groups: int) -> Case:
    return _map_case(
        "group_norm",
        f"B{batch} {side}x{side} C{channels} G{groups}",
        _norm_tensors(_random(batch, side * side, channels)),
        partial(maps.group_norm, groups=groups, side=side),
        "channels_last",
        groups=groups,
    )


def _permuted_layer_norm(batch: int, side: int, channels: int) -> Case:
    """Over the channels of channel-first memory."""
    return _map_case(
        "layer_norm",
        f"B{batch} {side}x{side} C{channels} view",
        _norm_tensors(_random(batch, channels, side * side).transpose(1, 2)),
        maps.layer_norm,
        "layer_norm",
    )


def _mamba_block(batch: int, length: int, d_model: int) -> Case:
    """The whole mixer with its projections; backward gives the gradients of its parameters too."""
    parameters, ours, peer = mixers(d_model)
    return Case(
        operation="mamba_block",
        shape=f"B{batch} L{length} D{d_model}",
        tensors={"x": _random(batch, length, d_model), **parameters},
        ours=ours,
        peer=peer,
        peer_name="transformers",
        length=length,
        sequences=("x",),
        longest_check=256,
        goals={"forward+backward": 20.0},
    )
