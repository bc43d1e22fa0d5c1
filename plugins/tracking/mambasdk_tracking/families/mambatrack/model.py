"""MambaTrack's motion predictor (MTP): from the last box deltas to the next one (arXiv 2408.09178)."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from mambasdk.errors import ShapeError
from mambasdk.nn import LayerNorm, Mamba, Model
from mambasdk_tracking.families.mambatrack.config import MambaTrackConfig

_SLOPE = 0.01  # of LeakyReLU, unofficial code


class BiMambaBlock(nn.Module):
    """Two Mambas over (B, L, D), one from each end, then an MLP: `Y = F + R`, `Y + MLP(LN(Y))`.

    norm: "pre" as above, "post" for `Y + LN(MLP(Y))`. backward_flip: False adds R in the order in which the backward
    Mamba runs, last token first, as the unofficial code does.
    """

    def __init__(
        self,
        d_model: int,
        *,
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
        norm: Literal["pre", "post"] = "pre",
        backward_flip: bool = True,
    ) -> None:
        super().__init__()
        self.norm = norm
        self.backward_flip = backward_flip
        self.forward_mamba = Mamba(d_model, d_state, d_conv, expand)
        self.backward_mamba = Mamba(d_model, d_state, d_conv, expand, reverse=backward_flip)
        self.layer_norm = LayerNorm(d_model)
        self.proj_layer = nn.Sequential(
            nn.Linear(d_model, 2 * d_model), nn.LeakyReLU(_SLOPE), nn.Linear(2 * d_model, d_model)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, L, D) to (B, L, D)."""
        backward = self.backward_mamba(x if self.backward_flip else x.flip(1))
        y: Tensor = self.forward_mamba(x) + backward  # (B, L, D)
        change: Tensor = (
            self.proj_layer(self.layer_norm(y)) if self.norm == "pre" else self.layer_norm(self.proj_layer(y))
        )
        return y + change


class TokenMean(nn.Module):
    """Mean over the tokens, (B, L, D) -> (B, D), and of groups of D / C neighbouring channels: (B, C)."""

    def __init__(self, d_model: int, channels: int | None) -> None:
        super().__init__()
        self.d_model = d_model
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, L, D) to (B, D), or (B, C)."""
        x = x.mean(1)
        return x if self.channels is None else x.unflatten(-1, (self.channels, -1)).mean(-1)


class MotionPredictor(nn.Module, Model):
    """Predicts the next box delta of each track from its last ones.

    A delta is (dcx, dcy, dw, dh) from one frame to the next, divided by the image's (width, height, width, height) and
    multiplied by `scale`. Any number of deltas from 1 will do; it was made for `window`.
    """

    def __init__(
        self,
        d_model: int,
        n_layer: int,
        *,
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
        window: int = 10,
        scale: float = 50.0,
        head_hidden: int = 64,
        norm: Literal["pre", "post"] = "pre",
        backward_flip: bool = True,
        pool_channels: int | None = None,
    ) -> None:
        super().__init__()
        self.d_model = d_model
        self.window = window
        self.scale = scale
        self.backward_flip = backward_flip
        self.proj_embedding_layer = nn.Linear(4, d_model)
        self.bi_mamba_blocks = nn.ModuleList(
            BiMambaBlock(d_model, d_state=d_state, d_conv=d_conv, expand=expand, norm=norm, backward_flip=backward_flip)
            for _ in range(n_layer)
        )
        self.pred_head = nn.Sequential(
            TokenMean(d_model, pool_channels),
            nn.Linear(pool_channels or d_model, head_hidden),
            nn.LeakyReLU(_SLOPE),
            nn.Linear(head_hidden, 4),
        )

    def forward(self, deltas: Tensor) -> Tensor:
        """Deltas (B, L, 4), oldest first, L from 1 -> the next delta (B, 4). Raises ShapeError."""
        if deltas.ndim != 3 or deltas.shape[-1] != 4 or deltas.shape[1] == 0:
            raise ShapeError(
                "bad deltas", where="MotionPredictor", expected="(B, L, 4) with L from 1", got=tuple(deltas.shape)
            )
        x = self.proj_embedding_layer(deltas)  # (B, L, D)
        for block in self.bi_mamba_blocks:
            x = block(x)
        y: Tensor = self.pred_head(x)
        return y

    @torch.no_grad()
    def rollout(self, boxes: Tensor, image_size: tuple[float, float], steps: int) -> Tensor:
        """The next boxes (B, steps, 4) after `boxes` (B, M, 4), M from 2: centre x, centre y, width, height, pixels.

        Each prediction counts as observed for the next one, and the last `window` deltas are looked at.
        """
        if boxes.ndim != 3 or boxes.shape[-1] != 4 or boxes.shape[1] < 2:
            raise ShapeError(
                "bad boxes", where="MotionPredictor.rollout", expected="(B, M, 4), M from 2", got=tuple(boxes.shape)
            )
        size = boxes.new_tensor([image_size[0], image_size[1]] * 2)
        for _ in range(steps):
            deltas = boxes.diff(dim=1)[:, -self.window :] / size * self.scale
            predicted = boxes[:, -1] + self(deltas) * size / self.scale
            boxes = torch.cat([boxes, predicted.unsqueeze(1)], 1)
        return boxes[:, boxes.shape[1] - steps :]

    def example_inputs(self) -> dict[str, Tensor]:
        """Two tracks with full windows, of the size that such deltas have."""
        generator = torch.Generator().manual_seed(0)
        deltas = 0.3 * torch.randn(2, self.window, 4, generator=generator)
        return {"deltas": deltas.to(self.proj_embedding_layer.weight)}

    def native_outputs(self, inputs: dict[str, Tensor]) -> dict[str, Any]:
        """What the engines compute."""
        return {"delta": self(inputs["deltas"])}

    def input_shapes(self) -> dict[str, list[int | str]]:
        """Batch and number of deltas are free."""
        return {"deltas": ["B", "L", 4]}


def build(config: MambaTrackConfig) -> MotionPredictor:
    """The module of a configuration, freshly initialised; also on the meta device."""
    return MotionPredictor(
        config.d_model,
        config.n_layer,
        d_state=config.d_state,
        d_conv=config.d_conv,
        expand=config.expand,
        window=config.window,
        scale=config.scale,
        head_hidden=config.head_hidden,
        norm=config.norm,
        backward_flip=config.backward_flip,
        pool_channels=config.pool_channels,
    )


def motion_loss(predicted: Tensor, expected: Tensor) -> Tensor:
    """Smooth L1 with beta 1, the mean over all tracks and components, () (arXiv 2408.09178)."""
    return functional.smooth_l1_loss(predicted, expected)
