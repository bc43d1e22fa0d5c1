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

LABELS = 5  # classes of the golden's fine-tuned head


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
    shapes: dict[str, list[int]]

    @classmethod
    def read(cls, folder: Path) -> SsambaGolden:
        return cls(
            json.loads((folder / "config.json").read_text()),
            load_file(folder / "weights.safetensors"),
            load_file(folder / "io.safetensors"),
            json.loads((folder / "state_dict_shapes.json").read_text()),
        )

    def pretrained(self, **changes: Any) -> Ssamba:
        model: Any = mambasdk.import_checkpoint("ssamba", {**self.config, **changes}, self.weights)
        return model.eval()  # type: ignore[no-any-return]

    def fine_tuned(self, pooling: Any) -> Ssamba:
        """The golden classifier: the pretrained encoder on another grid, under the golden head."""
        tuned = for_fine_tuning(
            self.pretrained(), LABELS, input_tdim=96, stride=10, pooling=pooling, upstream_quirks=True
        )
        prefix = "finetune.mlp_head."
        tuned.mlp_head.load_state_dict(
            {name.removeprefix(prefix): tensor for name, tensor in self.io.items() if name.startswith(prefix)}
        )
        return tuned.eval()


@pytest.fixture(scope="session")
def upstream(golden: Callable[[str], Path]) -> SsambaGolden:
    """The golden tensors of SSAMBA."""
    return SsambaGolden.read(golden("ssamba"))
