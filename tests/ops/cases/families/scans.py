"""Scans and recurrences, over sequences and by steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ..case import Case, Dims, Family
from ..sizes import packed, slots


def _scan_dims(dims: Dims, given: frozenset[str], scalars: Mapping[str, Any]) -> Dims:
    dims = dict(dims)
    if "order" in given:
        dims |= {"K": 2 if dims["K"] == 1 else dims["K"], "M": dims.get("M", dims["L"] + dims["L"] // 2)}
    else:
        dims["M"] = dims["L"]
    dims["P"] = dims["M"] if scalars.get("step_params") else dims["L"]
    return packed(dims, given, scalars)


def _recurrence_dims(dims: Dims, given: frozenset[str], scalars: Mapping[str, Any]) -> Dims:
    """What is given per batch entry or per step follows the batch and the length."""
    dims = packed(dims, given, scalars)
    return {**dims, **{d: dims[d[0]] for d in ("Ba", "La") if dims[d] != 1}}


def _is_part_of_a_state(given: frozenset[str], _: Mapping[str, Any]) -> bool:
    """C, n and m are given together."""
    return 0 < len(given & {"initial_C", "initial_n", "initial_m"}) < 3


def _input_gates(shape: tuple[int, ...], _: Case, rng: torch.Generator) -> torch.Tensor:
    """Around the size at which a normaliser is as often the products' sum as its least value."""
    return torch.randn(shape, generator=rng, dtype=torch.float64)


def _forget_gates(shape: tuple[int, ...], _: Case, rng: torch.Generator) -> torch.Tensor:
    """From gates that forget at once to those that forget nothing for a while, as a network begins with."""
    return torch.randn(shape, generator=rng, dtype=torch.float64) * 2.0 + 2.0


FAMILIES: Mapping[str, Family] = {
    "selective_scan": Family(
        dims={
            "tail": {"B": 2, "L": 13, "D": 19, "N": 5, "K": 1, "G": 1},
            "groups": {"B": 1, "L": 9, "D": 36, "N": 16, "K": 2, "G": 2},
            "chunks": {"B": 1, "L": 270, "D": 33, "N": 16, "K": 1, "G": 1},
            "state1": {"B": 2, "L": 5, "D": 16, "N": 1, "K": 1, "G": 1},
            "step": {"B": 3, "L": 1, "D": 38, "N": 5, "K": 1, "G": 2},
        },
        fix=_scan_dims,
        scalars=(
            {"delta_softplus": True, "return_final_state": True},
            {"delta_softplus": True, "step_params": True, "save_chunk_states": True, "return_final_state": True},
            {"delta_softplus": True, "save_chunk_states": True, "return_final_state": True, "reverse": True},
        ),
        excluded=lambda given, scalars: bool(scalars.get("step_params")) and "order" not in given,
    ),
    "selective_state_update": Family(
        dims={"tail": {"B": 3, "D": 38, "N": 5, "G": 2}, "vector": {"D": 64, "N": 16}}, fix=slots
    ),
    "ssd": Family(
        roundings=2,  # the value before the gate
        product_roundings=3,  # dt * x, the decayed scores, the state
        dims={
            "tail": {"B": 2, "L": 13, "H": 4, "P": 6, "G": 2, "N": 5},
            "chunks": {"B": 1, "L": 300, "H": 2, "P": 32, "G": 1, "N": 16},
            "wide": {"B": 1, "L": 70, "H": 3, "P": 64, "G": 1, "N": 128},
            "step": {"B": 3, "L": 1, "H": 4, "P": 6, "G": 2, "N": 5},
        },
        fix=packed,
        scalars=(
            {"dt_softplus": True, "dt_min": 0.05, "dt_max": 0.9, "return_final_state": True},
            {"dt_softplus": True, "reverse": True, "return_final_state": True},
            {"dt_softplus": True, "dt_on_x": False, "return_final_state": True},
        ),
    ),
    "ssd_state_update": Family(
        roundings=2,
        product_roundings=3,
        dims={"tail": {"B": 3, "H": 4, "P": 6, "G": 2, "N": 5}, "wide": {"H": 2, "P": 64, "N": 128}},
        fix=slots,
        scalars=({"dt_softplus": True, "dt_min": 0.05, "dt_max": 0.9}, {"dt_on_x": False}),
    ),
    "mlstm": Family(
        dims={
            "tail": {"B": 2, "L": 13, "H": 3, "E": 5},
            "chunks": {"B": 1, "L": 150, "H": 2, "E": 16},
            "wide": {"B": 1, "L": 70, "H": 2, "E": 64},
            "step": {"B": 3, "L": 1, "H": 4, "E": 6},
        },
        fix=packed,
        scalars=(
            {"chunk": 1, "return_final_state": True},
            {"chunk": 7, "return_final_state": True},
            {"chunk": 1024},
        ),
        excluded=_is_part_of_a_state,
        values={"igate": _input_gates, "fgate": _forget_gates, "initial_m": _input_gates},
    ),
    "mlstm_state_update": Family(
        dims={"tail": {"B": 3, "H": 4, "E": 6}, "wide": {"B": 2, "H": 2, "E": 64}},
        values={"igate": _input_gates, "fgate": _forget_gates, "m": _input_gates},
    ),
    "diagonal_scan": Family(
        dims={
            "tail": {"B": 2, "L": 13, "D": 19, "Ba": 2, "La": 13},
            "constant": {"B": 2, "L": 9, "D": 64, "Ba": 1, "La": 1},
            "shared": {"B": 2, "L": 9, "D": 5, "Ba": 1, "La": 9},
            "long": {"B": 1, "L": 300, "D": 40, "Ba": 1, "La": 300},
        },
        fix=_recurrence_dims,
        scalars=({"reverse": True, "return_final_state": True},),
    ),
    "gru": Family(
        dims={
            "tail": {"B": 3, "L": 7, "N": 5},
            "vector": {"B": 2, "L": 4, "N": 32},
            "rows": {"B": 19, "L": 3, "N": 21},
            "split": {"B": 2, "L": 3, "N": 256},
        },
    ),
}
