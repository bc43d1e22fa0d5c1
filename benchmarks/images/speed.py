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
from timing import Call, medians, multiply_adds

import mambasdk
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
    torch.manual_seed(0)
    variants = VARIANTS[:2] if quick else VARIANTS
    with tempfile.TemporaryDirectory() as folder:
        models: dict[str, Any] = {name: mambasdk.create_model(name).eval() for name in variants}
        sessions = {f"{name}, native": _native(model, Path(folder) / name) for name, model in models.items()}
        models |= {name: make().eval() for name, make in PEERS.items()}
        for batch in (1,) if quick else (1, 8):
            image = torch.randn(batch, 3, SIZE, SIZE)
            calls: dict[str, Call] = {name: partial(model, image) for name, model in models.items()}
            given = {"image": image.numpy()}
            calls |= {name: partial(session.run, given, ["logits"]) for name, session in sessions.items()}
            seconds = medians(calls, 3 if quick or batch > 1 else 9)
            adds = {name: multiply_adds(model, image) for name, model in models.items()}
            rows += _rows(batch, seconds, adds, rates)
    return {"rows": rows, "rates": rates}


def _rows(
    batch: int, seconds: dict[str, float], adds: dict[str, float], rates: dict[str, float]
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for name, value in seconds.items():
        row = {"model": name, "batch": batch, "seconds": value, "images_per_second": batch / value}
        row["multiply_adds"] = adds[name.removesuffix(", native")]
        if rates:
            row["share_of_rate"] = row["multiply_adds"] / rates["multiply_adds"] / value
        rows.append(row)
        share = f"  {row['share_of_rate']:6.1%} of the rate" if rates else ""
        print(
            f"{batch}  {name:30s} {batch / value:8.1f} images/s  {row['multiply_adds'] / batch / 1e9:7.2f} G{share}",
            flush=True,
        )
    return rows


def _native(model: Any, folder: Path) -> Any:
    save_package(model, folder, engine="native", golden=False)
    return runtime.load_package(folder).session()
