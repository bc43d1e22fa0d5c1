"""From raw node and edge features to vectors, under GraphGym's parameter names."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mambasdk.errors import DtypeError, InvalidArgumentError, ShapeError
from mambasdk_graph.config import check_choice

# Sizes of OGB's categorical features (ogb.utils.features): atoms have 9, bonds 3.
ATOM_FEATURES = (119, 5, 12, 12, 10, 6, 6, 2, 2)
BOND_FEATURES = (5, 6, 2)
NODE_ENCODERS = ("linear", "atom", "none")
EDGE_ENCODERS = ("linear", "bond", "dummy", "none")


def check_encoders(where: str, node: str, edge: str, dim_in: int, width: int) -> None:
    """Raise InvalidArgumentError for unknown encoders, and for none where nodes are not as wide as the layers."""
    check_choice(where, "node_encoder", node, NODE_ENCODERS)
    check_choice(where, "edge_encoder", edge, EDGE_ENCODERS)
    if node == "none" and dim_in != width:
        raise InvalidArgumentError(
            "bad dim_in without a node encoder", where=where, expected=f"{width}, which the layers take", got=dim_in
        )


class Categories(nn.Module):
    """The sum of one embedding per categorical column: (N, C) int64 -> (N, D)."""

    def __init__(self, sizes: tuple[int, ...], width: int, name: str) -> None:
        super().__init__()
        tables = nn.ModuleList()
        for size in sizes:
            table = nn.Embedding(size, width)
            nn.init.xavier_uniform_(table.weight)
            tables.append(table)
        self._sizes = sizes
        self._name = name
        self.add_module(name, tables)

    def forward(self, x: Tensor) -> Tensor:
        """Raises ShapeError and DtypeError for what is no table of categories."""
        if x.ndim != 2 or x.shape[1] != len(self._sizes):
            raise ShapeError(
                "bad categories", where=self._name, expected=f"(…, {len(self._sizes)})", got=tuple(x.shape)
            )
        if x.is_floating_point():
            raise DtypeError("bad categories", where=self._name, expected="int64", got=x.dtype)
        tables = getattr(self, self._name)
        out: Tensor = tables[0](x[:, 0])
        for column in range(1, len(self._sizes)):
            out = out + tables[column](x[:, column])
        return out


class LinearFeatures(nn.Module):
    """A linear layer on float features: (N, F) -> (N, D)."""

    def __init__(self, features: int, width: int, what: str) -> None:
        super().__init__()
        self.encoder = nn.Linear(features, width)
        self._what = what

    def forward(self, x: Tensor) -> Tensor:
        """Raises ShapeError for another number of features."""
        check_features(x, self.encoder.in_features, self._what)
        encoded: Tensor = self.encoder(x.to(self.encoder.weight.dtype))
        return encoded


class OneVector(nn.Module):
    """The same learned vector for every edge."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.encoder = nn.Embedding(1, width)

    def forward(self, count: int) -> Tensor:
        """(count, D)."""
        return self.encoder.weight.expand(count, -1)


class LaplacianEncoder(nn.Module):
    """LapPE as a set of frequencies: each eigenpair's (component, eigenvalue) through an MLP, summed.

    features: of x, which a linear layer makes `width - pe_width` wide; None where another encoder does that.
    Training turns the sign of each eigenvector at random.
    """

    def __init__(self, width: int, pe_width: int, *, layers: int, features: int | None) -> None:
        super().__init__()
        if not 0 < pe_width < width:
            raise InvalidArgumentError("bad pe_width", where="LapPE", expected=f"1 to {width - 1}", got=pe_width)
        if layers < 2:
            raise InvalidArgumentError("bad pe_layers", where="LapPE", expected="2 or more", got=layers)
        self.linear_x = nn.Linear(features, width - pe_width) if features is not None else None
        self.linear_A = nn.Linear(2, 2 * pe_width)
        inner: list[nn.Module] = [nn.ReLU()]
        for _ in range(layers - 2):
            inner += [nn.Linear(2 * pe_width, 2 * pe_width), nn.ReLU()]
        self.pe_encoder = nn.Sequential(*inner, nn.Linear(2 * pe_width, pe_width), nn.ReLU())

    def forward(self, x: Tensor, eigvals: Tensor, eigvecs: Tensor) -> Tensor:
        """X (N, F or width - pe_width), eigvals and eigvecs (N, K), NaN where a graph has fewer; (N, width)."""
        if self.training:
            signs = torch.randint(0, 2, (eigvecs.shape[1],), device=eigvecs.device) * 2 - 1
            eigvecs = eigvecs * signs
        pairs = torch.stack((eigvecs, eigvals), -1)  # (N, K, 2)
        absent = pairs.isnan()
        encoded = self.pe_encoder(self.linear_A(pairs.masked_fill(absent, 0.0)))  # (N, K, P)
        encoded = encoded.masked_fill(absent[:, :, :1], 0.0).sum(1)
        if self.linear_x is not None:
            check_features(x, self.linear_x.in_features, "x")
            x = self.linear_x(x)
        return torch.cat((x, encoded), 1)


class NodeEncoder(nn.Module):
    """Two encoders side by side, under the names that upstream gives them."""

    def __init__(self, first: nn.Module, second: LaplacianEncoder) -> None:
        super().__init__()
        self.encoder1 = first
        self.encoder2 = second

    def forward(self, x: Tensor, eigvals: Tensor, eigvecs: Tensor) -> Tensor:
        """As LaplacianEncoder."""
        encoded: Tensor = self.encoder2(self.encoder1(x), eigvals, eigvecs)
        return encoded


def check_features(x: Tensor, features: int, what: str) -> None:
    """Raise ShapeError unless x is (…, features)."""
    if x.ndim != 2 or x.shape[1] != features:
        raise ShapeError(
            f"bad {what}",
            where="encoder",
            expected=f"(…, {features})",
            got=tuple(x.shape),
            way_out=f"the model was made for {features} features",
        )
