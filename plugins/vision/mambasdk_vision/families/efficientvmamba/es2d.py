"""ES2D: the selective scan of a map along four routes that share its pixels out, a quarter to each."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from mambasdk import ops
from mambasdk.errors import ShapeError
from mambasdk.nn import LayerNorm
from mambasdk_vision.families.efficientvmamba.routes import atrous_routes
from mambasdk_vision.nn import MapConv2d
from mambasdk_vision.nn.routed_scan import RoutedScan
from mambasdk_vision.nn.routes import ROUTES


class ES2D(RoutedScan):
    """Mixer of maps (B, H, W, C) -> (B, H, W, C) by the efficient 2-D scan (arXiv 2403.09977).

    d_model: C. d_state: N. expand: D = expand * C. Odd maps count as if zeros followed, which decay the states, too.
    Parameter names are upstream's; A_logs, Ds and dt_projs_bias stay float32.
    """

    def __init__(self, d_model: int, d_state: int = 16, expand: int = 2) -> None:
        inner = expand * d_model
        super().__init__(inner, d_state, math.ceil(d_model / 16), ROUTES)
        self.d_model = d_model
        self.in_proj = nn.Linear(d_model, 2 * inner, bias=False)
        self.conv2d = MapConv2d(inner, inner, 3, padding=1, groups=inner)
        self.out_norm = LayerNorm(inner)
        self.out_proj = nn.Linear(inner, d_model, bias=False)
        self.init_scan()

    def forward(self, x: Tensor) -> Tensor:
        """Map x (B, H, W, C) to the same shape; H and W of 1 or more. Raises ShapeError."""
        if x.ndim != 4 or x.shape[-1] != self.d_model:
            raise ShapeError("bad x", where="ES2D", expected=f"(B, H, W, {self.d_model})", got=tuple(x.shape))
        u, z = self.in_proj(x).chunk(2, dim=-1)
        y = self.routed(functional.silu(self.conv2d(u)))
        norm = self.out_norm
        gated: Tensor = self.out_proj(ops.layer_norm(y, norm.weight, norm.bias, z=z, eps=norm.eps))
        return gated

    def routed(self, u: Tensor) -> Tensor:
        """The four routes over u (B, H, W, D): what each gives stands where it read, (B, H, W, D)."""
        batch, height, width, channels = u.shape
        rows, columns = (height + 1) // 2, (width + 1) // 2
        if torch.compiler.is_compiling() or height % 2 or width % 2:
            u = functional.pad(u, (0, 0, 0, 2 * columns - width, 0, 2 * rows - height))
        order = atrous_routes(height, width, device=u.device)
        y = self.scan_steps(u.flatten(1, 2), order)
        return y.view(batch, 2 * rows, 2 * columns, channels)[:, :height, :width]
