"""What only Mamba-3 has: arguments that upstream ignores, refused by name; generation from packages with ranks."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

import mambasdk
from mambasdk.errors import CheckpointError, InvalidArgumentError
from mambasdk.models import import_checkpoint
from mambasdk_language.quickstart import native_command

SIZES = {"d_model": 16, "n_layer": 1, "vocab_size": 256, "pad_vocab_size_multiple": 16}
MIXER = {"d_state": 8, "headdim": 8}


def weights(**options: Any) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    model: Any = mambasdk.create_model("mamba3", **SIZES, **MIXER, **options)
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def config(**mixer: Any) -> dict[str, Any]:
    return {**SIZES, "ssm_cfg": {"layer": "Mamba3", **MIXER, **mixer}, "attn_layer_idx": []}


@pytest.mark.parametrize("stray", ["mimo", "d_conv", "dt_limit", "conv_bias"])
def test_arguments_that_upstream_ignores_are_refused(stray: str) -> None:
    with pytest.raises(CheckpointError, match=f"ssm_cfg: unknown arguments: {stray}"):
        import_checkpoint("mamba3", config(**{stray: 4}), weights())


def test_other_ranks_and_groups_than_the_weights_are_refused() -> None:
    two = weights(is_mimo=True, mimo_rank=2)
    import_checkpoint("mamba3", config(is_mimo=True, mimo_rank=2, chunk_size=8), two)
    for wrong in ({"is_mimo": True, "mimo_rank": 4}, {}, {"is_mimo": True, "mimo_rank": 2, "ngroups": 2}):
        with pytest.raises(CheckpointError):
            import_checkpoint("mamba3", config(**wrong), two)


def test_the_decay_of_older_checkpoints_is_an_argument() -> None:
    given, tokens = weights(), torch.arange(24).reshape(2, 12)
    heavy, soft = (import_checkpoint("mamba3", config(A_activation=kind), given) for kind in ("heavy_tail", "softplus"))
    assert not torch.allclose(heavy(tokens).logits, soft(tokens).logits)
    with pytest.raises(CheckpointError, match="import it as family mamba3"):
        import_checkpoint("mamba2", config(), given)


def test_there_is_no_convolution_and_no_bias() -> None:
    for field in ({"d_conv": 3}, {"conv_bias": False}, {"bias": True}):
        with pytest.raises(InvalidArgumentError, match="has no effect"):
            mambasdk.create_model("mamba3", **SIZES, **MIXER, **field)


def test_the_program_without_python_writes_the_same_text(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model: Any = mambasdk.create_model("mamba3", **SIZES, **MIXER, is_mimo=True, mimo_rank=2, tie_embeddings=False)
    with torch.no_grad():
        model.lm_head.weight.normal_(std=0.4)
    mambasdk.save_package(model, tmp_path / "package")
    command = [native_command(), str(tmp_path / "package"), "--prompt", "abc", "--max-new-tokens", "12"]
    done = subprocess.run(command, capture_output=True, check=True, timeout=120)
    expected = model.generate("abc", max_new_tokens=12).text
    assert done.stdout.decode(errors="replace").removesuffix("\n") == expected
