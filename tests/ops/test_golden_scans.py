"""`selective_scan` and `ssd` against golden tensors of the authors' code, with all gradients."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import loops
import pytest
import torch
from safetensors.torch import load_file

from mambasdk import ops
from mambasdk.testing import golden as files


def test_golden_scan(golden: Callable[[str], Path]) -> None:
    """The grouped scan of golden/mamba with all its gradients; there channels come before the length."""
    io = load_file(golden("mamba") / "io.safetensors")
    leaves = {k: io[f"scan.{k}"].requires_grad_() for k in ("u", "delta", "A", "B", "C", "D", "z", "delta_bias")}
    y, state = ops.selective_scan(
        leaves["u"].mT,
        leaves["delta"].mT,
        leaves["A"],
        leaves["B"].permute(0, 3, 1, 2),
        leaves["C"].permute(0, 3, 1, 2),
        D=leaves["D"],
        z=leaves["z"].mT,
        delta_bias=leaves["delta_bias"],
        delta_softplus=True,
        return_final_state=True,
    )
    torch.testing.assert_close(y.mT, io["scan.out"], rtol=0, atol=1e-4)
    torch.testing.assert_close(state, io["scan.last_state"], rtol=0, atol=1e-4)
    y.mT.backward(io["scan.grad_out"])
    for name, leaf in leaves.items():
        expected = io[f"scan.grad.{name}"]
        scale = float(expected.abs().max())
        torch.testing.assert_close(leaf.grad, expected, rtol=1e-3, atol=1e-3 * scale, msg=lambda m, n=name: f"{n}: {m}")


def dt_limit(folder: Path) -> tuple[float, float]:
    """The limits of the second run, which the configuration names last in its note."""
    note = json.loads((folder / "config.json").read_text())["ssd"]["note"]
    low, high = re.findall(r"dt_limit \(([\d.]+),([\d.]+)\)", note)[-1]
    return float(low), float(high)


@pytest.mark.parametrize("limited", [False, True])
def test_golden_ssd(golden: Callable[[str], Path], limited: bool) -> None:
    """The scan of golden/mamba2 with all its gradients: with initial states, or with segments and limits of dt."""
    folder = golden("mamba2")
    io = load_file(folder / "io.safetensors")
    names = ["x", "dt", "A", "B", "C", "D", "dt_bias"]
    leaves = {name: io[f"ssd.{name}"].clone().requires_grad_() for name in names}
    prefix, options = "ssd_lim_seq", {"dt_limit": dt_limit(folder), "seq_idx": io["ssd_lim_seq.seq_idx"]}
    if not limited:
        leaves["initial_states"] = io["ssd.initial_states"].clone().requires_grad_()
        prefix, options = "ssd", {"initial_state": leaves["initial_states"]}
    y, state = ops.ssd(**{name: leaves[name] for name in names}, dt_softplus=True, return_final_state=True, **options)
    torch.testing.assert_close(y, io[f"{prefix}.out"], rtol=0, atol=1e-4)
    torch.testing.assert_close(state, io[f"{prefix}.final_state"], rtol=0, atol=1e-4)
    loss = (y * io["ssd.grad_out"]).sum() + (state * io["ssd.grad_final_state"]).sum()
    for name, gradient in zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True):
        expected = io[f"{prefix}.grad.{name}"]
        scale = float(expected.abs().max())
        torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-4 * scale, msg=lambda m, n=name: f"{n}: {m}")


# ---- another golden set of the same layout: loops in float64 ----


def write_golden(root: Path) -> None:
    """The scans in folders `mamba` and `mamba2`, of other sizes."""
    generator = torch.Generator().manual_seed(7)

    def draw(*shape: int) -> torch.Tensor:  # float32 is what is read back
        return torch.randn(shape, generator=generator).double().requires_grad_()

    batch, channels, states, length, groups = 3, 8, 4, 11, 4
    leaves = {name: draw(batch, channels, length) for name in ("u", "delta", "z")}
    leaves |= {name: draw(batch, groups, states, length) for name in ("B", "C")}
    leaves |= {"A": (-draw(channels, states).exp()).detach().float().double().requires_grad_()}
    leaves |= {"D": draw(channels), "delta_bias": draw(channels)}
    y, last = loops.selective_scan(
        *(leaves[name].mT for name in ("u", "delta")),
        leaves["A"],
        *(leaves[name].permute(0, 3, 1, 2) for name in ("B", "C")),
        D=leaves["D"],
        z=leaves["z"].mT,
        delta_bias=leaves["delta_bias"],
        delta_softplus=True,
        return_final_state=True,
    )
    given = draw(batch, channels, length).detach()
    y.mT.backward(given)
    made = {**leaves, "out": y.mT, "last_state": last, "grad_out": given}
    _write(root / "mamba", "scan", made, {f"grad.{name}": leaf.grad for name, leaf in leaves.items()})

    heads, headdim = 6, 3
    leaves = {"x": draw(batch, length, heads, headdim), "dt": draw(batch, length, heads)}
    leaves |= {"A": (-draw(heads).exp()).detach().float().double().requires_grad_()}
    leaves |= {name: draw(batch, length, 3, states) for name in ("B", "C")}
    leaves |= {"D": draw(heads), "dt_bias": draw(heads), "initial_states": draw(batch, heads, headdim, states)}
    y, last = loops.ssd(**_ssd_arguments(leaves, slice(None), slice(None)), state=leaves["initial_states"])
    objective = {"grad_out": torch.randn_like(y), "grad_final_state": torch.randn_like(last)}
    objective = {name: t.float().double() for name, t in objective.items()}
    loss = (y * objective["grad_out"]).sum() + (last * objective["grad_final_state"]).sum()
    gradients = torch.autograd.grad(loss, list(leaves.values()))
    made = {**leaves, "out": y, "final_state": last, **objective}
    _write(root / "mamba2", "ssd", made, {f"grad.{n}": g for n, g in zip(leaves, gradients, strict=True)})

    limits, seq_idx = (0.2, 0.6), torch.tensor([[0] * 4 + [1] * 7, [0] * 11, [0] * 2 + [1] * 3 + [2] * 6])
    rows, ends = [], []
    for row in range(batch):
        pieces = []
        for segment in seq_idx[row].unique():
            part = (seq_idx[row] == segment).nonzero()[:, 0]
            zero = torch.zeros_like(leaves["initial_states"][row : row + 1])
            arguments = _ssd_arguments(leaves, slice(row, row + 1), part)
            piece, end = loops.ssd(**arguments, state=zero, dt_limit=limits)
            pieces.append(piece)
        rows.append(torch.cat(pieces, 1))
        ends.append(end)
    y, last = torch.cat(rows), torch.cat(ends)
    del leaves["initial_states"]
    loss = (y * objective["grad_out"]).sum() + (last * objective["grad_final_state"]).sum()
    gradients = torch.autograd.grad(loss, list(leaves.values()))
    made = {"out": y, "final_state": last, "seq_idx": seq_idx.int()}
    _write(root / "mamba2", "ssd_lim_seq", made, {f"grad.{n}": g for n, g in zip(leaves, gradients, strict=True)})
    note = f"ssd_lim_seq.* has seq_idx resets and dt_limit ({limits[0]},{limits[1]})"
    files.write(root / "mamba2", "config.json", {"ssd": {"note": note}})


def _ssd_arguments(leaves: dict[str, torch.Tensor], rows: Any, steps: Any) -> dict[str, Any]:
    by_step = {name: leaves[name][rows][:, steps] for name in ("x", "dt", "B", "C")}
    return {**by_step, **{name: leaves[name] for name in ("A", "D", "dt_bias")}, "z": None}


def _write(folder: Path, prefix: str, *parts: dict[str, Any]) -> None:
    tensors = {f"{prefix}.{name}": tensor for part in parts for name, tensor in part.items()}
    narrow = {name: t.detach().float() if t.is_floating_point() else t for name, t in tensors.items()}
    files.write(folder, "io.safetensors", narrow)
