"""Evidence for `mixture_of_mamba`: blocks and gradients of the stack, mixers with a shared projection, exact counts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from mambasdk.nn import RMSNorm
from mambasdk.testing import families, golden
from mambasdk.testing.golden import Golden, Recorded, Tensors, Tolerance
from mambasdk_multimodal.nn import MixtureBlock, MixtureLayer, MixtureModel, MixtureOfMamba

# From the golden README.
TOLERANCES: dict[str, Any] = {"tolerance": Tolerance(1e-4), "gradient": Tolerance(1e-3, "norm")}
SHARED = {"share_x": ("x",), "share_dt": ("dt",), "share_in_out": ("in", "out")}


def mixer(config: dict[str, Any], **more: Any) -> MixtureOfMamba:
    return MixtureOfMamba(config["d_model"], config["n_modalities"], **config["mixer"], **more)


def weights_of(folder: Path, case: str) -> Tensors:
    weights = load_file(folder / "weights.safetensors")
    return {name.removeprefix(f"{case}."): t for name, t in weights.items() if name.startswith(f"{case}.")}


def stack(folder: Path, _: str = "") -> MixtureModel:
    config = golden.config(folder)

    def block() -> MixtureBlock:
        return MixtureBlock(mixer(config), RMSNorm(config["d_model"], 1e-5))

    layers = [MixtureLayer(block(), block()) for _ in range(config["n_layers"])]
    ranges = list(range(1, config["n_modalities"] + 1))
    made = MixtureModel(layers, nn.Identity(), config["d_model"], ranges)
    made.layers.load_state_dict(weights_of(folder, "layers"))
    return made


def recorded_stack(folder: Path, _: str) -> Tensors:
    """Those of the stack, whose step by step form is to give the same."""
    io = {name: t for name, t in golden.read_io(folder, "").items() if not name.startswith("share_")}
    return {**io, "steps.y": io["y"]}


def run_blocks(
    model: MixtureModel, x: Tensor, modality: Tensor, states: Sequence[Any] | None = None
) -> tuple[list[Tensor], list[Any]]:
    """The sum after every block, and the blocks' states."""
    h, residual, sums, after = x, None, [], []
    for index, block in enumerate(model._blocks()):
        state = None if states is None else states[index]
        h, residual, new = block(h, residual, state, modality=modality, return_state=True)
        sums.append(h + residual)
        after.append(new)
    return sums, after


def run_stack(model: Any, given: Recorded) -> Tensors:
    x, modality = given["x"].requires_grad_(), given["modality"]
    sums, _ = run_blocks(model, x, modality)
    found = {f"layer{index // 2}.block{index % 2 + 1}": total for index, total in enumerate(sums)}
    sums[-1].backward(given["grad_y"])
    assert x.grad is not None
    gradients = {f"grad.layers.0.block1.{n}": p.grad for n, p in model.layers[0].block1.named_parameters()}
    with torch.no_grad():
        pieces, states = [], None
        for t in range(x.shape[1]):
            step, states = run_blocks(model, x[:, t : t + 1], modality[:, t : t + 1], states)
            pieces.append(step[-1])
    return {**found, "y": sums[-1], "grad_x": x.grad, **gradients, "steps.y": torch.cat(pieces, 1)}


def shared_mixer(folder: Path, case: str) -> MixtureOfMamba:
    made = mixer(golden.config(folder), shared=SHARED[case])
    made.load_state_dict(weights_of(folder, case))
    return made


def recorded_shared(folder: Path, case: str) -> Tensors:
    io = golden.read_io(folder, "")
    return {"x": io["x"], "modality": io["modality"], **golden.read_io(folder, case)}


def run_shared(model: Any, given: Recorded) -> Tensors:
    """The output of the authors' code; and, of the shared dt projection, with the bias that it leaves out."""
    found = {}
    for name in [name for name in given if name.startswith("y_")]:
        model.dt_bias = "upstream" if name == "y_upstream" else "applied"
        found[name] = model(given["x"], modality=given["modality"])
    return found


STACK = Golden(
    system="mixture-of-mamba", part="stack", model=stack, recorded=recorded_stack, run=run_stack, **TOLERANCES
)
MIXERS = Golden(
    system="mixture-of-mamba",
    part="mixer",
    cases=lambda folder: list(SHARED),
    model=shared_mixer,
    recorded=recorded_shared,
    run=run_shared,
    **TOLERANCES,
)


def _block(width: int, modalities: int, states: int = 16, taps: int = 4) -> int:
    """Parameters of a block and its norm, from the shapes of arXiv 2501.16295."""
    inner, rank = 2 * width, -(-width // 16)
    own = 2 * inner * width + inner * (rank + 2 * states) + rank * inner + inner + width * inner
    return modalities * own + inner * (taps + 1) + inner * states + inner + width


SIZES = {"37m": (256, 4), "94m": (512, 8), "443m": (1024, 24), "880m": (1536, 24), "1.5b": (2048, 24)}
LATENT_SIZES = {"163m": (768, 16), "760m": (1536, 24), "1.4b": (2048, 24)}
SETTINGS = {"chameleon": (2, SIZES), "chameleon-speech": (3, SIZES), "transfusion": (2, LATENT_SIZES)}
MIXTURE = families.Evidence(
    "mixture_of_mamba",
    goldens=[STACK, MIXERS],
    forms={
        "three modalities": {"modalities": ["text", "image", "speech"], "modality_ranges": [256, 300, 340]},
        "shared step sizes": {"shared": ["dt"], "bias": True},
        "shared ends, own head": {"shared": ["in", "out"], "tie_embeddings": False},
        "latents": {"modality_ranges": [60, 61], "latent_dim": 6, "diffusion_steps": 100},
        "dense": {"shared": ["in", "x", "dt", "out"]},
    },
    counts={
        f"mixture-of-mamba-{setting}-{label}": {"backbone.layers": 2 * layers * _block(width, modalities)}
        for setting, (modalities, sizes) in SETTINGS.items()
        for label, (width, layers) in sizes.items()
    },
    bfloat16=0.05,
)
EVIDENCE = (MIXTURE,)


def write_golden(root: Path) -> None:
    """A folder `mixture-of-mamba` of other sizes, from our own models."""
    folder = root / "mixture-of-mamba"
    config = {
        "d_model": 20,
        "n_modalities": 3,
        "n_layers": 1,
        "mixer": {"d_state": 6, "d_conv": 3, "expand": 1.5, "dt_rank": 3, "bias": True},
    }
    golden.write(folder, "config.json", config)
    generator = torch.Generator().manual_seed(4)
    x, grad_y = (torch.randn(3, 11, 20, generator=generator) for _ in range(2))
    given = {"x": x, "grad_y": grad_y, "modality": torch.randint(3, (3, 11), generator=generator)}
    torch.manual_seed(4)

    def block() -> MixtureBlock:
        return MixtureBlock(mixer(config), RMSNorm(20, 1e-5))

    made: Any = golden.scatter(
        MixtureModel([MixtureLayer(block(), block()) for _ in range(config["n_layers"])], nn.Identity(), 20, [1, 2, 3]),
        4,
    )
    golden.write(folder, "weights.safetensors", {f"layers.{n}": w for n, w in made.layers.state_dict().items()})
    io = golden.record(STACK, made, given)
    golden.write(folder, "io.safetensors", {name: t for name, t in io.items() if not name.startswith("steps.")})
    for seed, (case, shared) in enumerate(SHARED.items()):
        torch.manual_seed(seed)
        one: Any = golden.scatter(mixer(config, shared=shared), seed)
        golden.write(folder, "weights.safetensors", {f"{case}.{name}": w for name, w in one.state_dict().items()})
        names = ["y_upstream", *(["y_with_bias"] if case == "share_dt" else [])]
        wanted = {"x": x, "modality": given["modality"], **{name: torch.zeros(0) for name in names}}
        outputs = golden.record(MIXERS, one, wanted)
        golden.write(folder, "io.safetensors", {f"{case}.{name}": outputs[name] for name in names})
