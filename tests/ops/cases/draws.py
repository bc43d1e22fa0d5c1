"""How values are drawn, where normal numbers would not do: by an argument's name (`VALUES`), or as a family says."""

from __future__ import annotations

import torch

from .case import Case, Draw


def _steps(shape: tuple[int, ...], case: Case, rng: torch.Generator) -> torch.Tensor:
    """Raw step sizes: any sign before softplus, positive without."""
    raw = torch.randn(shape, generator=rng, dtype=torch.float64) * 0.7
    softplus = case.scalars.get("delta_softplus") or case.scalars.get("dt_softplus")
    return raw - 0.5 if softplus else raw.abs() + 0.05


def _decays(shape: tuple[int, ...], _: Case, rng: torch.Generator) -> torch.Tensor:
    return -(torch.rand(shape, generator=rng, dtype=torch.float64) * 1.5 + 0.1)


def _rates(shape: tuple[int, ...], _: Case, rng: torch.Generator) -> torch.Tensor:
    """Factors of a recurrence, below 1 in size; real, so that they fit a real and a complex dtype."""
    return torch.rand(shape, generator=rng, dtype=torch.float64) * 1.8 - 0.9


def _bias(shape: tuple[int, ...], _: Case, rng: torch.Generator) -> torch.Tensor:
    return torch.rand(shape, generator=rng, dtype=torch.float64) * 0.3


def _orders(shape: tuple[int, ...], case: Case, rng: torch.Generator) -> torch.Tensor:
    """Each route visits every position where it has the steps for it, and some twice where it has more."""
    routes, steps = shape
    length = case.dims["L"]
    rows = []
    for _ in range(routes):
        visits = [torch.randperm(length, generator=rng) for _ in range(-(-steps // max(length, 1)))]
        rows.append(torch.cat(visits)[:steps] if visits else torch.empty(0, dtype=torch.int64))
    return torch.stack(rows).to(torch.int32) if rows else torch.empty(shape, dtype=torch.int32)


def _offsets(shape: tuple[int, ...], case: Case, rng: torch.Generator) -> torch.Tensor:
    """Sequences of several lengths, an empty one among them."""
    total = case.dims.get("M", case.dims["L"])
    inner = torch.randint(0, total + 1, (max(shape[0] - 2, 0),), generator=rng)
    if len(inner) > 1:
        inner[1] = inner[0]
    return torch.cat([torch.tensor([0]), inner.sort().values, torch.tensor([total])]).to(torch.int32)


def _segments(shape: tuple[int, ...], case: Case, rng: torch.Generator) -> torch.Tensor:
    """Runs of several lengths; -1 is the first of them, and padding for the convolution."""
    first = -1 if case.op == "causal_conv1d" else 0
    segments = torch.randint(first, 4, shape, generator=rng).sort(dim=-1).values
    if case.op == "causal_conv1d" and shape[-1] > 2:
        segments[..., shape[-1] // 2] = -1  # padding in between too
    return segments.to(torch.int32)


def _seen(shape: tuple[int, ...], _: Case, rng: torch.Generator) -> torch.Tensor:
    return torch.randint(0, 20, shape, generator=rng).to(torch.int32)


def _state_indices(shape: tuple[int, ...], case: Case, rng: torch.Generator) -> torch.Tensor:
    """A slot of its own for every row; the second row is padded."""
    slots = torch.randperm(case.dims["S"], generator=rng)[: shape[0]].to(torch.int32)
    slots[1:2] = -1
    return slots


def _lengths(shape: tuple[int, ...], case: Case, rng: torch.Generator) -> torch.Tensor:
    """Steps of each row, some of them all, some none."""
    lengths = torch.randint(0, case.dims["L"] + 1, shape, generator=rng)
    lengths[:1] = case.dims["L"]
    lengths[-1:] = 0
    return lengths.to(torch.int32)


def _weights(shape: tuple[int, ...], case: Case, rng: torch.Generator) -> torch.Tensor:
    """Normal; those of a recurrence are as a network's, or it would amplify every rounding from step to step."""
    scale = case.dims["N"] ** -0.5 if case.op == "gru" and case.dims["N"] else 1.0
    return torch.randn(shape, generator=rng, dtype=torch.float64) * scale


def _indices(shape: tuple[int, ...], case: Case, rng: torch.Generator) -> torch.Tensor:
    return torch.randint(0, max(case.dims.get("V", 1), 1), shape, generator=rng)


def _grid(shape: tuple[int, ...], _: Case, rng: torch.Generator) -> torch.Tensor:
    """Coordinates inside of the map, and some outside."""
    return torch.rand(shape, generator=rng, dtype=torch.float64) * 3 - 1.5


# By the name of an argument, in any operation that does not say otherwise.
VALUES: dict[str, Draw] = {
    "delta": _steps,
    "dt": _steps,
    "A": _decays,
    "a": _rates,
    "delta_bias": _bias,
    "dt_bias": _bias,
    "order": _orders,
    "cu_seqlens": _offsets,
    "seq_idx": _segments,
    "state_indices": _state_indices,
    "cache_seqlens": _seen,
    "indices": _indices,
    "lengths": _lengths,
    "weight": _weights,
    "grid": _grid,
}


def from_half(shape: tuple[int, ...], _: Case, rng: torch.Generator) -> torch.Tensor:
    """Numbers of at least 1/2: where a logarithm, a root or a quotient has a value of moderate size."""
    return torch.randn(shape, generator=rng, dtype=torch.float64).abs() + 0.5


def around_1(shape: tuple[int, ...], _: Case, rng: torch.Generator) -> torch.Tensor:
    """Numbers whose product of hundreds is of moderate size."""
    signs = torch.randint(0, 2, shape, generator=rng) * 2 - 1
    return signs * torch.exp(torch.randn(shape, generator=rng, dtype=torch.float64) * 0.05)


def integers(shape: tuple[int, ...], _: Case, rng: torch.Generator) -> torch.Tensor:
    return torch.randint(-1000, 1000, shape, generator=rng)


def flags(shape: tuple[int, ...], _: Case, rng: torch.Generator) -> torch.Tensor:
    return torch.randint(0, 2, shape, generator=rng)


def rows_of(dim: str) -> Draw:
    """Indices of rows of that dim, some more than once."""

    def draw(shape: tuple[int, ...], case: Case, rng: torch.Generator) -> torch.Tensor:
        return torch.randint(0, max(case.dims[dim], 1), shape, generator=rng)

    return draw
