"""Every golden tensor of mamba and mamba2: imported weights, forward, gradients, decoding."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import mambasdk
from mambasdk.nn import Mamba2

ACTIVATION = 1e-4  # absolute, from the golden README
GRADIENT = 1e-3  # relative
PREFILL = 9

Golden = Callable[[str], Path]


def load(golden: Golden, family: str) -> tuple[Any, dict[str, torch.Tensor]]:
    folder = golden(family)
    config = json.loads((folder / "config.json").read_text())
    weights = load_file(folder / "weights.safetensors")
    if family == "mamba2":
        weights = {name.removeprefix("lm."): value for name, value in weights.items() if name.startswith("lm.")}
    model = mambasdk.import_checkpoint(family, config["model" if family == "mamba" else "lm"], weights)
    return model, load_file(folder / "io.safetensors")


def near(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=ACTIVATION, rtol=0)


def assert_states(state: Any, io: dict[str, torch.Tensor], stage: str) -> None:
    for index, layer in enumerate(state):
        # Upstream keeps K columns, oldest first; ours are the last K-1, channel-last.
        near(layer.conv, io[f"{stage}.layer{index}.conv_state"][..., 1:].transpose(1, 2))
        near(layer.ssm, io[f"{stage}.layer{index}.ssm_state"])


def test_logits_taps_final_states_and_every_gradient(golden: Golden, family: str) -> None:
    model, io = load(golden, family)
    seen: dict[str, torch.Tensor] = {}
    embedded: list[torch.Tensor] = []

    def keep(module: Any, arguments: Any, out: torch.Tensor) -> None:
        out.retain_grad()
        embedded.append(out)

    model.backbone.embedding.register_forward_hook(keep)
    for index, layer in enumerate(model.backbone.layers):
        layer.mixer.register_forward_hook(lambda m, a, out, i=index: seen.update({f"layer{i}.mixer_out": out[0]}))
    out = model(io["input_ids"], labels=io["input_ids"], output_hidden_states=True)
    near(out.logits, io["logits"])
    near(out.loss.reshape(1), io["loss"])
    for index in range(2):
        near(seen[f"layer{index}.mixer_out"], io[f"layer{index}.mixer_out"])
        near(out.hidden_states[index], io[f"layer{index}.residual_in"])
    assert_states(out.state, io, "final")
    out.loss.backward()
    gradients = {f"grad.{name}": parameter.grad for name, parameter in model.named_parameters()}
    gradients["grad.embedding_out"] = embedded[0].grad
    names = [name for name in io if name.startswith("grad.")]
    assert len(names) in (9, 10)
    for name in names:
        error = (gradients[name] - io[name]).norm() / io[name].norm()
        assert error < GRADIENT, f"{name}: {error}"


@pytest.mark.parametrize("grad", [False, True])
def test_prefill_states_and_step_logits(golden: Golden, family: str, grad: bool) -> None:
    model, io = load(golden, family)
    tokens = io["input_ids"]
    with torch.set_grad_enabled(grad):
        out = model(tokens[:, :PREFILL])
        assert_states(out.state, io, "prefill")
        logits = []
        for t in range(PREFILL, tokens.shape[1]):
            out = model(tokens[:, t : t + 1], out.state)
            logits.append(out.logits)
    near(torch.cat(logits, 1), io["logits_step"][:, PREFILL:])
    assert_states(out.state, io, "final")


@pytest.mark.parametrize("name", ["mix_dssm", "mix_nonorm", "mix_nbg"])
def test_mamba2_mixer_options(golden: Golden, name: str) -> None:
    folder = golden("mamba2")
    options = json.loads((folder / "config.json").read_text())["mixers"][name]
    del options["chunk_size"]  # how the scan is computed, not what it is
    mixer = Mamba2(**options)
    weights = load_file(folder / "weights.safetensors")
    mixer.load_state_dict({key[len(name) + 1 :]: w for key, w in weights.items() if key.startswith(f"{name}.")})
    io = load_file(folder / "io.safetensors")
    u = io[f"{name}.u"].requires_grad_()
    y = mixer(u)
    near(y, io[f"{name}.y"])
    y.square().sum().backward()
    expected = io[f"{name}.grad_u_of_sum_y2"]
    assert u.grad is not None
    assert (u.grad - expected).norm() / expected.norm() < GRADIENT
    # The same from steps: the state contract holds for every option.
    with torch.no_grad():
        out, state = mixer(u[:, :5], return_state=True)
        pieces = [out]
        for t in range(5, u.shape[1]):
            out, state = mixer(u[:, t : t + 1], state, return_state=True)
            pieces.append(out)
    near(torch.cat(pieces, 1), io[f"{name}.y"])
