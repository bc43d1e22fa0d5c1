"""Gated norms and packed diagonal scans against loops in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from drawn import Array, draw, exact
from tolerance import RELATIVE, error

from mambasdk import ops

pytestmark = pytest.mark.usefixtures("isa")


def normed(name: str, x: Array, weight: Array, z: Array, group: int, before: bool, sigmoid: bool) -> Array:
    gate = 1 / (1 + np.exp(-z))
    gate = gate if sigmoid else z * gate
    v = x if before else x * gate
    out = np.empty_like(v)
    for row in range(len(v)):
        for start in range(0, v.shape[1], group):
            part = v[row, start : start + group]
            if name == "layer_norm":
                part = part - part.mean()
            out[row, start : start + group] = part / np.sqrt((part**2).mean() + 1e-5)
    out = out * weight
    return out * gate if before else out


@pytest.mark.parametrize("name", ["rms_norm", "layer_norm"])
@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("sigmoid", [True, False])
@pytest.mark.parametrize("group", [72, 24])
@pytest.mark.parametrize(
    ("dtype", "gate"),
    [
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.float32, torch.bfloat16),
        (torch.bfloat16, torch.bfloat16),
        (torch.float64, torch.float64),
    ],
)
def test_gated_norms(name: str, before: bool, sigmoid: bool, group: int, dtype: torch.dtype, gate: torch.dtype) -> None:
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    x, z, weight = draw(5, 72, dtype=dtype), draw(5, 72, seed=1, dtype=gate), draw(72, dtype=wide)
    x, z = x.requires_grad_(), z.requires_grad_()
    y = getattr(ops, name)(x, weight, z=z, group_size=group, norm_before_gate=before, sigmoid_gate=sigmoid)
    expected = normed(name, exact(x), exact(weight), exact(z), group, before, sigmoid)
    assert error(y.detach(), torch.from_numpy(expected)) <= RELATIVE[dtype] * 1.5
    y.sum().backward()
    assert x.grad is not None
    assert z.grad is not None
    assert (x.grad.dtype, z.grad.dtype) == (dtype, gate)
    if wide == torch.float64:
        return
    high = [t.detach().double().requires_grad_() for t in (x, z)]
    reference = getattr(ops, name)(
        high[0], weight.double(), z=high[1], group_size=group, norm_before_gate=before, sigmoid_gate=sigmoid
    )
    reference.sum().backward()
    for leaf, exact_leaf in zip((x, z), high, strict=True):
        assert leaf.grad is not None
        assert exact_leaf.grad is not None
        assert error(leaf.grad, exact_leaf.grad) <= RELATIVE[leaf.dtype] * 4


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("form", ["constant", "per step"])
@pytest.mark.parametrize("lengths", [[5, 1, 9], [0, 7, 0], [3, 0, 4], [1], []])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64, torch.float64])
def test_packed_diagonal_scans_are_scans_apart(
    reverse: bool, form: str, lengths: list[int], dtype: torch.dtype
) -> None:
    total = sum(lengths)
    real = torch.float64 if dtype == torch.complex64 else dtype

    def tensor(*shape: int, seed: int) -> torch.Tensor:
        value = draw(*shape, seed=seed, dtype=real)
        return torch.complex(value, draw(*shape, seed=seed + 9, dtype=real)).to(dtype) if dtype.is_complex else value

    b = tensor(1, total, 19, seed=0).requires_grad_()
    a = (0.4 * tensor(*((19,) if form == "constant" else (1, total, 19)), seed=1)).detach().requires_grad_()
    start = tensor(len(lengths), 19, seed=2).requires_grad_()
    offsets = torch.tensor([sum(lengths[:i]) for i in range(len(lengths) + 1)], dtype=torch.int32)
    options: dict[str, Any] = {"reverse": reverse, "return_final_state": True}
    x, final = ops.diagonal_scan(b, a, start, cu_seqlens=offsets, **options)
    rows, finals = [], []
    wide = np.complex128 if dtype.is_complex else np.float64
    for s, length in enumerate(lengths):
        part = slice(int(offsets[s]), int(offsets[s]) + length)
        bs = b[0, part].detach().to(torch.complex128 if dtype.is_complex else torch.float64).numpy()
        factor = a.detach().to(torch.complex128 if dtype.is_complex else torch.float64).numpy()
        factors = np.broadcast_to(factor if factor.ndim == 1 else factor[0, part], bs.shape)
        h = start[s].detach().to(torch.complex128 if dtype.is_complex else torch.float64).numpy().astype(wide)
        out = np.zeros_like(bs)
        for t in range(length)[:: -1 if reverse else 1]:
            h = factors[t] * h + bs[t]
            out[t] = h
        rows.append(out)
        finals.append(h)
    if lengths:
        assert error(x[0].detach(), torch.from_numpy(np.concatenate(rows))) <= RELATIVE[dtype] * 1.01
        assert error(final.detach(), torch.from_numpy(np.stack(finals))) <= RELATIVE[dtype] * 1.01
    weights = [tensor(*t.shape, seed=3) for t in (x, final)]
    ours = torch.autograd.grad(
        sum((t * w.conj()).real.sum() for t, w in zip((x, final), weights, strict=True)), (b, a, start)
    )
    parts = [
        ops.diagonal_scan(b[:, part], a if form == "constant" else a[:, part], start[s : s + 1], **options)
        for s, length in enumerate(lengths)
        for part in [slice(int(offsets[s]), int(offsets[s]) + length)]
    ]
    if not parts:
        assert not any(g.any() for g in ours)
        return
    apart = (torch.cat([p[0] for p in parts], 1), torch.cat([p[1] for p in parts]))
    theirs = torch.autograd.grad(
        sum((t * w.conj()).real.sum() for t, w in zip(apart, weights, strict=True)), (b, a, start)
    )
    for mine, other in zip(ours, theirs, strict=True):
        wide_other = other.to(torch.complex128 if dtype.is_complex else torch.float64)
        assert error(mine, wide_other) <= RELATIVE[dtype] * 4


def test_wrong_offsets_are_named() -> None:
    b, a = draw(1, 5, 3), draw(3)
    for offsets, message in (
        ([1, 5], r"cu_seqlens\[0\] is 1, expected 0"),
        ([0, 4, 3, 5], r"cu_seqlens\[2\] is 3, expected at least 4"),
        ([0, 4], "cu_seqlens ends with 4, expected 5"),
    ):
        with pytest.raises(ValueError, match=f"diagonal_scan: {message}"):
            ops.diagonal_scan(b, a, cu_seqlens=torch.tensor(offsets, dtype=torch.int32))
    with pytest.raises(ValueError, match="b has batch 2, expected 1 with cu_seqlens"):
        ops.diagonal_scan(draw(2, 5, 3), a, cu_seqlens=torch.tensor([0, 5], dtype=torch.int32))
