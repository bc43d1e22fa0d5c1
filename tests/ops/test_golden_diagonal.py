"""S4D, S5 and LRU of the golden tensors, their recurrences run by ops.diagonal_scan, with all gradients.

The discretisations are those of the survey's sections 5, 6.2, 6.5 and 6.6: zero-order hold or bilinear.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from mambasdk import ops


def compare(actual: Tensor, expected: Tensor, what: str, tolerance: float = 1e-4) -> None:
    """Within `tolerance` of the largest expected value."""
    assert actual.shape == expected.shape, what
    scale = float(expected.abs().max())
    found = float((actual.detach() - expected).abs().max())
    assert found <= tolerance * scale, f"{what}: off by {found:.3g}, expected at most {tolerance:g} of {scale:.3g}"


def compare_gradients(loss: Tensor, leaves: dict[str, Tensor], io: dict[str, Tensor], prefix: str) -> None:
    """The gradients of every leaf are those of the file."""
    gradients = torch.autograd.grad(loss, list(leaves.values()))
    for name, gradient in zip(leaves, gradients, strict=True):
        compare(gradient, io[f"{prefix}grad.{name}"], f"gradient of {name}", 1e-3)


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors under a prefix."""
    return {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}


def leaves_of(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: t.clone().requires_grad_() for name, t in tensors.items()}


def in_halves(b: Tensor, a: Tensor, reverse: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """(states, state at the boundary, final state) of a scan done as two, the second from the first's final state."""
    parts = list(b.split([b.shape[1] // 2, b.shape[1] - b.shape[1] // 2], dim=1))
    if reverse:
        parts.reverse()
    x0, middle = ops.diagonal_scan(parts[0], a, reverse=reverse, return_final_state=True)
    x1, final = ops.diagonal_scan(parts[1], a, initial_state=middle, reverse=reverse, return_final_state=True)
    return torch.cat([x1, x0] if reverse else [x0, x1], dim=1), middle, final


def zero_order_hold(lam: Tensor, dt: Tensor) -> tuple[Tensor, Tensor]:
    """(a, factor of B) of x' = lam x + B u over steps of dt."""
    a = (lam * dt).exp()
    return a, (a - 1) / lam


def bilinear(lam: Tensor, dt: Tensor) -> tuple[Tensor, Tensor]:
    denominator = 1 - lam * dt / 2
    return (1 + lam * dt / 2) / denominator, dt / denominator


DISCRETISATIONS = {"zoh": zero_order_hold, "bilinear": bilinear}


# ---- S4D ----


def s4d_states(u: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """States (B,L,H,N) of one recurrence per (channel, mode); also the middle and the final state (B,H,N)."""
    forced = u.mT.unsqueeze(-1) * b  # (B,L,H,N)
    x, middle, final = in_halves(forced.flatten(2), a.flatten())
    return x.view(forced.shape), middle.view(-1, *b.shape), final.view(-1, *b.shape)


def test_s4d(golden: Callable[[str], Path]) -> None:
    """Output, states, kernel (the response to an impulse) and gradients."""
    io, weights = (load_file(golden("s4d") / f"{name}.safetensors") for name in ("io", "weights"))
    leaves = leaves_of({k: t for k, t in weights.items() if not k.startswith("variant.")} | {"u": io["u"]})
    lam = torch.complex(-leaves["kernel.log_A_real"].exp(), leaves["kernel.A_imag"])  # (H,N)
    a, factor = zero_order_hold(lam, leaves["kernel.log_dt"].exp().unsqueeze(-1))
    C = torch.view_as_complex(leaves["kernel.C"])
    u = leaves["u"]  # (B,H,L)
    x, middle, final = s4d_states(u, a, factor)
    y_ssm = 2 * (x * C).sum(-1).real.mT + u * leaves["D"].unsqueeze(-1)
    compare(torch.view_as_real(middle), io["mid_state"], "state in the middle")
    compare(torch.view_as_real(final), io["final_state"], "final state")
    compare(y_ssm, io["y_ssm"], "y before the output layer")
    impulse = torch.zeros(1, *u.shape[1:])
    impulse[..., 0] = 1
    compare(2 * (s4d_states(impulse, a, factor)[0] * C).sum(-1).real.mT[0], io["kernel"], "kernel")
    y = functional.conv1d(functional.gelu(y_ssm), leaves["output_linear.0.weight"], leaves["output_linear.0.bias"])
    y = functional.glu(y, dim=1)
    compare(y, io["y"], "y")
    compare_gradients((y * io["cotangent"]).sum(), leaves, io, "")


@pytest.mark.parametrize("variant", ["zoh_lin", "bilinear_lin", "zoh_inv", "zoh_legs", "zoh_real"])
def test_s4d_variants(golden: Callable[[str], Path], variant: str) -> None:
    """The full kernel class, in all its initialisations: kernel, outputs and final state."""
    io, weights = (load_file(golden("s4d") / f"{name}.safetensors") for name in ("io", "weights"))
    expected, w = part(io, f"variant.{variant}."), part(weights, f"variant.{variant}.")
    lam = torch.complex(-w["A_real"].exp(), -w["A_imag"])  # (H,N)
    a, factor = DISCRETISATIONS[variant.split("_", maxsplit=1)[0]](lam, w["inv_dt"].exp())
    B, C = (torch.view_as_complex(w[name])[0] for name in ("B", "C"))  # (H,N)
    impulse = torch.zeros(1, *expected["kernel"].shape[1:])
    impulse[..., 0] = 1
    x, _, _ = s4d_states(impulse, a, factor * B)
    compare(2 * (x * C).sum(-1).real.mT, expected["kernel"], "kernel")
    x, _, final = s4d_states(io["u"], a, factor * B)
    compare(2 * (x * C).sum(-1).real.mT, expected["y_step"].squeeze(1), "y")
    compare(torch.view_as_real(final), expected["final_state"], "final state")


# ---- S5 ----


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize(
    ("case", "rule", "rescale", "symmetric", "clipped"),
    [
        ("zoh_uni", "zoh", 1.0, True, False),
        ("zoh_nosym", "zoh", 0.5, False, False),
        ("bilinear_bi", "bilinear", 1.0, True, True),
    ],
)
def test_s5(
    golden: Callable[[str], Path], case: str, rule: str, rescale: float, symmetric: bool, clipped: bool, split: bool
) -> None:
    """One direction and both, whole and continued from a state, with gradients."""
    io, weights = (part(load_file(golden("s5") / f"{name}.safetensors"), f"{case}.") for name in ("io", "weights"))
    leaves = leaves_of(weights | {"u": io["u"]})
    real = leaves["Lambda_re"].clamp(max=-1e-4) if clipped else leaves["Lambda_re"]
    lam = torch.complex(real, leaves["Lambda_im"])
    a, factor = DISCRETISATIONS[rule](lam, rescale * leaves["log_step"].squeeze(-1).exp())
    B = factor.unsqueeze(-1) * torch.view_as_complex(leaves["B"])  # (P,H)
    compare(torch.view_as_real(a), io["Lambda_bar"], "Lambda_bar")
    compare(torch.view_as_real(B), io["B_bar"], "B_bar")
    u = leaves["u"]  # (B,L,H)
    forced = u.to(B.dtype) @ B.mT  # (B,L,P)

    def scan(reverse: bool) -> tuple[Tensor, Tensor]:
        if split:
            x, _, final = in_halves(forced, a, reverse)
            return x, final
        return ops.diagonal_scan(forced, a, reverse=reverse, return_final_state=True)

    x, final = scan(reverse=False)
    compare(torch.view_as_real(final), io["final_state_fwd"], "final state")
    if "C1" in leaves:
        backward, _ = scan(reverse=True)
        read = x @ torch.view_as_complex(leaves["C1"]).mT + backward @ torch.view_as_complex(leaves["C2"]).mT
    else:
        read = x @ torch.view_as_complex(leaves["C"]).mT
    y = (2 if symmetric else 1) * read.real + leaves["D"] * u
    compare(y, io["y"], "y")
    compare_gradients((y * io["cotangent"]).sum(), leaves, io, "")


# ---- LRU ----


@pytest.mark.parametrize("case", ["default", "long_memory"])
def test_lru(golden: Callable[[str], Path], case: str) -> None:
    """Output, states in the middle and at the end, gradients; long_memory has decays up to 0.999."""
    io, weights = (part(load_file(golden("lru") / f"{name}.safetensors"), f"{case}.") for name in ("io", "weights"))
    leaves = leaves_of(weights | {"u": io["u"]})
    modulus = (-leaves["nu_log"].exp()).exp()
    a = torch.polar(modulus, leaves["theta_log"].exp())
    B = torch.complex(leaves["B_re"], leaves["B_im"]) * leaves["gamma_log"].exp().unsqueeze(-1)  # (N,H)
    C = torch.complex(leaves["C_re"], leaves["C_im"])  # (H,N)
    u = leaves["u"]  # (B,L,H)
    x, middle, final = in_halves(u.to(B.dtype) @ B.mT, a)
    compare(torch.view_as_real(middle), io["mid_state"], "state in the middle")
    compare(torch.view_as_real(final), io["final_state"], "final state")
    y = (x @ C.mT).real + leaves["D"] * u
    compare(y, io["y"], "y")
    compare_gradients((y * io["cotangent"]).sum(), leaves, io, "")
