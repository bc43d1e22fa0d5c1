"""Evidence for `mamba` and `mamba2`: language models, and mixers of Mamba-2 with other options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from language_golden import TOLERANCES, checkpoint, recorded, recorded_language, run, weights_of

import mambasdk
from mambasdk.nn import Mamba2
from mambasdk.testing import families, golden
from mambasdk.testing.golden import Golden, Recorded, Tensors


def mixer(folder: Path, case: str) -> Mamba2:
    options = dict(golden.config(folder)["mixers"][case])
    options.pop("chunk_size", None)  # how the scan is computed, not what it is
    made = Mamba2(**options)
    made.load_state_dict(weights_of(folder, case))
    return made


def recorded_mixer(folder: Path, case: str) -> Tensors:
    io = golden.read_io(folder, case)
    return {**io, "steps.y": io["y"]}


def run_mixer(model: Any, given: Recorded) -> Tensors:
    """Output, gradient, and the same from steps: the state contract holds for every option."""
    u = given["u"].requires_grad_()
    y = model(u)
    y.square().sum().backward()
    assert u.grad is not None
    half = u.shape[1] // 4
    with torch.no_grad():
        piece, state = model(u[:, :half], return_state=True)
        pieces = [piece]
        for t in range(half, u.shape[1]):
            piece, state = model(u[:, t : t + 1], state, return_state=True)
            pieces.append(piece)
    return {"y": y, "grad_u_of_sum_y2": u.grad, "steps.y": torch.cat(pieces, 1)}


def _language(system: str) -> Golden:
    return Golden(system=system, checkpoint=checkpoint, recorded=recorded, run=run, **TOLERANCES)


MAMBA, MAMBA2 = _language("mamba"), _language("mamba2")
MIXERS = Golden(
    system="mamba2",
    part="mixer",
    cases=lambda folder: list(golden.config(folder)["mixers"]),
    model=mixer,
    recorded=recorded_mixer,
    run=run_mixer,
    **TOLERANCES,
)
EVIDENCE = [
    families.Evidence(
        "mamba",
        goldens=[MAMBA],
        forms={
            "padded vocabulary": {"vocab_size": 61, "pad_vocab_size_multiple": 8},
            "own head": {"tie_embeddings": False},
        },
        counts={  # the tied head counts once; arXiv 2312.00752 and the published files
            "mamba-130m": 129_135_360,
            "mamba-370m": 371_516_416,
            "mamba-790m": 793_204_224,
            "mamba-1.4b": 1_372_178_432,
            "mamba-2.8b": 2_768_345_600,
            "mamba-2.8b-slimpj": 2_768_345_600,
        },
        bfloat16=0.02,
    ),
    families.Evidence(
        "mamba2",
        goldens=[MAMBA2, MIXERS],
        forms={
            "groups": {"d_model": 32, "d_state": 16, "headdim": 8, "ngroups": 2},
            "own head": {"tie_embeddings": False},
        },
        counts={
            "mamba2-130m": 128_989_632,
            "mamba2-370m": 368_346_624,
            "mamba2-780m": 780_161_280,
            "mamba2-1.3b": 1_343_757_312,
            "mamba2-2.7b": 2_702_599_680,
        },
        bfloat16=0.02,
    ),
]


def write_golden(root: Path) -> None:
    """Folders `mamba` and `mamba2` of other sizes, from our own models."""
    common = {"n_layer": 3, "vocab_size": 45, "rms_norm": True, "residual_in_fp32": True, "tie_embeddings": True}
    first = {**common, "d_model": 24, "ssm_cfg": {"layer": "Mamba1", "d_state": 8}, "pad_vocab_size_multiple": 4}
    sizes = {"layer": "Mamba2", "d_state": 8, "headdim": 4, "ngroups": 3, "chunk_size": 4}
    second = {**common, "d_model": 24, "n_layer": 2, "ssm_cfg": sizes, "pad_vocab_size_multiple": 4}
    _write_language(root / "mamba", MAMBA, {"model": first, "prefill": 6}, first, "", seed=5)
    _write_language(root / "mamba2", MAMBA2, {"lm": second, "prefill": 11}, second, "lm.", seed=6)
    mixers = {
        "mix_wide": {"d_model": 12, "d_state": 6, "headdim": 4, "ngroups": 3, "d_ssm": 12, "chunk_size": 8},
        "mix_limited": {"d_model": 12, "d_state": 4, "headdim": 6, "rmsnorm": False, "dt_limit": [0.1, 0.4]},
    }
    folder = root / "mamba2"
    golden.write(folder, "config.json", {"mixers": mixers})
    for index, (name, options) in enumerate(mixers.items()):
        torch.manual_seed(index)
        model = golden.scatter(Mamba2(**{k: v for k, v in options.items() if k != "chunk_size"}), index)
        golden.write(folder, "weights.safetensors", {f"{name}.{key}": w for key, w in model.state_dict().items()})
        io = golden.record(MIXERS, model, {"u": torch.randn(3, 14, 12)})
        golden.write(folder, "io.safetensors", {f"{name}.{key}": io[key] for key in ("u", "y", "grad_u_of_sum_y2")})


def _write_language(
    folder: Path, which: Golden, config: dict[str, Any], sizes: dict[str, Any], prefix: str, *, seed: int
) -> None:
    torch.manual_seed(seed)
    ssm = {key: value for key, value in sizes["ssm_cfg"].items() if key not in ("layer", "chunk_size")}
    rest = {key: value for key, value in sizes.items() if key != "ssm_cfg"}
    model: Any = golden.scatter(mambasdk.create_model(which.system, **rest, **ssm), seed)
    golden.write(folder, "config.json", config)
    golden.write(folder, "weights.safetensors", {prefix + name: w for name, w in model.state_dict().items()})
    made = recorded_language(which, model, sizes["vocab_size"], config["prefill"], seed)
    # The layout has all K columns; what nothing compares is zero.
    for name in [name for name in made if name.endswith("conv_state")]:
        made[name] = torch.nn.functional.pad(made[name].transpose(1, 2), (1, 0))
    golden.write(folder, "io.safetensors", made)
