"""Fixtures: the golden tensors of SSAMBA."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import mambasdk
from mambasdk_audio.families.ssamba import Ssamba, for_fine_tuning


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Models of a few thousand parameters: a second thread would only be waited for."""
    torch.set_num_threads(1)


@dataclass
class SsambaGolden:
    """config and weights as upstream writes them; io: what went in and came out."""

    config: dict[str, Any]
    weights: dict[str, torch.Tensor]
    io: dict[str, torch.Tensor]

    @classmethod
    def read(cls, folder: Path) -> SsambaGolden:
        return cls(
            json.loads((folder / "config.json").read_text()),
            load_file(folder / "weights.safetensors"),
            load_file(folder / "io.safetensors"),
        )

    def pretrained(self, **changes: Any) -> Ssamba:
        model: Any = mambasdk.import_checkpoint("ssamba", {**self.config, **changes}, self.weights)
        return model.eval()  # type: ignore[no-any-return]

    def fine_tuned(self, pooling: Any) -> Ssamba:
        """The golden classifier: the pretrained encoder on another grid, under the golden head."""
        tuned = for_fine_tuning(self.pretrained(), **self.config["finetune"], pooling=pooling, upstream_quirks=True)
        prefix = "finetune.mlp_head."
        tuned.mlp_head.load_state_dict(
            {name.removeprefix(prefix): tensor for name, tensor in self.io.items() if name.startswith(prefix)}
        )
        return tuned.eval()

    def tuned_grid(self, tuned: Ssamba) -> dict[str, int]:
        """What upstream's configuration has to say of a fine-tuned file's grid."""
        return {name: getattr(tuned.config, name) for name in ("input_fdim", "input_tdim", "fstride", "tstride")}


@pytest.fixture(scope="session")
def upstream(golden: Callable[[str], Path]) -> SsambaGolden:
    """The golden tensors of SSAMBA."""
    return SsambaGolden.read(golden("ssamba"))
