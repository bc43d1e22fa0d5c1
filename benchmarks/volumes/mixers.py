"""A block of MHS-VM beside a block of VM-UNet at equal channels: the first scans half as many."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from timing import Call, medians

SIDE, CHANNELS = 64, 96
GOAL = 0.75


def calls(quick: bool, names: Sequence[str]) -> dict[str, Call]:
    """`multi-head scan` and `cross scan`, one map without gradients."""
    from mambasdk_medical.families.mhs_vm.mixer import VSSGate
    from mambasdk_medical.nn.vss import VSSBlock

    torch.manual_seed(0)
    side = 16 if quick else SIDE
    x = torch.randn(1, side, side, CHANNELS)
    makers: dict[str, Callable[[], Any]] = {
        "multi-head scan": lambda: VSSGate(CHANNELS),
        "cross scan": lambda: VSSBlock(CHANNELS),
    }
    blocks = {name: makers[name]().eval() for name in names}
    return {name: lambda block=block: _forward(block, x) for name, block in blocks.items()}


def warm_up() -> None:
    """A small map through both."""
    for call in calls(True, ("multi-head scan", "cross scan")).values():
        call()


def measure(quick: bool, memory: Callable[[str, str], float], rates: dict[str, float]) -> dict[str, Any]:
    """Seconds, MiB and the ratio."""
    names = ("multi-head scan", "cross scan")
    seconds = medians(calls(quick, names), 3 if quick else 21)
    used = {name: memory("mixers", name) for name in names}
    ratio = seconds[names[0]] / seconds[names[1]]
    for name in names:
        print(f"{name:24s} {1000 * seconds[name]:8.2f} ms {used[name]:7.1f} MiB")
    print(f"multi-head scan over cross scan: {ratio:.2f} (goal at most {GOAL})")
    return {"side": SIDE, "channels": CHANNELS, "seconds": seconds, "MiB": used, "ratio": ratio}


def _forward(block: Any, x: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return block(x)  # type: ignore[no-any-return]
