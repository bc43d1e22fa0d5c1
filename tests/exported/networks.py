"""Plain PyTorch networks that are no family of ours, with the shapes of well-known ones, written from their papers.

Each answers the contract of a model by `Named`: inputs by name with free extents, outputs by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mambasdk.nn import Model


class Named(nn.Module, Model):
    """A network with named inputs and outputs.

    inputs: name -> an example. shapes: name -> extents, a string where one is free. Outputs are `y`, or `y0`, `y1`, …
    """

    def __init__(self, net: nn.Module, inputs: Mapping[str, Tensor], shapes: Mapping[str, Sequence[int | str]]) -> None:
        super().__init__()
        self.net = net
        self._inputs = dict(inputs)
        self._shapes = {name: list(shape) for name, shape in shapes.items()}

    def example_inputs(self) -> dict[str, Tensor]:
        return {name: tensor.clone() for name, tensor in self._inputs.items()}

    def input_shapes(self) -> dict[str, list[int | str]]:
        return {name: list(shape) for name, shape in self._shapes.items()}

    def native_outputs(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        found = self.net(*inputs.values())
        outputs = found if isinstance(found, tuple) else (found,)
        names = ["y"] if len(outputs) == 1 else [f"y{i}" for i in range(len(outputs))]
        return dict(zip(names, outputs, strict=True))


class Called(nn.Module):
    """A function as a network."""

    def __init__(self, function: Callable[..., Any], **modules: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(self, *inputs)


def named(function: Callable[..., Any], *inputs: Tensor, **modules: nn.Module) -> Named:
    names = [f"x{i}" for i in range(len(inputs))]
    shapes = {name: ["B", *x.shape[1:]] if x.ndim else [] for name, x in zip(names, inputs, strict=True)}
    return Named(Called(function, **modules), dict(zip(names, inputs, strict=True)), shapes).eval()


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def image(side: int, channels: int = 3, batch: int = 2) -> Tensor:
    """Noise of one seed."""
    return torch.randn(batch, channels, side, side, generator=torch.Generator().manual_seed(7))


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 with a shortcut (arXiv 1512.03385)."""

    def __init__(self, inside: int, width: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inside, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, outside, 1, bias=False), nn.BatchNorm2d(outside)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inside != outside:
            self.shortcut = nn.Sequential(nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside))

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.bn1(self.conv1(x)))
        h = F.relu(self.bn2(self.conv2(h)))
        return F.relu(self.bn3(self.conv3(h)) + self.shortcut(x))


class ResNet(nn.Module):
    """ResNet of bottlenecks; `ResNet()` has the shape of ResNet-50."""

    def __init__(self, depths: Sequence[int] = (3, 4, 6, 3), width: int = 64, classes: int = 1000) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
        )
        blocks: list[nn.Module] = []
        inside = width
        for stage, depth in enumerate(depths):
            inner = width << stage
            for index in range(depth):
                blocks.append(Bottleneck(inside, inner, inner * 4, 2 if stage > 0 and index == 0 else 1))
                inside = inner * 4
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(inside, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.adaptive_avg_pool2d(self.blocks(self.stem(x)), 1).flatten(1))


class Attention(nn.Module):
    """Multi-head attention over x, or from x to a context."""

    def __init__(self, width: int, heads: int, context: int | None = None) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(context or width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        k, v = self.kv(x if context is None else context).chunk(2, -1)
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (self.q(x), k, v))
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class TransformerBlock(nn.Module):
    """Pre-norm attention and MLP."""

    def __init__(self, width: int, heads: int, context: int | None = None) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width, heads)
        self.norm2: nn.Module = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.cross = None if context is None else Attention(width, heads, context)
        self.norm3 = None if context is None else nn.LayerNorm(width)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        x = x + self.attention(self.norm1(x))
        if self.cross is not None and self.norm3 is not None:
            x = x + self.cross(self.norm3(x), context)
        return x + self.mlp(self.norm2(x))


class DeiT(nn.Module):
    """Vision transformer with a class token (arXiv 2012.12877); `DeiT()` has the shape of DeiT-small."""

    def __init__(self, side: int = 224, width: int = 384, depth: int = 12, heads: int = 6, classes: int = 1000) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 16, 16)
        self.token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.positions = nn.Parameter(torch.randn(1, (side // 16) ** 2 + 1, width) * 0.02)
        self.blocks = nn.Sequential(*(TransformerBlock(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        h = torch.cat((self.token.expand(x.shape[0], -1, -1), tokens), 1) + self.positions
        return self.head(self.norm(self.blocks(h))[:, 0])


class ResidualUnit(nn.Module):
    """Two convolutions with instance norm and a shortcut, as nnU-Net's residual encoder has them (arXiv 2404.09556)."""

    def __init__(self, dims: int, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        convolution = {2: nn.Conv2d, 3: nn.Conv3d}[dims]
        norm = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}[dims]
        self.conv1, self.norm1 = convolution(inside, outside, 3, stride, 1), norm(outside, affine=True)
        self.conv2, self.norm2 = convolution(outside, outside, 3, 1, 1), norm(outside, affine=True)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inside != outside:
            self.shortcut = nn.Sequential(
                convolution(inside, outside, 1, stride, bias=False), norm(outside, affine=True)
            )

    def forward(self, x: Tensor) -> Tensor:
        h = F.leaky_relu(self.norm1(self.conv1(x)))
        return F.leaky_relu(self.norm2(self.conv2(h)) + self.shortcut(x))


class ResidualUNet(nn.Module):
    """Residual U-Net of nnU-Net's shape: strided residual units down, transposed convolutions up."""

    def __init__(self, dims: int, base: int, stages: int = 5, inside: int = 1, classes: int = 3) -> None:
        super().__init__()
        transposed = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}[dims]
        convolution = {2: nn.Conv2d, 3: nn.Conv3d}[dims]
        widths = [min(base << i, 512 if dims == 2 else 320) for i in range(stages)]
        self.down = nn.ModuleList(
            ResidualUnit(dims, before, width, 1 if i == 0 else 2)
            for i, (before, width) in enumerate(zip([inside, *widths], widths, strict=False))
        )
        pairs = list(zip(widths[::-1], widths[-2::-1], strict=False))
        self.up = nn.ModuleList(transposed(low, high, 2, 2) for low, high in pairs)
        self.join = nn.ModuleList(ResidualUnit(dims, 2 * high, high, 1) for _, high in pairs)
        self.head = convolution(base, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        for unit in self.down:
            x = unit(x)
            kept.append(x)
        for up, join, skip in zip(self.up, self.join, kept[-2::-1], strict=True):
            x = join(torch.cat((up(x), skip), 1))
        return self.head(x)


class ConvUnit(nn.Module):
    """Convolution, batch norm, SiLU."""

    def __init__(self, inside: int, outside: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inside, outside, kernel, stride, kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(outside, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(self.bn(self.conv(x)))


class SplitStage(nn.Module):
    """Cross-stage stage whose every inner result is kept ("C2f")."""

    def __init__(self, inside: int, outside: int, depth: int, shortcut: bool) -> None:
        super().__init__()
        half = outside // 2
        self.enter, self.leave = ConvUnit(inside, outside), ConvUnit((2 + depth) * half, outside)
        self.inner = nn.ModuleList(
            nn.Sequential(ConvUnit(half, half, 3), ConvUnit(half, half, 3)) for _ in range(depth)
        )
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        kept = list(self.enter(x).chunk(2, 1))
        for block in self.inner:
            kept.append(kept[-1] + block(kept[-1]) if self.shortcut else block(kept[-1]))
        return self.leave(torch.cat(kept, 1))


class PooledContext(nn.Module):
    """Three max pools one after the other, joined."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.enter, self.leave = ConvUnit(width, width // 2), ConvUnit(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        kept = [self.enter(x)]
        for _ in range(3):
            kept.append(F.max_pool2d(kept[-1], 5, 1, 2))
        return self.leave(torch.cat(kept, 1))


class Detector(nn.Module):
    """An anchor-free detector of YOLOv8n's shape: boxes by expected distances, scores by class."""

    def __init__(self, width: int = 16, classes: int = 80, bins: int = 16) -> None:
        super().__init__()
        w = [width << i for i in range(5)]
        self.bins, self.classes = bins, classes
        self.stem = nn.Sequential(ConvUnit(3, w[0], 3, 2), ConvUnit(w[0], w[1], 3, 2), SplitStage(w[1], w[1], 1, True))
        self.stage3 = nn.Sequential(ConvUnit(w[1], w[2], 3, 2), SplitStage(w[2], w[2], 2, True))
        self.stage4 = nn.Sequential(ConvUnit(w[2], w[3], 3, 2), SplitStage(w[3], w[3], 2, True))
        self.stage5 = nn.Sequential(ConvUnit(w[3], w[4], 3, 2), SplitStage(w[4], w[4], 1, True), PooledContext(w[4]))
        self.top4, self.top3 = SplitStage(w[4] + w[3], w[3], 1, False), SplitStage(w[3] + w[2], w[2], 1, False)
        self.down3, self.low4 = ConvUnit(w[2], w[2], 3, 2), SplitStage(w[3] + w[2], w[3], 1, False)
        self.down4, self.low5 = ConvUnit(w[3], w[3], 3, 2), SplitStage(w[4] + w[3], w[4], 1, False)
        box, score = max(16, w[2] // 4, bins * 4), max(w[2], min(classes, 100))
        self.boxes = nn.ModuleList(
            nn.Sequential(ConvUnit(c, box, 3), ConvUnit(box, box, 3), nn.Conv2d(box, 4 * bins, 1)) for c in w[2:]
        )
        self.scores = nn.ModuleList(
            nn.Sequential(ConvUnit(c, score, 3), ConvUnit(score, score, 3), nn.Conv2d(score, classes, 1)) for c in w[2:]
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        p3 = self.stage3(self.stem(x))
        p4 = self.stage4(p3)
        p5 = self.stage5(p4)
        t4 = self.top4(torch.cat((F.interpolate(p5, scale_factor=2.0), p4), 1))
        t3 = self.top3(torch.cat((F.interpolate(t4, scale_factor=2.0), p3), 1))
        b4 = self.low4(torch.cat((self.down3(t3), t4), 1))
        b5 = self.low5(torch.cat((self.down4(b4), p5), 1))
        boxes, scores = [], []
        for level, box, score in zip((t3, b4, b5), self.boxes, self.scores, strict=True):
            height, width = level.shape[-2:]
            stride = x.shape[-1] / width
            y, x_ = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
            centre = torch.stack((x_, y), -1).flatten(0, 1)
            bins = box(level).unflatten(1, (4, self.bins)).flatten(3).softmax(2)
            distance = (bins * torch.arange(self.bins, dtype=bins.dtype).view(1, 1, -1, 1)).sum(2).transpose(1, 2)
            low, high = centre - distance[..., :2], centre + distance[..., 2:]
            boxes.append(torch.cat(((low + high) / 2, high - low), -1) * stride)
            scores.append(score(level).flatten(2).transpose(1, 2).sigmoid())
        return torch.cat(boxes, 1), torch.cat(scores, 1)


class DenoiserBlock(nn.Module):
    """Group norm, SiLU, convolution, twice, with the time added between (arXiv 2112.10752)."""

    def __init__(self, inside: int, outside: int, time: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(8, inside), nn.Conv2d(inside, outside, 3, 1, 1)
        self.time = nn.Linear(time, outside)
        self.norm2, self.conv2 = nn.GroupNorm(8, outside), nn.Conv2d(outside, outside, 3, 1, 1)
        self.shortcut = nn.Identity() if inside == outside else nn.Conv2d(inside, outside, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x))) + self.time(F.silu(time))[:, :, None, None]
        return self.shortcut(x) + self.conv2(F.silu(self.norm2(h)))


class Denoiser(nn.Module):
    """A small diffusion denoiser with cross-attention: image, time step, context -> predicted noise."""

    def __init__(self, width: int = 32, context: int = 24) -> None:
        super().__init__()
        self.width = width
        self.embed = nn.Sequential(nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, 4 * width))
        self.enter = nn.Conv2d(4, width, 3, 1, 1)
        self.down = DenoiserBlock(width, width, 4 * width)
        self.shrink = nn.Conv2d(width, 2 * width, 3, 2, 1)
        self.middle = DenoiserBlock(2 * width, 2 * width, 4 * width)
        self.cross = TransformerBlock(2 * width, 4, context)
        self.grow = nn.Conv2d(2 * width, width, 3, 1, 1)
        self.up = DenoiserBlock(2 * width, width, 4 * width)
        self.leave = nn.Sequential(nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, 4, 3, 1, 1))

    def forward(self, x: Tensor, step: Tensor, context: Tensor) -> Tensor:
        half = self.width // 2
        rates = torch.exp(torch.arange(half, dtype=torch.float32) * (-9.210340371976184 / half))
        angles = step.float()[:, None] * rates
        time = self.embed(torch.cat((angles.cos(), angles.sin()), -1))
        h = self.enter(x)
        kept = self.down(h, time)
        h = self.middle(self.shrink(kept), time)
        batch, channels, height, width = h.shape
        tokens = self.cross(h.flatten(2).transpose(1, 2), context)
        h = tokens.transpose(1, 2).reshape(batch, channels, height, width)
        h = self.grow(F.interpolate(h, scale_factor=2.0, mode="nearest"))
        return self.leave(self.up(torch.cat((h, kept), 1), time))


class BidirectionalGRU(nn.Module):
    """Two layers, both directions, and a readout of every step."""

    def __init__(self, inside: int = 12, width: int = 24, outside: int = 5) -> None:
        super().__init__()
        self.gru = nn.GRU(inside, width, 2, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * width, outside)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gru(x)[0])


def _noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


def _volume(side: int, dims: int, batch: int = 2) -> Tensor:
    return _noise(batch, 1, *[side] * dims)


# name -> the network at a size for tests
SMALL: dict[str, Callable[[], Named]] = {
    "resnet": lambda: Named(ResNet((1, 2, 1, 1), 16, 10), {"x": image(64)}, {"x": ["B", 3, "H", "W"]}),
    "deit": lambda: Named(DeiT(32, 48, 2, 4, 10), {"x": image(32)}, {"x": ["B", 3, 32, 32]}),
    "unet2d": lambda: Named(ResidualUNet(2, 8, 3), {"x": _volume(32, 2)}, {"x": ["B", 1, 32, 32]}),
    "unet3d": lambda: Named(ResidualUNet(3, 4, 3), {"x": _volume(16, 3)}, {"x": ["B", 1, 16, 16, 16]}),
    "detector": lambda: Named(Detector(8, 4, 8), {"x": image(64)}, {"x": ["B", 3, 64, 64]}),
    "denoiser": lambda: Named(
        Denoiser(),
        {"x": image(16, 4), "step": torch.tensor([3, 500], dtype=torch.int32), "context": _noise(2, 7, 24)},
        {"x": ["B", 4, 16, 16], "step": ["B"], "context": ["B", "S", 24]},
    ),
    "gru": lambda: Named(BidirectionalGRU(), {"x": _noise(2, 9, 12)}, {"x": ["B", "L", 12]}),
}
