"""Fixtures: random graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import mambasdk
from mambasdk.plugins import get_host
from mambasdk_graph import Graph

FAMILIES = ("graph_mamba", "gmn")


@pytest.fixture(scope="session")
def make_graph() -> Callable[..., Graph]:
    """make_graph(nodes, chance of an edge, seed, features=3, edge_features=1, directed=False): a random graph."""

    def make(
        nodes: int, chance: float, seed: int = 0, *, features: int = 3, edge_features: int = 1, directed: bool = False
    ) -> Graph:
        random = np.random.default_rng((nodes, seed))
        linked = random.random((nodes, nodes)) < chance
        np.fill_diagonal(linked, False)
        if not directed:
            linked = np.triu(linked) | np.triu(linked).T
        ends = torch.from_numpy(np.argwhere(linked).T.reshape(2, -1).copy())
        x = torch.from_numpy(random.standard_normal((nodes, features)).astype(np.float32))
        attr = torch.from_numpy(random.standard_normal((ends.shape[1], edge_features)).astype(np.float32))
        return Graph(x, ends, attr if edge_features else None)

    return make


@pytest.fixture
def tiny() -> Callable[..., Any]:
    """tiny(family, **overrides): a model of the family's smallest configuration, in eval mode, the same every time."""

    def make(family: str, **overrides: Any) -> Any:
        torch.manual_seed(0)
        model = mambasdk.create_model(family, **{**get_host().family(family).tiny, **overrides})
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm1d):  # running statistics that do something
                module.running_mean.uniform_(-0.2, 0.2)  # type: ignore[union-attr]
                module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
        return model.eval()

    return make
