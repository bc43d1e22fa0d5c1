"""Multiply-adds of the variants at 224 x 224, counted by torch, against those of the papers and the published files."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import mambasdk
from mambasdk_vision.families.msvmamba import MS2D

# 10^9 multiply-adds, with those of attention and scans (arXiv 2407.18559, 2405.14174; of the authors' code).
VSSD = {"vssd-micro": 2.39, "vssd-tiny": 4.66, "vssd-small": 7.71, "vssd-base": 16.65}
MSVMAMBA = {
    "msvmamba-nano": 0.861,
    "msvmamba-micro": 1.503,
    "msvmamba-tiny": 4.558,
    "msvmamba-v3-tiny": 5.100,
    "msvmamba-v3-small": 8.721,
    "msvmamba-v3-base": 16.215,
}


def counted(model: Any) -> dict[str, int]:
    """Floating-point operations of one image by operation."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.empty(1, 3, 224, 224, device="meta"))
    return {str(operation): count for operation, count in counter.get_flop_counts()["Global"].items()}


@pytest.mark.parametrize("variant", VSSD)
def test_vssd(variant: str) -> None:
    found = sum(counted(mambasdk.create_model(variant, device="meta").eval()).values()) / 2
    assert found / 1e9 == pytest.approx(VSSD[variant], rel=0.002)


@pytest.mark.parametrize("variant", MSVMAMBA)
def test_msvmamba(variant: str) -> None:
    """The authors count 9 N + 1 for a step of a channel, and their code projects a pixel of the map at half resolution
    for each of its three segments; here it is projected once.
    """
    model = mambasdk.create_model(variant, device="meta").eval()
    again: list[int] = []

    def note(mixer: Any, arguments: Any, _: Any) -> None:
        height, width = arguments[0].shape[1:3]
        pixels = -(-height // 2) * -(-width // 2)
        assert mixer.d_state == 1
        again.append(2 * pixels * mixer.d_inner * 2 * (mixer.dt_rank + 1))

    for module in model.modules():
        if isinstance(module, MS2D):
            module.register_forward_hook(note)
    counts = counted(model)
    scan = sum(count for name, count in counts.items() if "selective_scan" in name)
    steps = scan // 9  # 6 N + 3, see mambasdk.ops.flops
    found = (sum(counts.values()) - scan) / 2 + 10 * steps + sum(again)
    assert found / 1e9 == pytest.approx(MSVMAMBA[variant], rel=0.002)
