"""How far a kernel may be from the float64 reference."""

from __future__ import annotations

import torch

# Relative to |reference| + its root mean square. Low precision: one rounding of the result (half a unit in the last place,
# 2^-9 and 2^-12), and what the roundings of intermediate sums add.
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


def assert_close(actual: torch.Tensor, reference: torch.Tensor, what: str, factor: float = 1.0) -> None:
    """`actual` agrees with the float64 `reference` as well as its dtype allows."""
    assert actual.shape == reference.shape, f"{what}: shape {tuple(actual.shape)}, expected {tuple(reference.shape)}"
    if not actual.is_floating_point() and not actual.is_complex():
        assert torch.equal(actual, reference.to(actual.dtype)), f"{what}: differs"
        return
    limit = RELATIVE[actual.dtype] * factor
    found = error(actual, reference)
    assert found <= limit, f"{what}: error {found:.3g}, expected at most {limit:.3g}"
