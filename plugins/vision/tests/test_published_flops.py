"""Multiply-adds of published models, as their papers count them: of products, and 9 for each element of a scan."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

import mambasdk
import mambasdk.ops.flops

_SCAN = torch.ops.mambasdk.selective_scan
_PER_STATE = 9  # of a step's recurrence, for each channel and state, as vision papers count (arXiv 2401.10166)

# Millions of multiply-adds at 224 x 224: of products and convolutions, and of scans; what the papers sum and round.
PUBLISHED = {
    "plainmamba-l1": (1965, 1040, 3.0),
    "plainmamba-l2": (5979, 2081, 8.1),
    "plainmamba-l3": (10766, 3642, 14.4),
    "efficientvmamba-tiny": (657, 130, 0.8),
    "efficientvmamba-small": (1143, 173, 1.3),
    "efficientvmamba-base": (3689, 260, 4.0),
}


class Scans(TorchDispatchMode):
    """Adds up batch * routes * steps * channels * states of the scans that are run."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func._overloadpacket == _SCAN:
            given = {argument.name: value for argument, value in zip(func._schema.arguments, args, strict=False)}
            batch, _, channels = given["u"].shape
            self.elements += batch * given["order"].numel() * channels * given["A"].shape[-1]
        return out


def counted(name: str, size: int) -> tuple[float, float]:
    """Millions of multiply-adds of products and of scans, for one image of size x size."""
    with torch.device("meta"), torch.no_grad():
        model: Any = mambasdk.create_model(name).eval()
        image = torch.empty(1, 3, size, size)
        with FlopCounterMode(display=False) as counter:
            model(image)
        with Scans() as scans:
            model(image)
    counts = dict(counter.get_flop_counts()["Global"])
    assert counts.pop(_SCAN) > 0
    return sum(counts.values()) / 2e6, _PER_STATE * scans.elements / 1e6


@pytest.mark.parametrize("name", PUBLISHED)
def test_multiply_adds_are_the_published_ones(name: str) -> None:
    products, scanned, published = PUBLISHED[name]
    found = counted(name, 224)
    assert found == pytest.approx((products, scanned), rel=0.01)
    assert sum(found) / 1000 == pytest.approx(published, abs=0.051)


def test_plainmamba_grows_with_the_pixels() -> None:
    """As arXiv 2403.17695 argues against attention, whose cost grows with their square."""
    assert sum(counted("plainmamba-l1", 1024)) / sum(counted("plainmamba-l1", 224)) == pytest.approx(
        (64 / 14) ** 2, rel=0.01
    )
