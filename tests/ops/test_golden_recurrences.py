"""S4D (arXiv 2206.11893), S5 (2208.04933) and LRU (2303.06349) on `diagonal_scan`: goldens, states, gradients."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import loops
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from mambasdk import ops
from mambasdk.testing import golden as files

TOLERANCE = 2e-5  # of the largest magnitude; the goldens are float32 runs that differ from float64 loops by up to 5e-6
Tensors = dict[str, Tensor]
# (drive (B, L, D), factors, reverse) -> states (B, L, D)
Scan = Callable[..., Tensor]


def scan_op(drive: Tensor, decay: Tensor, reverse: bool = False) -> Tensor:
    states: Tensor = ops.diagonal_scan(drive, decay, reverse=reverse)
    return states


def scan_loop(drive: Tensor, decay: Tensor, reverse: bool = False) -> Tensor:
    factors = decay[None, None] if decay.ndim == 1 else decay
    return loops.diagonal_scan(drive, factors, torch.zeros_like(drive[:, 0]), reverse)[0]


def _cases(system: str, kind: Callable[[str, dict[str, Any]], bool] = lambda name, case: True) -> list[str]:
    """Names of a folder's cases; one that only skips where there is no folder."""
    folder = files.find(system)
    if folder is None:
        return ["no golden"]
    return [
        name for name, case in json.loads((folder / "config.json").read_text())["cases"].items() if kind(name, case)
    ]


def _is_block(name: str, case: dict[str, Any]) -> bool:
    return name.startswith("block")


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


def _check(found: Tensors, u: Tensor, weights: Tensors, io: Tensors) -> None:
    """Every output and every gradient that is recorded."""
    leaves = {"u": u, **weights}
    recorded = {name for name in io if name not in ("u", "cotangent")}
    gradients = {name.removeprefix("grad.") for name in recorded if name.startswith("grad.")}
    assert gradients <= set(leaves), "a golden gradient has no leaf"
    assert recorded - {f"grad.{name}" for name in gradients} == set(found)
    for name, tensor in found.items():
        _close(tensor, io[name], name)
    if gradients:
        wanted = sorted(gradients)
        made = torch.autograd.grad((found["y"] * io["cotangent"]).sum(), [leaves[name] for name in wanted])
        for name, gradient in zip(wanted, made, strict=True):
            _close(gradient, io[f"grad.{name}"], f"gradient of {name}")


def _discrete(a: Tensor, dt: Tensor, rule: str) -> tuple[Tensor, Tensor]:
    """(decay, gain) of x' = a x + u under zero-order hold or the bilinear rule."""
    if rule == "bilinear":
        return (1 + dt * a / 2) / (1 - dt * a / 2), dt / (1 - dt * a / 2)
    decay = torch.exp(dt * a)
    return decay, (decay - 1) / a


# ---- S4D: (B, H, L), N/2 modes a channel ----


def _s4d_states(u: Tensor, decay: Tensor, gain: Tensor, scan: Scan) -> Tensor:
    """States (B, L, H, n) of x_t = decay x_(t-1) + gain u_t; u (B, H, L), decay and gain (H, n) complex."""
    drive = (u.mT[..., None] * gain).flatten(2)  # (B, L, H*n)
    return scan(drive, decay.flatten()).unflatten(2, tuple(decay.shape))


def _s4d_parts(weights: Tensors) -> tuple[Tensor, Tensor]:
    a = torch.complex(-weights["kernel.log_A_real"].exp(), weights["kernel.A_imag"])
    return _discrete(a, weights["kernel.log_dt"].exp()[:, None], "zoh")


def s4d(u: Tensor, weights: Tensors, scan: Scan) -> Tensors:
    """Outputs and states of the layer, and its kernel: the response to an impulse."""
    decay, gain = _s4d_parts(weights)
    C = torch.view_as_complex(weights["kernel.C"])
    x = _s4d_states(u, decay, gain, scan)
    y_ssm = 2 * (x * C).sum(-1).real.mT + weights["D"][:, None] * u
    mixed = functional.conv1d(
        functional.gelu(y_ssm), weights["output_linear.0.weight"], weights["output_linear.0.bias"]
    )
    half = u.shape[-1] // 2
    impulse = torch.zeros_like(u[:1])
    impulse[..., 0] = 1
    kernel = 2 * (_s4d_states(impulse, decay, gain, scan) * C).sum(-1).real.mT
    found = {"final_state": x[:, -1], "mid_state": x[:, half - 1], "y_ssm": y_ssm, "kernel": kernel[0]}
    return {**found, "y": functional.glu(mixed, dim=1)}


def s4d_variant(u: Tensor, weights: Tensors, scan: Scan, rule: str) -> Tensors:
    a = torch.complex(-weights["A_real"].exp(), -weights["A_imag"])
    decay, gain = _discrete(a, weights["inv_dt"].exp(), rule)
    gain = gain * torch.view_as_complex(weights["B"])[0]
    C = torch.view_as_complex(weights["C"])[0]
    impulse = torch.zeros_like(u[:1])
    impulse[..., 0] = 1
    x, response = (_s4d_states(t, decay, gain, scan) for t in (u, impulse))
    y, kernel = (2 * (states * C).sum(-1).real.mT for states in (x, response))
    return {"y_step": y[:, None], "final_state": x[:, -1], "kernel": kernel}


def _s4d_variants() -> list[str]:
    folder = files.find("s4d")
    names = load_file(folder / "weights.safetensors") if folder is not None else {}
    return sorted({name.split(".")[1] for name in names if name.startswith("variant.")}) or ["no golden"]


def test_s4d(golden: Callable[[str], Path]) -> None:
    weights, io = _load(golden("s4d"))
    u = io["u"].requires_grad_()
    used = {name: weight for name, weight in weights.items() if not name.startswith("variant.")}
    _check(s4d(u, used, scan_op), u, used, {n: t for n, t in io.items() if not n.startswith("variant.")})
    # Continuing from the golden state half-way gives the rest.
    decay, gain = _s4d_parts(used)
    half = u.shape[-1] // 2
    drive = (u[..., half:].mT[..., None] * gain).flatten(2)
    middle = torch.view_as_complex(io["mid_state"]).flatten(1)
    rest = ops.diagonal_scan(drive, decay.flatten(), initial_state=middle)
    _close(rest[:, -1].unflatten(1, tuple(decay.shape)), io["final_state"], "final state from the one half-way")


@pytest.mark.parametrize("variant", _s4d_variants())
def test_s4d_variants(golden: Callable[[str], Path], variant: str) -> None:
    folder = golden("s4d")
    weights, io = _load(folder, f"variant.{variant}.")
    u = load_file(folder / "io.safetensors")["u"]
    _check(s4d_variant(u, weights, scan_op, variant.split("_", maxsplit=1)[0]), u, weights, io)


# ---- S5: (B, L, H), one system of P modes for all channels ----


def s5(u: Tensor, weights: Tensors, scan: Scan, case: dict[str, Any]) -> Tensors:
    """y (B, L, H), the forward scan's last state (B, P), the discrete diagonal (P) and input matrix (P, H)."""
    real = weights["Lambda_re"].clamp(max=-1e-4) if case["clip_eigs"] else weights["Lambda_re"]
    dt = case["step_rescale"] * weights["log_step"][:, 0].exp()
    decay, gain = _discrete(torch.complex(real, weights["Lambda_im"]), dt, case["discretisation"])
    B_bar = gain[:, None] * torch.view_as_complex(weights["B"])
    drive = u.to(B_bar.dtype) @ B_bar.mT
    forwards = scan(drive, decay)
    states = [forwards, *([scan(drive, decay, reverse=True)] if case["bidirectional"] else [])]
    names = ("C1", "C2") if case["bidirectional"] else ("C",)
    out = sum((x @ torch.view_as_complex(weights[C]).mT).real for x, C in zip(states, names, strict=True))
    y = (2 if case["conj_sym"] else 1) * out + weights["D"] * u
    return {"y": y, "final_state_fwd": forwards[:, -1], "Lambda_bar": decay, "B_bar": B_bar}


def s5_block(u: Tensor, weights: Tensors, scan: Scan, settings: dict[str, Any], prenorm: bool) -> Tensors:
    inner = {name.removeprefix("seq."): t for name, t in weights.items() if name.startswith("seq.")}

    def norm(x: Tensor) -> Tensor:
        return functional.layer_norm(x, x.shape[-1:], weights["norm.scale"], weights["norm.bias"], 1e-6)

    g = functional.gelu(s5(norm(u) if prenorm else u, inner, scan, settings)["y"], approximate="tanh")
    gate = torch.sigmoid(g @ weights["out2.kernel"] + weights["out2.bias"])
    g = (g @ weights["out1.kernel"] + weights["out1.bias"]) * gate if "out1.kernel" in weights else g * gate
    return {"y": u + g if prenorm else norm(u + g)}


@pytest.mark.parametrize("case", _cases("s5", lambda name, case: not _is_block(name, case)))
def test_s5(golden: Callable[[str], Path], case: str) -> None:
    folder = golden("s5")
    weights, io = _load(folder, f"{case}.")
    u = io["u"].requires_grad_()
    settings = json.loads((folder / "config.json").read_text())["cases"][case]
    _check(s5(u, weights, scan_op, settings), u, weights, io)


@pytest.mark.parametrize("case", _cases("s5", _is_block))
def test_s5_block(golden: Callable[[str], Path], case: str) -> None:
    folder = golden("s5")
    weights, io = _load(folder, f"{case}.")
    cases = json.loads((folder / "config.json").read_text())["cases"]
    settings = cases[cases[case]["ssm_settings_from"]]
    _check(s5_block(io["u"], weights, scan_op, settings, cases[case]["prenorm"]), io["u"], weights, io)


# ---- LRU: (B, L, H), N independent complex modes ----


def lru(u: Tensor, weights: Tensors, scan: Scan) -> Tensors:
    """y (B, L, H), the last state and the one half-way (B, N)."""
    decay = torch.exp(torch.complex(-weights["nu_log"].exp(), weights["theta_log"].exp()))
    B = torch.complex(weights["B_re"], weights["B_im"]) * weights["gamma_log"].exp()[:, None]
    x = scan(u.to(B.dtype) @ B.mT, decay)
    y = (x @ torch.complex(weights["C_re"], weights["C_im"]).mT).real + weights["D"] * u
    return {"y": y, "final_state": x[:, -1], "mid_state": x[:, u.shape[1] // 2 - 1]}


def lru_block(u: Tensor, weights: Tensors, scan: Scan, prenorm: bool) -> Tensors:
    inner = {name.removeprefix("seq."): t for name, t in weights.items() if name.startswith("seq.")}

    def norm(x: Tensor) -> Tensor:
        scale, bias = weights["normalization.scale"], weights["normalization.bias"]
        return functional.layer_norm(x, x.shape[-1:], scale, bias, 1e-6)

    g = functional.gelu(lru(norm(u) if prenorm else u, inner, scan)["y"], approximate="tanh")
    value = g @ weights["out1.kernel"] + weights["out1.bias"]
    g = value * torch.sigmoid(g @ weights["out2.kernel"] + weights["out2.bias"])
    return {"y": u + g if prenorm else norm(u + g)}


@pytest.mark.parametrize("case", _cases("lru", lambda name, case: not _is_block(name, case)))
def test_lru(golden: Callable[[str], Path], case: str) -> None:
    weights, io = _load(golden("lru"), f"{case}.")
    u = io["u"].requires_grad_()
    _check(lru(u, weights, scan_op), u, weights, io)


@pytest.mark.parametrize("case", _cases("lru", _is_block))
def test_lru_block(golden: Callable[[str], Path], case: str) -> None:
    folder = golden("lru")
    weights, io = _load(folder, f"{case}.")
    prenorm = json.loads((folder / "config.json").read_text())["cases"][case]["prenorm"]
    _check(lru_block(io["u"], weights, scan_op, prenorm), io["u"], weights, io)


# ---- another set of the same layout: loops in float64 ----


def _draw(shapes: dict[str, tuple[int, ...]], seed: int) -> Tensors:
    generator = torch.Generator().manual_seed(seed)
    made = {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in shapes.items()}
    for name, drawn in made.items():
        last = name.rpartition(".")[2]
        if last in ("log_dt", "inv_dt", "log_step"):
            made[name] = 0.5 * drawn - 3
        elif last in ("A_real", "log_A_real", "nu_log", "gamma_log"):
            made[name] = 0.3 * drawn - 0.7
        elif last == "Lambda_re":
            made[name] = -drawn.abs() - 0.1
        elif last in ("kernel", "weight"):
            made[name] = 0.4 * drawn
    return made


def _record(
    folder: Path, prefix: str, run: Callable[..., Tensors], u: Tensor, weights: Tensors, *, grads: bool
) -> None:
    """Weights, outputs and, where asked for, gradients of sum(y * cotangent); a variant has no `u`."""
    # What is read back is float32, so that is what the loops begin with.
    leaves = {name: t.float().double().requires_grad_() for name, t in {"u": u, **weights}.items()}
    given = {name: t for name, t in leaves.items() if name != "u"}
    found = run(leaves["u"], given)
    io = {name: torch.view_as_real(t) if t.is_complex() else t for name, t in found.items()}
    if grads:
        io["cotangent"] = torch.randn(found["y"].shape, generator=torch.Generator().manual_seed(1)).double()
        (found["y"] * io["cotangent"]).sum().backward()
        io |= {f"grad.{name}": t.grad for name, t in leaves.items() if t.grad is not None}
    if not prefix.startswith("variant."):
        io["u"] = leaves["u"]
    files.write(folder, "weights.safetensors", {prefix + name: t.float() for name, t in given.items()})
    files.write(folder, "io.safetensors", {prefix + name: t.float() for name, t in io.items()})


def write_golden(root: Path) -> None:
    """Folders `s4d`, `s5` and `lru` with other sizes and cases."""
    H, n, L = 4, 5, 30
    modes = ("kernel.log_A_real", "kernel.A_imag")
    shapes = {**dict.fromkeys(modes, (H, n)), "kernel.C": (H, n, 2), "kernel.log_dt": (H,), "D": (H,)}
    shapes |= {"output_linear.0.weight": (2 * H, H, 1), "output_linear.0.bias": (2 * H,)}
    folder, u = root / "s4d", _draw({"u": (3, H, L)}, 0)["u"]
    files.write(folder, "config.json", {"d_model": H, "d_state": 2 * n, "length": L})
    _record(folder, "", partial(s4d, scan=scan_loop), u, _draw(shapes, 1), grads=True)
    variant = {"A_real": (H, n), "A_imag": (H, n), "B": (1, H, n, 2), "C": (1, H, n, 2), "inv_dt": (H, 1)}
    for index, name in enumerate(("zoh_random", "bilinear_random")):
        run = partial(s4d_variant, scan=scan_loop, rule=name.split("_")[0])
        _record(folder, f"variant.{name}.", run, u, _draw(variant, 2 + index), grads=False)

    folder, P = root / "s5", 6
    one = {"conj_sym": False, "discretisation": "bilinear", "clip_eigs": False, "step_rescale": 0.7}
    cases: dict[str, Any] = {
        "one_way": {**one, "bidirectional": False},
        "two_ways": {**one, "conj_sym": True, "discretisation": "zoh", "clip_eigs": True, "bidirectional": True},
        "block_gate": {"ssm_settings_from": "one_way", "prenorm": False},
    }
    files.write(folder, "config.json", {"cases": cases})
    system = {**dict.fromkeys(("Lambda_re", "Lambda_im"), (P,)), "B": (P, H, 2), "D": (H,), "log_step": (P, 1)}
    for index, name in enumerate(("one_way", "two_ways")):
        matrices = dict.fromkeys(("C1", "C2") if cases[name]["bidirectional"] else ("C",), (H, P, 2))
        weights = _draw({**system, **matrices}, 5 + index)
        drawn = _draw({"u": (2, 21 + index, H)}, index)["u"]
        _record(folder, f"{name}.", partial(s5, scan=scan_loop, case=cases[name]), drawn, weights, grads=True)
    ends = {"norm.scale": (H,), "norm.bias": (H,), "out2.kernel": (H, H), "out2.bias": (H,)}
    inner = {f"seq.{name}": shape for name, shape in {**system, "C": (H, P, 2)}.items()}
    run = partial(s5_block, scan=scan_loop, settings=cases["one_way"], prenorm=False)
    _record(folder, "block_gate.", run, _draw({"u": (2, 17, H)}, 9)["u"], _draw({**inner, **ends}, 8), grads=False)

    folder, N = root / "lru", 7
    files.write(folder, "config.json", {"cases": {"short": {}, "block_first": {"prenorm": True}}})
    modes = ("nu_log", "theta_log", "gamma_log")
    system = {**dict.fromkeys(modes, (N,)), **dict.fromkeys(("B_re", "B_im"), (N, H)), "D": (H,)}
    system |= dict.fromkeys(("C_re", "C_im"), (H, N))
    drawn = _draw({"u": (3, 26, H)}, 3)["u"]
    _record(folder, "short.", partial(lru, scan=scan_loop), drawn, _draw(system, 10), grads=True)
    ends = {f"normalization.{name}": (H,) for name in ("scale", "bias")}
    ends |= {f"out{i}.{name}": shape for i in (1, 2) for name, shape in (("kernel", (H, H)), ("bias", (H,)))}
    inner = {f"seq.{name}": shape for name, shape in system.items()}
    run = partial(lru_block, scan=scan_loop, prenorm=True)
    _record(folder, "block_first.", run, drawn, _draw({**inner, **ends}, 11), grads=False)
