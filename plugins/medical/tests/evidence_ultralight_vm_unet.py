"""UltraLight VM-UNet: the published count, and what holds for all."""

from __future__ import annotations

from pathlib import Path

from mambasdk.testing import families

EVIDENCE = (
    families.Evidence(
        "ultralight_vm_unet",
        dear=["test_compiled_model_takes_any_size"],  # tracing with free sizes
        forms={
            "no bridge": {"bridge": False},
            "colour, one class": {"in_channels": 3, "num_classes": 1, "expand": 1, "d_conv": 3},
        },
        counts={"ultralight-vm-unet": 49_457},  # arXiv 2403.20035 says 0.049 million
    ),
)


def write_golden(root: Path) -> None:
    """None: no tensors of the authors' code are recorded; test_ultralight_vm_unet.py has the definition in loops."""
