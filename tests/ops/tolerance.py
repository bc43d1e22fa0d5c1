"""How far a kernel may be from the float64 reference."""

from __future__ import annotations

import torch

# Relative to |reference| + its root mean square. For the low precisions, one rounding (half a unit in the last place).
RELATIVE = {
    torch.float64: 1e-12,
    torch.float32: 1e-5,
    torch.bfloat16: 2.0**-8,
    torch.float16: 2.0**-11,
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


def floor(inputs: torch.dtype | None, roundings: int, product_roundings: int) -> float:
    """What an operation on `inputs` owes at most, whatever the dtype of an output.

    roundings: how many roundings to the inputs' dtype stand in series, the result's among them. product_roundings: how
    many more where matrix products take bfloat16 operands; then float32 states and gradients have them too.
    Without those, float32 outputs beside low-precision inputs are as accurate as the exponentials that serve them: an
    eighth of float16's rounding.
    """
    if inputs == torch.bfloat16 and product_roundings:
        return (roundings + product_roundings) * RELATIVE[inputs]
    if inputs in (torch.bfloat16, torch.float16):
        return roundings * RELATIVE[inputs] if roundings > 1 else RELATIVE[torch.float16] / 8
    return 0.0
