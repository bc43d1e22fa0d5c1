"""What PyTorch has for the operations between activations."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


def matmul(x: Tensor, y: Tensor) -> Tensor:
    return x @ y


def attention(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    """q (B, L, H, E), k and v (B, S, G, E)."""
    heads_first = (t.transpose(1, 2) for t in (q, k, v))
    grouped = q.shape[2] != k.shape[2]
    return scaled_dot_product_attention(*heads_first, is_causal=causal, enable_gqa=grouped).transpose(1, 2)


def rotary(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x (B, L, H, E), cos and sin (L, E/2); the halves of a head turn."""
    cos, sin = (t[:, None].to(x.dtype) for t in (cos, sin))
    u, v = x.chunk(2, -1)
    return torch.cat([u * cos - v * sin, v * cos + u * sin], -1)


def fft_convolution(x: Tensor, kernel: Tensor) -> Tensor:
    """x (B, L, D), kernel (K, D): along the length in memory, where torch's transforms are fastest."""
    length = x.shape[1]
    n = 1 << (length + min(length, kernel.shape[0]) - 2).bit_length()
    spectrum = torch.fft.rfft(x.transpose(1, 2), n) * torch.fft.rfft(kernel[:length].T, n)
    return torch.fft.irfft(spectrum, n)[..., :length].transpose(1, 2)
