"""Chunked SSD in plain PyTorch, the peer that `ssd` is measured against, and a program that times it.

The formulas are those of the Mamba-2 paper (arXiv 2405.21060, section 6), written with batched matrix products only:
that is what torch.compile does best. Run as a program, it prints the best time over chunk lengths.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor


def segment_sums(a: Tensor) -> Tensor:
    """(..., Q) -> (..., Q, Q): sum of a over (m, l], -inf above the diagonal."""
    q = a.shape[-1]
    s = a.cumsum(-1)
    keep = torch.ones(q, q, dtype=torch.bool, device=a.device).tril()
    return (s[..., :, None] - s[..., None, :]).masked_fill(~keep, -torch.inf)


def ssd_torch(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, dt_bias: Tensor, chunk: int) -> Tensor:
    """SSD with softplus and skip.

    x (B,L,H,P), dt (B,L,H), A (H,), B and C (B,L,G,N), D (H,), dt_bias (H,); L is a multiple of `chunk`.
    Decays are float32, products run in the dtype of x. Returns y (B,L,H,P).
    """
    b, length, h, p = x.shape
    g, n = B.shape[-2:]
    c = length // chunk
    delta = torch.nn.functional.softplus(dt.float() + dt_bias)  # (B,L,H)
    a = (delta * A).view(b, c, chunk, h).permute(0, 3, 1, 2)  # (B,H,c,Q)
    s = a.cumsum(-1)
    u = (x * delta.unsqueeze(-1).to(x.dtype)).view(b, c, chunk, h, p).permute(0, 3, 1, 2, 4)  # (B,H,c,Q,P)
    b_chunks = B.view(b, c, chunk, g, n).permute(0, 3, 1, 2, 4)  # (B,G,c,Q,N)
    c_chunks = C.view(b, c, chunk, g, n).permute(0, 3, 1, 2, 4)
    scores = c_chunks @ b_chunks.transpose(-1, -2)  # (B,G,c,Q,Q)
    scores = scores.repeat_interleave(h // g, 1) * torch.exp(segment_sums(a)).to(x.dtype)  # (B,H,c,Q,Q)
    b_heads = b_chunks.repeat_interleave(h // g, 1)  # (B,H,c,Q,N)
    c_heads = c_chunks.repeat_interleave(h // g, 1)
    weighted = u * torch.exp(s[..., -1:] - s).unsqueeze(-1).to(x.dtype)
    states = (weighted.transpose(-1, -2) @ b_heads).float()  # (B,H,c,P,N)
    passing = torch.exp(segment_sums(torch.nn.functional.pad(s[..., -1], (1, 0))))[..., :-1, 1:]  # (B,H,c,c)
    before = (passing @ states.flatten(3)).view_as(states).to(x.dtype)  # (B,H,c,P,N): state before each chunk
    y = scores @ u + (c_heads @ before.transpose(-1, -2)) * torch.exp(s).unsqueeze(-1).to(x.dtype)
    y = y.permute(0, 2, 3, 1, 4).reshape(b, length, h, p)
    return y + x * D.unsqueeze(-1).to(x.dtype)


def inputs(
    batch: int, length: int, heads: int, head_dim: int, groups: int, state: int, dtype: torch.dtype
) -> list[Tensor]:
    """Random arguments of ssd_torch, decays as Mamba-2 initialises them."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    x, dt = normal(batch, length, heads, head_dim).to(dtype), normal(batch, length, heads).to(dtype)
    b, c = (normal(batch, length, groups, state).to(dtype) for _ in range(2))
    return [x, dt, -torch.linspace(1, 16, heads), b, c, normal(heads), normal(heads) - 4.0]


def median_ms(run: Callable[[], object], repeats: int) -> float:
    """Median wall time of `run` in milliseconds, after two warm-up calls."""
    times = []
    for i in range(repeats + 2):
        start = time.perf_counter()
        run()
        if i >= 2:
            times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)


def best_times(
    dtype: torch.dtype, chunks: list[int], compiled: bool, repeats: int, shape: tuple[int, ...]
) -> dict[str, float]:
    """{"forward": ms, "forward_backward": ms}, each the best over chunk lengths."""
    best = {"forward": float("inf"), "forward_backward": float("inf")}
    arguments = inputs(*shape, dtype)
    trainable = [t.detach().clone().requires_grad_() for t in arguments]
    grad = torch.randn_like(arguments[0])
    for chunk in chunks:
        torch._dynamo.reset()
        function = torch.compile(ssd_torch, dynamic=False) if compiled else ssd_torch

        def forward(function: Callable[..., Tensor] = function, chunk: int = chunk) -> None:
            with torch.no_grad():
                function(*arguments, chunk)

        def forward_backward(function: Callable[..., Tensor] = function, chunk: int = chunk) -> None:
            torch.autograd.grad(function(*trainable, chunk), trainable, grad)

        best["forward"] = min(best["forward"], median_ms(forward, repeats))
        best["forward_backward"] = min(best["forward_backward"], median_ms(forward_backward, repeats))
    return best


def main() -> None:
    """Prints one JSON line per dtype."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", type=int, nargs=6, default=(1, 2048, 24, 64, 1, 128), metavar=tuple("BLHPGN"))
    parser.add_argument("--chunks", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--eager", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for dtype in (torch.float32, torch.bfloat16):
        times = best_times(dtype, options.chunks, not options.eager, options.repeats, tuple(options.shape))
        print(json.dumps({"dtype": str(dtype).removeprefix("torch."), "compiled": not options.eager, **times}))


if __name__ == "__main__":
    main()
