"""A trained model for another task, image size or set of classes: the weights that fit are taken over."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mambasdk.errors import InvalidArgumentError
from mambasdk.models import create_model, identity

# Ends of a model, which another task or other classes need anew.
_ENDS = ("head.", "norm_f.", "fpn", "simfp_", "classifier.", "outnorm")


def adapted(model: nn.Module, *, legacy_positions: bool = False, **overrides: Any) -> nn.Module:
    """A new model with the configuration of `model` but for `overrides`, and its weights.

    overrides: fields of the configuration, for example img_size=384, num_classes=10 or task="segmentation". What a new
    task or other classes need is freshly initialised; the position embedding is interpolated. legacy_positions:
    interpolate Vim's as upstream does (`mambasdk_vision.vim.resize_positions`).
    Raises InvalidArgumentError where other weights would change their shape.
    """
    who = identity(model)
    first = next(model.parameters())
    new = create_model(who.family, device=first.device, **{**who.config, **overrides})
    old_tensors = {name.removeprefix("net."): tensor for name, tensor in model.state_dict().items()}
    state: dict[str, Tensor] = {}
    for name, tensor in new.state_dict().items():
        plain = name.removeprefix("net.")
        value = old_tensors.get(plain)
        if plain.startswith("rope."):
            value = tensor  # the configuration says it all
        elif plain == "pos_embed" and value is not None:
            value = _positions(model, new, value, legacy_positions)
        if value is None or value.shape != tensor.shape:
            if not plain.startswith(_ENDS):
                raise InvalidArgumentError(
                    f"{name} does not fit",
                    where="adapted",
                    expected=tuple(tensor.shape),
                    got=None if value is None else tuple(value.shape),
                    way_out="change only what leaves the encoder's weights as they are",
                )
            value = tensor
        state[name] = value
    new.load_state_dict(state)
    return new.to(first.dtype).train(model.training)


@torch.no_grad()
def _positions(model: Any, new: Any, positions: Tensor, legacy: bool) -> Tensor:
    if positions.ndim == 3:
        from mambasdk_vision.vim.checkpoint import resize_positions

        return resize_positions(positions, model.config, new.config, legacy=legacy)
    from mambasdk_vision.nn.positions import resize_grid

    rows, columns = new.state_dict()["pos_embed"].shape[2:]
    return resize_grid(positions, rows, columns)
