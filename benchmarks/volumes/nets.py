"""A volume through LightM-UNet, U-Mamba Bot and xLSTM-UNet Bot, beside the residual U-Net of the same stages."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from timing import Call, medians

import mambasdk
from mambasdk import runtime
from mambasdk.package import save_package

PEER = "residual_unet"
NETS = (PEER, "lightm_unet", "u_mamba", "xlstm_unet")
SIDE, SMALL = 128, 64
# Six stages as nnU-Net plans them for a cube of 128.
STAGES: dict[str, Any] = {
    "strides": [[1, 1, 1]] + [[2, 2, 2]] * 5,
    "kernel_sizes": [[3, 3, 3]] * 6,
    "n_conv_per_stage": [2] * 6,
    "n_conv_per_stage_decoder": [2] * 5,
    "features_per_stage": [32, 64, 128, 256, 320, 320],
}
Memory = Callable[[str, str], float]


def model(name: str, side: int) -> Any:
    """In eval mode, one channel and three classes."""
    torch.manual_seed(0)
    size = {"patch_size": (side,) * 3, "in_channels": 1, "num_classes": 3}
    if name == "lightm_unet":
        return mambasdk.create_model("lightm-unet-3d", **size).eval()
    placed = {} if name == PEER else {"placement": "bot"}
    return mambasdk.create_model(name, **size, **STAGES, **placed).eval()


def calls(quick: bool, names: Sequence[str]) -> dict[str, Call]:
    """`NET` in PyTorch and `NET, native`: a forward pass without gradients."""
    side = SMALL if quick else SIDE
    image = torch.randn(1, 1, side, side, side)
    found: dict[str, Call] = {}
    for name in names:
        net, native = name.removesuffix(", native"), name.endswith(", native")
        made = model(net, side)
        found[name] = _native(made, image) if native else lambda made=made: _forward(made, image)
    return found


def warm_up() -> None:
    """A small volume through the peer."""
    _forward(model(PEER, SMALL), torch.randn(1, 1, SMALL, SMALL, SMALL))


def measure(quick: bool, memory: Memory, rates: dict[str, float]) -> dict[str, Any]:
    """Seconds and MiB of each net, and ratios to the residual U-Net's; natively too."""
    names = [*NETS, *(f"{name}, native" for name in NETS)]
    seconds = medians(calls(quick, names), 1 if quick else 3)
    used = {name: memory("volumes", name) for name in names}
    rows = {}
    for name in names:
        ratio = seconds[name] / seconds[PEER]
        rows[name] = {"seconds": seconds[name], "MiB": used[name], "time_ratio": ratio}
        print(f"{name:24s} {seconds[name]:8.2f} s {used[name]:9.0f} MiB  {ratio:5.2f} x the residual U-Net's time")
    parameters = {name: sum(p.numel() for p in model(name, SMALL).parameters()) for name in NETS}
    return {"side": SMALL if quick else SIDE, "rows": rows, "parameters": parameters}


def _forward(net: Any, image: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return net(image)  # type: ignore[no-any-return]


def _native(net: Any, image: torch.Tensor) -> Call:
    with tempfile.TemporaryDirectory() as folder:
        save_package(net, Path(folder) / "package", golden=False)
        session = runtime.load_package(Path(folder) / "package").session()
    given = {"image": image.numpy()}
    return lambda: session.run(given)
