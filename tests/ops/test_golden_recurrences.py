"""S4D, S5 and LRU on `diagonal_scan`, as mamba360-zoo.md section 6 gives them: golden outputs, states and gradients."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from mambasdk import ops

TOLERANCE = 2e-5  # of the largest magnitude; the goldens are float32 runs that differ from float64 loops by up to 5e-6
Tensors = dict[str, Tensor]


def _load(folder: Path, prefix: str = "") -> tuple[Tensors, Tensors]:
    """Weights (leaves) and inputs/outputs whose names begin with `prefix`, without it."""
    weights, io = (
        {name.removeprefix(prefix): t for name, t in load_file(folder / file).items() if name.startswith(prefix)}
        for file in ("weights.safetensors", "io.safetensors")
    )
    return {name: t.requires_grad_() for name, t in weights.items()}, io


def _close(actual: Tensor, expected: Tensor, what: str) -> None:
    if actual.is_complex():
        actual = torch.view_as_real(actual)
    scale = float(expected.abs().max())
    torch.testing.assert_close(
        actual, expected, rtol=0, atol=TOLERANCE * max(scale, 1.0), msg=lambda message: f"{what}: {message}"
    )


def _check_gradients(y: Tensor, u: Tensor, weights: Tensors, io: Tensors) -> None:
    leaves = {"u": u, **weights}
    wanted = [name for name in leaves if f"grad.{name}" in io]
    assert len(wanted) == sum(name.startswith("grad.") for name in io), "a golden gradient has no leaf"
    gradients = torch.autograd.grad((y * io["cotangent"]).sum(), [leaves[name] for name in wanted])
    for name, gradient in zip(wanted, gradients, strict=True):
        _close(gradient, io[f"grad.{name}"], f"gradient of {name}")


# ---- S4D: (B, H, L), N/2 modes a channel ----


def _s4d_scan(u: Tensor, decay: Tensor, gain: Tensor, **options: Any) -> Tensor:
    """States (B, L, H, n) of x_t = decay x_(t-1) + gain u_t; u (B, H, L), decay and gain (H, n) complex."""
    drive = (u.mT[..., None] * gain).flatten(2)  # (B, L, H*n)
    states: Tensor = ops.diagonal_scan(drive, decay.flatten(), **options)
    return states.unflatten(2, tuple(decay.shape))


def test_s4d(golden: Callable[[str], Path]) -> None:
    weights, io = _load(golden("s4d"))
    u = io["u"].requires_grad_()
    a = torch.complex(-weights["kernel.log_A_real"].exp(), weights["kernel.A_imag"])
    dt = weights["kernel.log_dt"].exp()[:, None]
    decay = torch.exp(dt * a)
    x = _s4d_scan(u, decay, (decay - 1) / a)
    C = torch.view_as_complex(weights["kernel.C"])
    y_ssm = 2 * (x * C).sum(-1).real.mT + weights["D"][:, None] * u
    mixed = functional.conv1d(
        functional.gelu(y_ssm), weights["output_linear.0.weight"], weights["output_linear.0.bias"]
    )
    y = functional.glu(mixed, dim=1)
    half = u.shape[-1] // 2
    _close(x[:, -1], io["final_state"], "final state")
    _close(x[:, half - 1], io["mid_state"], "state half-way")
    _close(y_ssm, io["y_ssm"], "y_ssm")
    _close(y, io["y"], "y")
    used = {name: weight for name, weight in weights.items() if not name.startswith("variant.")}
    _check_gradients(y, u, used, {name: t for name, t in io.items() if not name.startswith("variant.")})
    # Continuing from the golden state half-way gives the rest.
    middle = torch.view_as_complex(io["mid_state"]).flatten(1)
    rest = _s4d_scan(u[..., half:], decay, (decay - 1) / a, initial_state=middle)
    _close(rest[:, -1], io["final_state"], "final state from the one half-way")


@pytest.mark.parametrize("variant", ["zoh_lin", "bilinear_lin", "zoh_inv", "zoh_legs", "zoh_real"])
def test_s4d_variants(golden: Callable[[str], Path], variant: str) -> None:
    folder = golden("s4d")
    weights, io = _load(folder, f"variant.{variant}.")
    u = load_file(folder / "io.safetensors")["u"]
    a = torch.complex(-weights["A_real"].exp(), -weights["A_imag"])
    dt = weights["inv_dt"].exp()
    if variant.startswith("bilinear"):
        decay, gain = (1 + dt * a / 2) / (1 - dt * a / 2), dt / (1 - dt * a / 2)
    else:
        decay = torch.exp(dt * a)
        gain = (decay - 1) / a
    x = _s4d_scan(u, decay, gain * torch.view_as_complex(weights["B"])[0])
    C = torch.view_as_complex(weights["C"])[0]
    _close(2 * (x * C).sum(-1).real.mT, io["y_step"][:, 0], "y of the stepped layer")
    _close(x[:, -1], io["final_state"], "final state")
    impulse = torch.zeros_like(u[:1])
    impulse[..., 0] = 1
    kernel = _s4d_scan(impulse, decay, gain * torch.view_as_complex(weights["B"])[0])
    _close(2 * (kernel * C).sum(-1).real.mT, io["kernel"], "kernel, the response to an impulse")


# ---- S5: (B, L, H), one system of P modes for all channels ----


def _s5(u: Tensor, weights: Tensors, case: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """y (B, L, H), the forward scan's last state (B, P), the discrete diagonal (P) and input matrix (P, H)."""
    real = weights["Lambda_re"].clamp(max=-1e-4) if case["clip_eigs"] else weights["Lambda_re"]
    a = torch.complex(real, weights["Lambda_im"])
    dt = case["step_rescale"] * weights["log_step"][:, 0].exp()
    B = torch.view_as_complex(weights["B"])
    if case["discretisation"] == "zoh":
        decay = torch.exp(dt * a)
        gain = (decay - 1) / a
    else:
        decay, gain = (1 + dt * a / 2) / (1 - dt * a / 2), dt / (1 - dt * a / 2)
    B_bar = gain[:, None] * B
    drive = u.to(B_bar.dtype) @ B_bar.mT
    forwards, last = ops.diagonal_scan(drive, decay, return_final_state=True)
    states = [forwards] + ([ops.diagonal_scan(drive, decay, reverse=True)] if case["bidirectional"] else [])
    names = ("C1", "C2") if case["bidirectional"] else ("C",)
    out = sum((x @ torch.view_as_complex(weights[C]).mT).real for x, C in zip(states, names, strict=True))
    return (2 if case["conj_sym"] else 1) * out + weights["D"] * u, last, decay, B_bar


@pytest.mark.parametrize("case", ["zoh_uni", "zoh_nosym", "bilinear_bi"])
def test_s5(golden: Callable[[str], Path], case: str) -> None:
    folder = golden("s5")
    weights, io = _load(folder, f"{case}.")
    u = io["u"].requires_grad_()
    y, last, decay, B_bar = _s5(u, weights, json.loads((folder / "config.json").read_text())["cases"][case])
    _close(y, io["y"], "y")
    _close(last, io["final_state_fwd"], "final state")
    _close(decay, io["Lambda_bar"], "discrete diagonal")
    _close(B_bar, io["B_bar"], "discrete input matrix")
    _check_gradients(y, u, weights, io)


@pytest.mark.parametrize("case", ["block_half_glu1", "block_full_glu_post"])
def test_s5_block(golden: Callable[[str], Path], case: str) -> None:
    folder = golden("s5")
    weights, io = _load(folder, f"{case}.")
    cases = json.loads((folder / "config.json").read_text())["cases"]
    inner = {name.removeprefix("seq."): t for name, t in weights.items() if name.startswith("seq.")}
    u, settings = io["u"], cases[cases[case]["ssm_settings_from"]]
    pre = cases[case]["prenorm"]

    def norm(x: Tensor) -> Tensor:
        return functional.layer_norm(x, x.shape[-1:], weights["norm.scale"], weights["norm.bias"], 1e-6)

    y, *_ = _s5(norm(u) if pre else u, inner, settings)
    g = functional.gelu(y, approximate="tanh")
    gate = torch.sigmoid(g @ weights["out2.kernel"] + weights["out2.bias"])
    g = (g @ weights["out1.kernel"] + weights["out1.bias"]) * gate if "out1.kernel" in weights else g * gate
    _close(u + g if pre else norm(u + g), io["y"], "y")


# ---- LRU: (B, L, H), N independent complex modes ----


def _lru(u: Tensor, weights: Tensors) -> tuple[Tensor, Tensor]:
    """y (B, L, H) and the states (B, L, N)."""
    decay = torch.exp(torch.complex(-weights["nu_log"].exp(), weights["theta_log"].exp()))
    B = torch.complex(weights["B_re"], weights["B_im"]) * weights["gamma_log"].exp()[:, None]
    x = ops.diagonal_scan(u.to(B.dtype) @ B.mT, decay)
    return (x @ torch.complex(weights["C_re"], weights["C_im"]).mT).real + weights["D"] * u, x


@pytest.mark.parametrize("case", ["default", "long_memory"])
def test_lru(golden: Callable[[str], Path], case: str) -> None:
    weights, io = _load(golden("lru"), f"{case}.")
    u = io["u"].requires_grad_()
    y, x = _lru(u, weights)
    _close(y, io["y"], "y")
    _close(x[:, -1], io["final_state"], "final state")
    _close(x[:, u.shape[1] // 2 - 1], io["mid_state"], "state half-way")
    _check_gradients(y, u, weights, io)


@pytest.mark.parametrize("case", ["block_pre", "block_post"])
def test_lru_block(golden: Callable[[str], Path], case: str) -> None:
    weights, io = _load(golden("lru"), f"{case}.")
    inner = {name.removeprefix("seq."): t for name, t in weights.items() if name.startswith("seq.")}
    u, pre = io["u"], case == "block_pre"

    def norm(x: Tensor) -> Tensor:
        scale, bias = weights["normalization.scale"], weights["normalization.bias"]
        return functional.layer_norm(x, x.shape[-1:], scale, bias, 1e-6)

    g = functional.gelu(_lru(norm(u) if pre else u, inner)[0], approximate="tanh")
    value = g @ weights["out1.kernel"] + weights["out1.bias"]
    g = value * torch.sigmoid(g @ weights["out2.kernel"] + weights["out2.bias"])
    _close(u + g if pre else norm(u + g), io["y"], "y")
