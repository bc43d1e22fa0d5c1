"""What an nnMamba is made of: double convolutions, residual stages with a shared Mamba layer, gates of skips."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from torch.nn import functional

from mambasdk.errors import ShapeError
from mambasdk.nn import Mamba
from mambasdk.nn.selective import projected, selective_ssm
from mambasdk_medical.nn.precision import without_autocast
from mambasdk_medical.nn.spatial import batch_norm, convolution, tokens, untokens

_REDUCTION = 16  # of a gate's hidden layer
_FLIPS = 4


class DoubleConv(nn.Sequential):
    """Two convolutions of side 3 with bias, each with batch norm and ReLU; the first of a stride.

    last_relu: whether there is the second ReLU.
    """

    def __init__(self, channels: int, out_channels: int, stride: int = 1, *, last_relu: bool = True) -> None:
        super().__init__(
            convolution(3, channels, out_channels, 3, stride, bias=True),
            batch_norm(3, out_channels),
            nn.ReLU(),
            convolution(3, out_channels, out_channels, 3, bias=True),
            batch_norm(3, out_channels),
            nn.ReLU() if last_relu else nn.Identity(),
        )


def mean_over_flips(mixer: Mamba, x: Tensor) -> Tensor:
    """The mean of the mixer over x (B, L, C), its channels, its steps and both turned round, each turned back.

    Nothing is turned: channels in another order are the projections' columns and rows in another order, and steps from
    the last to the first are a scan with `reverse`. Raises ShapeError.
    """
    if x.ndim != 3 or x.shape[-1] != mixer.d_model:
        raise ShapeError("bad x", where="mean_over_flips", expected=f"(B, L, {mixer.d_model})", got=tuple(x.shape))
    enter, leave = mixer.in_proj.weight, mixer.out_proj.weight  # (2I, C), (C, I)
    y: Tensor | None = None
    for turn_in, turn_out in ((enter, leave), (enter.flip(1), leave.flip(0))):
        part = functional.linear(_both_ways(mixer, functional.linear(x, turn_in)), turn_out)
        y = part if y is None else y + part
    return cast("Tensor", y) / _FLIPS


def _both_ways(mixer: Mamba, projected_in: Tensor) -> Tensor:
    """The sum (B, L, I) of the gated scans of [x | z] (B, L, 2I) from both ends."""
    u, z = projected_in.chunk(2, dim=-1)
    parameters = projected(mixer.x_proj, mixer.dt_proj, mixer.d_state)
    forth, back = (
        selective_ssm(u, z, mixer.conv1d, parameters, mixer.A_log, mixer.D, reverse=reverse)[0]
        for reverse in (False, True)
    )
    return forth + back


class FlippedMambaLayer(nn.Module):
    """`a = relu(bn(nin(x)))`, then `relu(bn2(nin2(mean over flips of mamba(a) + a)))` of a map's voxels.

    The mixer computes in float32 under autocast. Source: arXiv 2402.03526.
    """

    def __init__(self, channels: int, d_state: int = 16) -> None:
        super().__init__()
        self.nin = convolution(3, channels, channels, 1)
        self.nin2 = convolution(3, channels, channels, 1)
        self.norm = batch_norm(3, channels)
        self.norm2 = batch_norm(3, channels)
        self.mamba = Mamba(channels, d_state)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, C, D, H, W) to the same shape."""
        a = functional.relu(self.norm(self.nin(x)))
        mixed = without_autocast(lambda wide: mean_over_flips(self.mamba, tokens(wide)), a)
        return functional.relu(self.norm2(self.nin2(untokens(mixed, x.shape[2:]) + a)))


class ResidualBlock(nn.Module):
    """Two convolutions of side 3 with batch norms, and x around them, through `downsample` where the map is halved.

    layer: whether the block holds the stage's shared Mamba layer as `mamba_layer`.
    """

    def __init__(
        self, channels: int, out_channels: int, stride: int = 1, layer: FlippedMambaLayer | None = None
    ) -> None:
        super().__init__()
        self.conv1 = convolution(3, channels, out_channels, 3, stride)
        self.bn1 = batch_norm(3, out_channels)
        self.conv2 = convolution(3, out_channels, out_channels, 3)
        self.bn2 = batch_norm(3, out_channels)
        self.downsample = (
            nn.Sequential(convolution(3, channels, out_channels, 1, stride), batch_norm(3, out_channels))
            if stride > 1
            else None
        )
        self.mamba_layer = layer

    def forward(self, x: Tensor, shared: FlippedMambaLayer | None = None) -> Tensor:
        """(B, C, *S) -> (B, C', *S / stride). shared: a layer whose output for x is added before the last ReLU."""
        y = functional.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if shared is not None:
            y = y + shared(x)
        return functional.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResidualStage(nn.ModuleList):
    """Blocks, of which the first halves the map; the others share the Mamba layer that the second holds."""

    def __init__(self, channels: int, out_channels: int, blocks: int, d_state: int) -> None:
        layer = FlippedMambaLayer(out_channels, d_state)
        super().__init__(
            [
                ResidualBlock(channels, out_channels, 2),
                ResidualBlock(out_channels, out_channels, layer=layer),
                *(ResidualBlock(out_channels, out_channels) for _ in range(blocks - 2)),
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, *S) -> (B, C', *S / 2)."""
        first, *others = self
        x = first(x)
        shared = others[0].mamba_layer
        for block in others:
            x = block(x, shared)
        return x


class SkipGate(nn.Module):
    """A map scaled by channel, with factors that two linear layers make of its mean (squeeze and excitation)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(channels // _REDUCTION, 1)
        self.fc = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, C, D, H, W) to the same shape."""
        factors: Tensor = self.fc(x.mean(dim=(2, 3, 4)))
        return x * factors[:, :, None, None, None]
