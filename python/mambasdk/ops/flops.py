"""What our operations cost, for `torch.utils.flop_counter.FlopCounterMode`.

Counted as torch counts: every multiplication and every addition of products and recurrences is one, a multiply-add two;
functions of single elements (exp, softplus, SiLU, norms) are none. A formula follows from what an operation means, not
from how a kernel computes it: `ssd` costs its recurrence, whatever chunks it is computed in. A derivative counts its
own recurrence and the states that it computes again. Operations without a formula here count nothing, those of plugins
too; `torch.utils.flop_counter.register_flop_formula` adds one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.utils.flop_counter import register_flop_formula

from mambasdk.ops._signature import Binding, Signature

Dims = Mapping[str, int]
Given = Mapping[str, Any]  # the call's arguments by name

# Per element of the state. decay * h + x * B: 3, C * h: 2.
_STATE = 5
# The states again: 3. With g the gradient of the state and q = g * h_before * decay: g * decay + C * dy: 3, the sums
# dC, dB and dx: 2 each, q: 2.
_STATE_BACKWARD = 3 + 3 + 6 + 2


def _linear(d: Dims, _: Given, rows: int) -> int:
    return 2 * rows * d["I"] * d["O"]


def _linear_backward(d: Dims, given: Given, rows: int) -> int:
    return 2 * _linear(d, given, rows)  # for the input, for the weights


def _linear_packed(d: Dims, _: Given, rows: int) -> int:
    return 2 * rows * d["K"] * d["features"]


def _matmul(d: Dims, _: Given, matrices: int) -> int:
    return 2 * matrices * d["M"] * d["K"] * d["N"]


def _attention(d: Dims, _: Given, __: int) -> int:
    """As torch: q k^T and its product with v, of hidden keys too."""
    return 2 * d["B"] * d["H"] * d["L"] * d["S"] * (d["E"] + d["F"])


def _gru(d: Dims, _: Given, __: int) -> int:
    """Of all steps, those behind `lengths` too."""
    # h weight^T of three gates; then three sums with what x gives, r g, and 1 - z, (1 - z) n + z h.
    return d["B"] * d["L"] * d["N"] * (2 * 3 * d["N"] + 3 + 1 + 4)


def _long_convolution(d: Dims, given: Given, _: int) -> int:
    """The sums of products, as of causal_conv1d, whatever transforms they are computed by."""
    skip = 0 if given["skip"] is None else 2
    return d["B"] * d["L"] * d["D"] * (2 * min(d["K"], d["L"]) + skip)


def _maps(d: Dims, given: Given, _: int) -> int:
    """As torch: each output sums its window, what lies in the padding included."""
    kernel = _kernel(d)
    windows = 1
    for extent, letter, taps in zip((d["D"], d["H"], d["W"]), "dhw", kernel, strict=True):
        padding = d[f"padding_{letter}"] + d[f"padding_after_{letter}"]
        windows *= (extent + padding - d[f"dilation_{letter}"] * (taps - 1) - 1) // d[f"stride_{letter}"] + 1
    columns = d["features"] if "features" in d else d["O"]
    groups: int = given.get("groups", 1)
    return 2 * d["B"] * windows * columns * math.prod(kernel) * d["C"] // groups


def _maps_transposed(d: Dims, _: Given, __: int) -> int:
    """As torch: each element of x is multiplied by its group's weights."""
    columns = d["features"] if "features" in d else d["G"]
    return 2 * d["B"] * d["D"] * d["H"] * d["W"] * d["C"] * columns * math.prod(_kernel(d))


def _kernel(d: Dims) -> tuple[int, ...]:
    names = ("kernel_d", "kernel_h", "kernel_w") if "kernel_d" in d else ("KD", "KH", "KW")
    return tuple(d[name] for name in names)


def _convolution(d: Dims, _: Given, __: int) -> int:
    return 2 * d["B"] * d.get("L", 1) * d["D"] * d["K"]


def _convolution_backward(d: Dims, given: Given, rows: int) -> int:
    return 2 * _convolution(d, given, rows)  # for the input, for the weights


def _deformable(d: Dims, _: Given, __: int) -> int:
    """Of each channel: four elements a tap, times their weight and added. Weights, which a group shares, are none."""
    return 2 * 4 * d["kernel_h"] * d["kernel_w"] * d["B"] * d["h"] * d["w"] * d["C"]


def _deformable_backward(d: Dims, given: Given, rows: int) -> int:
    return 2 * _deformable(d, given, rows)  # added to x; the sums over channels of grad * x, for offsets and masks


def _scan(d: Dims, given: Given, _: int) -> int:
    steps = d["B"] * d.get("K", 1) * d.get("M", 1) * d["D"]
    # delta * A per state, delta * u per channel.
    each = (1 + _STATE) * d["N"] + 1 + (2 if given["D"] is not None else 0)
    return steps * each + _gate(given)


def _scan_backward(d: Dims, given: Given, _: int) -> int:
    steps = d["B"] * d.get("K", 1) * d.get("M", 1) * d["D"]
    # Besides: delta * A: 1, the sums ddelta and dA: 2 each. Per channel delta * u: 1, du and ddelta from d(delta u): 3.
    each = (1 + _STATE_BACKWARD + 4) * d["N"] + 4 + (4 if given["D"] is not None else 0)
    return steps * each + 2 * _gate(given)


def _ssd(d: Dims, given: Given, _: int) -> int:
    steps = d["B"] * d.get("L", 1) * d["H"]
    scaled = d["P"] if given["dt_on_x"] else 0  # dt * x
    skip = 2 * d["P"] if given["D"] is not None else 0
    return steps * (1 + _STATE * d["P"] * d["N"] + scaled + skip) + _gate(given)  # dt * A per head


def _ssd_backward(d: Dims, given: Given, _: int) -> int:
    steps = d["B"] * d.get("L", 1) * d["H"]
    scaled = 4 * d["P"] if given["dt_on_x"] else 0  # dt * x again; dx, and the sum over x of ddt
    skip = 4 * d["P"] if given["D"] is not None else 0
    return steps * (1 + _STATE_BACKWARD * d["P"] * d["N"] + 4 + scaled + skip) + 2 * _gate(given)  # ddt and dA


def _mlstm(d: Dims, _: Given, __: int) -> int:
    # k / sqrt(E), b k; of the normaliser decay * n + b k: 2, n * q: 2. Per head the gate's logarithm + m.
    return d["B"] * d.get("L", 1) * d["H"] * (_STATE * d["E"] * d["E"] + (2 + 4) * d["E"] + 1)


def _mlstm_backward(d: Dims, _: Given, __: int) -> int:
    # Of the normaliser's row of the state, whose value is 1: the row again 2, its gradient 3, dq 2, dk 1, q 2. Besides
    # k / sqrt(E), b k, dk / sqrt(E), dh / divisor, and the divisor's gradient from dh * h: 2.
    each = _STATE_BACKWARD * d["E"] * d["E"] + (10 + 4 + 2) * d["E"] + 1
    return d["B"] * d.get("L", 1) * d["H"] * each


def _gate(given: Given) -> int:
    return 0 if given["z"] is None else int(given["z"].numel())


def _recurrence(d: Dims, given: Given, _: int) -> int:
    return 2 * _products(given["a"]) * d["B"] * d["L"] * d["D"]


def _recurrence_backward(d: Dims, given: Given, _: int) -> int:
    return 4 * _products(given["a"]) * d["B"] * d["L"] * d["D"]  # g = grad + a * g, and the sum of g * x for a


def _products(a: torch.Tensor) -> int:
    """Real multiply-adds in one."""
    return 4 if a.is_complex() else 1


FORMULAS: dict[str, Callable[[Dims, Given, int], int]] = {
    "linear": _linear,
    "linear_packed": _linear_packed,
    "grouped_linear": _linear,
    "grouped_linear_backward": _linear_backward,
    "matmul": _matmul,
    "attention": _attention,
    "gru": _gru,
    "fft_convolution": _long_convolution,
    "convolution": _maps,
    "convolution_packed": _maps,
    "convolution_transposed": _maps_transposed,
    "convolution_transposed_packed": _maps_transposed,
    "deformable_sample": _deformable,
    "deformable_sample_backward": _deformable_backward,
    "causal_conv1d": _convolution,
    "causal_conv1d_backward": _convolution_backward,
    "causal_conv1d_update": _convolution,
    "causal_conv1d_update_backward": _convolution_backward,
    "selective_scan": _scan,
    "selective_scan_backward": _scan_backward,
    "selective_state_update": _scan,
    "selective_state_update_backward": _scan_backward,
    "ssd": _ssd,
    "ssd_backward": _ssd_backward,
    "ssd_state_update": _ssd,
    "ssd_state_update_backward": _ssd_backward,
    "mlstm": _mlstm,
    "mlstm_backward": _mlstm_backward,
    "mlstm_state_update": _mlstm,
    "mlstm_state_update_backward": _mlstm_backward,
    "diagonal_scan": _recurrence,
    "diagonal_scan_backward": _recurrence_backward,
}


def register(packet: Any, signature: Signature) -> None:
    """Tell torch the formula of an operation, where it has one."""
    formula = FORMULAS.get(signature.name)
    if formula is None:
        return

    @register_flop_formula(packet, get_raw=True)
    def count(*args: Any, out_val: Any = None, **kwargs: Any) -> int:
        given = {**signature.named(args), **kwargs}
        binding = Binding(signature, given)
        rows = 1
        for extent in binding.lead or ():
            rows *= extent
        return formula(binding.dims, given, rows)
