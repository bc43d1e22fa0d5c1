"""Evidence for `mamba3`: a golden folder of language models and mixers, each a case."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from language_golden import (
    STEPS,
    fields,
    in_every_way,
    on_the_circle,
    one_way,
    recorded_language,
    run,
    weights_of,
)

import mambasdk
from mambasdk.nn import Mamba3
from mambasdk.testing import families, golden
from mambasdk.testing.golden import Golden, Recorded, Tensors, Tolerance


def cases(kind: str) -> Any:
    return lambda folder: [name for name, case in golden.config(folder)["cases"].items() if case["kind"] == kind]


def checkpoint(folder: Path, case: str) -> tuple[Any, Tensors]:
    return golden.config(folder)["cases"][case].get("config"), weights_of(folder, case)


def recorded(folder: Path, case: str) -> Tensors:
    return in_every_way(golden.read_io(folder, case), golden.config(folder)["cases"][case]["prefill"])


def mixer(folder: Path, case: str) -> Mamba3:
    options = dict(golden.config(folder)["cases"][case]["mixer"])
    options.pop("chunk_size", None)  # how the scan is computed, not what it is
    made = Mamba3(**options)
    made.load_state_dict(weights_of(folder, case))
    return made


def recorded_mixer(folder: Path, case: str) -> Tensors:
    io, prefill = golden.read_io(folder, case), golden.config(folder)["cases"][case].get("prefill")
    if prefill is None:
        return io
    steps = {name: t for name, t in io.items() if name.startswith(("prefill.", "final.")) or name == "y"}
    whole = {name: t for name, t in io.items() if not name.startswith("prefill.")}
    return {**whole, **{way + n: t for way in STEPS for n, t in steps.items()}, "prefill": torch.tensor(prefill)}


def run_mixer(model: Any, given: Recorded) -> Tensors:
    """One pass with gradients; then a prompt, steps and a second prompt, which are the pass in pieces."""
    u = given["u"].requires_grad_()
    offsets = given.get("cu_seqlens")
    y, state = model(u, return_state=True, cu_seqlens=offsets)
    leaves = {"u": u, **dict(model.named_parameters())}
    gradients = torch.autograd.grad((y * given["cotangent"]).sum(), list(leaves.values()))
    found = {"y": y, **fields("final", state)}
    found |= {f"grad.{name}": gradient for name, gradient in zip(leaves, gradients, strict=True)}
    for way, with_gradients in STEPS.items() if offsets is None else ():
        prefill = int(given["prefill"])
        steps = min(3, u.shape[1] - prefill)
        with torch.set_grad_enabled(with_gradients):
            piece, state = model(u[:, :prefill], return_state=True)
            pieces = [piece]
            found |= fields(f"{way}prefill", state)
            for part in u[:, prefill:].split([1] * steps + [u.shape[1] - prefill - steps], 1):
                piece, state = model(part, state, return_state=True)
                pieces.append(piece)
        found |= {f"{way}y": torch.cat(pieces, 1), **fields(f"{way}final", state)}
    return on_the_circle(found, given)


# From the golden's README; in float64 what is left is the rounding of what was recorded.
TOLERANCES: dict[str, Any] = {
    "system": "mamba3",
    "tolerance": Tolerance(5e-5),
    "gradient": Tolerance(1e-3, "largest"),
    "double": Tolerance(5e-5),
}
MAMBA3 = Golden(cases=cases("lm"), checkpoint=checkpoint, recorded=recorded, run=run, **TOLERANCES)
MIXERS = Golden(part="mixer", cases=cases("mixer"), model=mixer, recorded=recorded_mixer, run=run_mixer, **TOLERANCES)
EVIDENCE = [
    families.Evidence(
        "mamba3",
        goldens=[MAMBA3, MIXERS],
        forms={
            "groups, ranks and norm": {
                "n_layer": 1,
                "is_mimo": True,
                "mimo_rank": 2,
                "ngroups": 2,
                "rope_fraction": 1.0,
                "is_outproj_norm": True,
            },
            "MLP and softplus": {"n_layer": 1, "d_intermediate": 24, "A_activation": "softplus"},
        },
        counts={  # the tied head counts once; as the authors' code builds them
            "mamba3-siso-187m": 186_849_600,
            "mamba3-mimo-187m": 187_291_968,
            "mamba3-siso-443m": 443_015_680,
            "mamba3-mimo-444m": 444_195_328,
            "mamba3-siso-893m": 892_782_336,
            "mamba3-mimo-894m": 894_551_808,
            "mamba3-siso-1.5b": 1_494_723_584,
            "mamba3-mimo-1.5b": 1_497_082_880,
        },
        bfloat16=0.02,
    ),
]


def write_golden(root: Path) -> None:
    """A folder `mamba3` of other sizes, from our own models."""
    folder = root / "mamba3"
    mixers: dict[str, dict[str, Any]] = {
        "groups": {"d_model": 12, "d_state": 8, "headdim": 6, "ngroups": 2},
        "ranks": {"d_model": 12, "d_state": 6, "headdim": 4, "is_mimo": True, "mimo_rank": 3, "rope_fraction": 1.0},
    }
    sizes: dict[str, Any] = {"d_model": 24, "n_layer": 2, "vocab_size": 43, "pad_vocab_size_multiple": 4}
    ssm = {"d_state": 8, "headdim": 6}
    language = {**sizes, "ssm_cfg": {"layer": "Mamba3", **ssm}, "rms_norm": True, "residual_in_fp32": True}
    cases = {name: {"kind": "mixer", "prefill": 5, "mixer": options} for name, options in mixers.items()}
    golden.write(folder, "config.json", {"cases": {**cases, "lm": {"kind": "lm", "prefill": 6, "config": language}}})
    for seed, (name, options) in enumerate(mixers.items()):
        torch.manual_seed(seed)
        mixer: Any = golden.scatter(Mamba3(**options), seed)
        golden.write(folder, "weights.safetensors", {f"{name}.{key}": w for key, w in mixer.state_dict().items()})
        u = torch.randn(2, 13, options["d_model"])
        given = {"u": u, "cotangent": torch.randn_like(u), "prefill": torch.tensor(5)}
        io = one_way(golden.record(MIXERS, mixer, given))
        golden.write(folder, "io.safetensors", {f"{name}.{key}": t for key, t in io.items()})
    torch.manual_seed(7)
    model: Any = golden.scatter(mambasdk.create_model("mamba3", **sizes, **ssm), 7)
    golden.write(folder, "weights.safetensors", {f"lm.{key}": w for key, w in model.state_dict().items()})
    io = recorded_language(MAMBA3, model, sizes["vocab_size"], 6, 7)
    golden.write(folder, "io.safetensors", {f"lm.{key}": t for key, t in io.items()})
