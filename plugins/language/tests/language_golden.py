"""Golden tensors of language models: how the families' evidence reads, computes and writes them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from mambasdk.testing import golden
from mambasdk.testing.golden import Golden, Recorded, Tensors, Tolerance

# From the golden READMEs.
TOLERANCES: dict[str, Any] = {"tolerance": Tolerance(1e-4), "gradient": Tolerance(1e-3, "norm")}
KEPT = ("input_ids", "logits", "loss", "layer", "prefill.", "final.", "grad.")
# A prompt and single steps run in two ways: with gradients in the training form, without in that of inference.
STEPS = {"steps.": False, "steps with gradients.": True}


def _is_nested(config: Mapping[str, Any]) -> bool:
    """Mamba-2's folder holds more than the language model, which is `lm` there."""
    return "lm" in config


def checkpoint(folder: Path, _: str) -> tuple[Any, Tensors]:
    config, weights = golden.config(folder), load_file(folder / "weights.safetensors")
    if not _is_nested(config):
        return config["model"], weights
    return config["lm"], {name[3:]: value for name, value in weights.items() if name.startswith("lm.")}


def recorded(folder: Path, _: str) -> Tensors:
    """The language model's tensors, and those of the steps under the name of each way to run them."""
    io = {name: t for name, t in load_file(folder / "io.safetensors").items() if name.startswith(KEPT)}
    whole = in_every_way(io, golden.config(folder)["prefill"])
    # Upstream keeps K columns, oldest first; ours are the last K-1, channel-last.
    return {n: t[..., 1:].transpose(1, 2) if n.endswith("conv_state") else t for n, t in whole.items()}


def in_every_way(io: Tensors, prefill: int) -> Tensors:
    """Tensors of one pass, and those of a prompt and steps under the name of each way to run them."""
    steps = {name: t for name, t in io.items() if name.startswith(("prefill.", "final."))}
    steps["logits_step"] = io["logits_step"][:, prefill:]
    whole = {name: t for name, t in io.items() if not name.startswith(("prefill.", "logits_step"))}
    for way in STEPS:
        whole |= {way + name: t for name, t in steps.items()}
    return {**whole, "prefill": torch.tensor(prefill)}


def run(model: Any, given: Recorded) -> Tensors:
    tokens = given["input_ids"]
    found: Tensors = {}
    leaves: Tensors = {}

    def keep(module: Any, arguments: Any, out: Tensor) -> None:
        out.retain_grad()
        leaves["grad.embedding_out"] = out

    hooks = [model.backbone.embedding.register_forward_hook(keep)]
    for index, layer in enumerate(model.backbone.layers):
        hooks.append(
            layer.mixer.register_forward_hook(lambda m, a, out, i=index: found.update({f"layer{i}.mixer_out": out[0]}))
        )
    out = model(tokens, labels=tokens, output_hidden_states=True)
    for hook in hooks:
        hook.remove()
    residuals = {f"layer{index}.residual_in": hidden for index, hidden in enumerate(out.hidden_states[:-1])}
    found |= {name: hidden for name, hidden in residuals.items() if name in given or not _is_recorded(given)}
    found |= {"logits": out.logits, "loss": out.loss.reshape(1), **_states("final", out.state)}
    out.loss.backward()
    leaves |= {f"grad.{name}": parameter for name, parameter in model.named_parameters()}
    first = {name for name in leaves if ".layers.0.mixer." in name or name == "grad.embedding_out"}
    for name in {name for name in given if name.startswith("grad.")} or first:
        gradient = leaves[name].grad
        assert gradient is not None, name
        found[name] = gradient
    for way, gradients in STEPS.items():
        with torch.set_grad_enabled(gradients):
            found |= {way + name: tensor for name, tensor in _steps(model, tokens, int(given["prefill"])).items()}
    return on_the_circle(found, given)


def _is_recorded(given: Recorded) -> bool:
    """Whether there is more than inputs: not where tensors are being written."""
    return "logits" in given


def _steps(model: Any, tokens: Tensor, prefill: int) -> Tensors:
    out = model(tokens[:, :prefill])
    found = _states("prefill", out.state)
    logits = []
    for t in range(prefill, tokens.shape[1]):
        out = model(tokens[:, t : t + 1], out.state)
        logits.append(out.logits)
    return {**found, "logits_step": torch.cat(logits, 1), **_states("final", out.state)}


def _states(stage: str, state: Any) -> Tensors:
    return {name: t for index, layer in enumerate(state) for name, t in fields(f"{stage}.layer{index}", layer).items()}


def fields(place: str, layer: Any) -> Tensors:
    return {f"{place}.{field}_state": tensor for field, tensor in layer._asdict().items()}


def on_the_circle(found: Tensors, given: Recorded) -> Tensors:
    """Angles by whole turns nearest to the recorded ones."""

    def near(angle: Tensor, recorded: Tensor) -> Tensor:
        return angle - 2 * math.pi * torch.round((angle - recorded) / (2 * math.pi))

    return {n: near(t, given[n]) if n.endswith("angle_state") and n in given else t for n, t in found.items()}


def weights_of(folder: Path, case: str) -> Tensors:
    weights = load_file(folder / "weights.safetensors")
    return {name[len(case) + 1 :]: w for name, w in weights.items() if name.startswith(f"{case}.")}


def recorded_language(which: Golden, model: Any, vocab_size: int, prefill: int, seed: int) -> Tensors:
    """A language model's tensors, its logits of all steps, those of the prompt zero."""
    tokens = torch.randint(vocab_size, (3, 17), generator=torch.Generator().manual_seed(seed))
    made = one_way(golden.record(which, model, {"input_ids": tokens, "prefill": torch.tensor(prefill)}))
    made["logits_step"] = torch.cat([torch.zeros_like(made["logits"][:, :prefill]), made["logits_step"]], 1)
    return made


def one_way(io: Tensors) -> Tensors:
    """What was recorded of steps under the names that a golden folder has for it."""
    steps = {name.removeprefix("steps."): t for name, t in io.items() if name.startswith("steps.")}
    whole = {name: t for name, t in io.items() if not name.startswith("steps") and name != "prefill"}
    return {**steps, **whole}
