"""MedMamba: the published counts, and what holds for all."""

from __future__ import annotations

from pathlib import Path

from mambasdk.testing import families

EVIDENCE = (
    families.Evidence(
        "medmamba",
        dear=["test_compiled_model_takes_any_size"],  # minutes of tracing with free height and width
        forms={
            "maps": {"out_indices": [0, 1, 2, 3]},
            "two stages, two blocks": {"depths": [2, 1], "dims": [6, 10], "in_chans": 1},
        },
        counts={"medmamba-t": 14_457_222, "medmamba-s": 18_625_158, "medmamba-b": 39_864_838},  # of six classes
    ),
)


def write_golden(root: Path) -> None:
    """None: no tensors of the authors' code are recorded; test_medmamba.py has the definition in loops."""
