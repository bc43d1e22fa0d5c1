"""Images a second of each family's small variant, in PyTorch and natively, beside PyTorch's ResNet-50 and DeiT-tiny,
and beside the time that its multiply-adds would take at the machine's rate.
"""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

import mambasdk
from images.timing import Call, medians
from mambasdk import runtime
from mambasdk.package import save_package

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from exported import networks  # plain networks of PyTorch, which the tests export too

SIZE = 224
VARIANTS = (
    "vim-tiny",
    "vmamba-tiny-vanilla",
    "vmamba-tiny-s1l8",
    "plainmamba-l1",
    "vssd-tiny",
    "efficientvmamba-tiny",
    "msvmamba-tiny",
    "msvmamba-v3-tiny",
    "hrvmamba-tiny",
)
PEERS = {
    "deit-tiny": lambda: networks.DeiT(SIZE, 192, 12, 3),
    "resnet-50": networks.ResNet,
}


def measure(quick: bool, rates: dict[str, float], threads: int) -> dict[str, Any]:
    """Rows by model and batch; rates: the machine's, by `machine_rates`, empty where they are not known."""
    rows: list[dict[str, Any]] = []
    runtime.set_num_threads(threads)
    for batch in (1,) if quick else (1, 8):
        torch.manual_seed(0)
        image = torch.randn(batch, 3, SIZE, SIZE)
        with tempfile.TemporaryDirectory() as folder:
            calls: dict[str, Call] = {}
            adds: dict[str, float] = {}
            for name in VARIANTS[:2] if quick else VARIANTS:
                model: Any = mambasdk.create_model(name).eval()
                adds[name] = _multiply_adds(model, image)
                calls[name] = partial(model, image)
                calls[f"{name}, native"] = _native(model, Path(folder) / name, image)
            for name, make in PEERS.items():
                peer = make().eval()
                adds[name] = _multiply_adds(peer, image)
                calls[name] = partial(peer, image)
            seconds = medians(calls, 3 if quick or batch > 1 else 9)
        for name, value in seconds.items():
            row = {"model": name, "batch": batch, "seconds": value, "images_per_second": batch / value}
            row["multiply_adds"] = adds[name.removesuffix(", native")]
            if rates:
                row["share_of_rate"] = row["multiply_adds"] / rates["multiply_adds"] / value
            rows.append(row)
            share = f"  {row['share_of_rate']:6.1%} of the rate" if rates else ""
            print(f"{batch}  {name:30s} {batch / value:8.1f} images/s  {row['multiply_adds'] / 1e9:7.2f} G{share}")
    return {"rows": rows, "rates": rates}


def _multiply_adds(model: Any, image: Any) -> float:
    """Half of the FLOPs of a call, scans among them."""
    with FlopCounterMode(display=False) as counter:
        model(image)
    return counter.get_total_flops() / 2


def _native(model: Any, folder: Path, image: Any) -> Call:
    save_package(model, folder, engine="native", golden=False)
    session = runtime.load_package(folder).session()
    given = {"image": image.numpy()}
    return lambda: session.run(given, ["logits"])
