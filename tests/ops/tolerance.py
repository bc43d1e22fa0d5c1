"""How far a kernel may be from the float64 reference."""

from __future__ import annotations

import torch

# Relative to |reference| + its root mean square. Low precision: five roundings to the dtype (each half a unit in the
# last place, 2^-9 and 2^-12): one of the result, and two of intermediates that a contract stores in that dtype (a sum
# with the residual, a value before its gate), each of which a further factor may double.
RELATIVE = {
    torch.float64: 1e-12,
    torch.float32: 1e-5,
    torch.bfloat16: 5 * 2.0**-9,
    torch.float16: 5 * 2.0**-12,
    torch.complex64: 1e-5,
}


def error(actual: torch.Tensor, reference: torch.Tensor) -> float:
    """The largest deviation in units of the reference's size; nan where a number is missing."""
    if actual.numel() == 0:
        return 0.0
    wide = torch.complex128 if reference.is_complex() else torch.float64
    actual, reference = actual.to(wide), reference.to(wide)
    scale = reference.abs() + reference.abs().square().mean().sqrt()
    difference = (actual - reference).abs()
    return float((difference / scale.clamp_min(1e-300)).where(difference != 0, 0.0).max())


def assert_close(actual: torch.Tensor, reference: torch.Tensor, what: str, floor: float = 0.0) -> None:
    """`actual` agrees with the float64 `reference` as well as its dtype allows, or to `floor` where that is coarser."""
    assert actual.shape == reference.shape, f"{what}: shape {tuple(actual.shape)}, expected {tuple(reference.shape)}"
    if not actual.is_floating_point() and not actual.is_complex():
        assert torch.equal(actual, reference.to(actual.dtype)), f"{what}: differs"
        return
    limit = max(RELATIVE[actual.dtype], floor)
    found = error(actual, reference)
    assert found <= limit, f"{what}: error {found:.3g}, expected at most {limit:.3g}"


def floor(inputs: torch.dtype | None, low_precision_products: bool) -> float:
    """What an operation on `inputs` owes at most, whatever the dtype of an output.

    Beside low-precision inputs the exponentials of the float32 state are only so accurate that they do not show in
    the outputs (a sixteenth of float16's tolerance). Where matrix products round their operands to the inputs' dtype,
    two in series have twice the roundings.
    """
    if inputs not in (torch.bfloat16, torch.float16):
        return 0.0
    return 2 * RELATIVE[inputs] if low_precision_products else RELATIVE[torch.float16] / 16
