"""The mixer of Mixture-of-Mamba: Mamba whose projections each modality has for itself. Source: arXiv 2501.16295."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mambasdk.errors import InvalidArgumentError
from mambasdk.nn import CausalConv1d, MambaState, MarkedParameters
from mambasdk.nn.groups import Groups
from mambasdk.nn.mixer import check_input
from mambasdk.nn.packing import Packing
from mambasdk.nn.selective import (
    DtInit,
    DtProjection,
    ScanParameters,
    initial_A_log,
    selective_ssm,
    skip_weight,
    split_parameters,
)
from mambasdk_multimodal.nn.modalities import check_modality

PROJECTIONS = ("in", "x", "dt", "out")
_WHERE = "MixtureOfMamba"


class MixtureOfMamba(MarkedParameters):
    """Causal sequence mixer (B, L, D) -> (B, L, D): `mambasdk.nn.Mamba` with projections of each token's modality.

    modalities: M. Tokens are sorted by modality once for all projections, and each modality is one product over its
    rows. Convolution, decay and scan are shared and run over the mixed sequence.
    shared: those of PROJECTIONS that all modalities have in common; with all four it is the dense Mamba.
    dt_bias: "applied", or "upstream": the published code leaves the bias of a shared dt projection out.
    The others: see `mambasdk.nn.Mamba`. Parameters are named as upstream's, `local_experts_in_proj.{p}.weight` (2I, D)
    and so on for modality p, or `in_proj.weight` where it is shared. Each modality's are drawn by themselves.
    Source: arXiv 2501.16295, algorithm 1.
    """

    float32 = ("A_log", "D")
    no_weight_decay = ("A_log", "D")

    def __init__(
        self,
        d_model: int,
        modalities: int,
        d_state: int = 16,
        d_conv: int = 4,
        expand: float = 2,
        dt_rank: int | Literal["auto"] = "auto",
        *,
        shared: Collection[str] = (),
        dt_bias: Literal["applied", "upstream"] = "applied",
        dt_min: float = 1e-3,
        dt_max: float = 0.1,
        dt_init: Literal["random", "constant"] = "random",
        dt_scale: float = 1.0,
        dt_init_floor: float = 1e-4,
        bias: bool = False,
        conv_bias: bool = True,
        d_inner: int | None = None,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        _check(modalities, shared, dt_bias)
        factory = {"device": device, "dtype": dtype}
        self.d_model = d_model
        self.modalities = modalities
        self.d_state = d_state
        self.d_conv = d_conv
        self.d_inner = int(expand * d_model) if d_inner is None else d_inner
        self.dt_rank = math.ceil(d_model / 16) if dt_rank == "auto" else int(dt_rank)
        self.shared = frozenset(shared)
        self.dt_bias = dt_bias
        inner, low = self.d_inner, self.dt_rank + 2 * d_state

        def add(name: str, make: Any) -> None:
            if name in self.shared:
                self.add_module(f"{name}_proj", make())
            else:
                self.add_module(f"local_experts_{name}_proj", nn.ModuleList(make() for _ in range(modalities)))

        add("in", lambda: nn.Linear(d_model, 2 * inner, bias=bias, **factory))
        self.conv1d = CausalConv1d(inner, d_conv, bias=conv_bias, silu=True, **factory)
        add("x", lambda: nn.Linear(inner, low, bias=False, **factory))
        add("dt", lambda: DtProjection(self.dt_rank, inner, bias=True, **factory))
        self.A_log = initial_A_log(inner, d_state, device)
        self.D = skip_weight(inner, device)
        add("out", lambda: nn.Linear(inner, d_model, bias=bias, **factory))
        init = DtInit(dt_min, dt_max, dt_init, dt_scale, dt_init_floor)
        for projection in self._own("dt"):
            init.apply(projection, _WHERE)
        self.mark_parameters()

    def _own(self, name: str) -> list[Any]:
        """The projections of a name: one of each modality, or the shared one."""
        shared = name in self.shared
        found = self.get_submodule(f"{name}_proj" if shared else f"local_experts_{name}_proj")
        return [found] if shared else list(found.children())

    def initial_state(self, batch_size: int) -> MambaState:
        """The zero state, which is Mamba's."""
        weight = self.conv1d.weight
        return MambaState(
            weight.new_zeros(batch_size, self.d_conv - 1, self.d_inner),
            torch.zeros(batch_size, self.d_inner, self.d_state, device=weight.device, dtype=self.A_log.dtype),
        )

    def forward(
        self,
        x: Tensor,  # (B, L, D); (1, total, D) with cu_seqlens
        state: MambaState | None = None,
        *,
        modality: Tensor | Groups,  # (B, L) integers in [0, M), or the groups of these B L rows
        return_state: bool = False,
        mask: Tensor | None = None,  # (B, L), 1 or True where there is a token
        cu_seqlens: Tensor | None = None,  # (S+1) int32, offsets of the packed sequences
    ) -> Any:
        """Output (B, L, D); with `return_state`, (output, state after the last step). See `mambasdk.nn.Mamba.forward`.

        Raises ShapeError, and InvalidArgumentError for a modality that is none, with its place and value.
        """
        check_input(x, self.d_model, _WHERE)
        if isinstance(modality, Tensor):
            check_modality(modality, x, self.modalities, _WHERE, mask)
        packing = Packing.of(mask, x, _WHERE, cu_seqlens)
        if packing is not None:
            if not isinstance(modality, Tensor):
                raise InvalidArgumentError("groups are of packed tokens", where=_WHERE, way_out="pack before, or ids")
            packed = packing.pack(modality)
            return packing.run(lambda *a, **more: self(*a, modality=packed, **more), x, state, return_state)
        groups = Groups.of(modality.flatten(), self.modalities) if isinstance(modality, Tensor) else modality
        u, z = self._project("in", x, groups).chunk(2, dim=-1)  # (B, L, I) each

        def parameters(conved: Tensor) -> ScanParameters:
            return self._scan_parameters(conved, groups)

        y, new_state = selective_ssm(
            u,
            z,
            self.conv1d,
            parameters,
            self.A_log,
            self.D,
            state=state,
            return_state=return_state,
            cu_seqlens=cu_seqlens,
        )
        y = self._project("out", y, groups)
        return (y, new_state) if return_state else y

    def _project(self, name: str, x: Tensor, groups: Groups) -> Tensor:
        """(…, I) -> (…, O) by the projection of each row's modality."""
        if name in self.shared:
            y: Tensor = self.get_submodule(f"{name}_proj")(x)
            return y
        rows = groups.restore(self._products(name, groups.sort(x.flatten(0, -2)), groups))
        return torch.unflatten(rows, 0, x.shape[:-1])

    def _products(self, name: str, rows: Tensor, groups: Groups) -> Tensor:
        """Sorted rows (T, I) -> (T, O)."""
        own = self._own(name)
        biases = None if own[0].bias is None else [each.bias for each in own]
        return groups.linear(rows, [each.weight for each in own], biases)

    def _scan_parameters(self, u: Tensor, groups: Groups) -> ScanParameters:
        """What the scan is given for u (…, I). Rows stay sorted between the two projections.

        The scan adds the bias of the step sizes where it is one for all rows, as in Mamba; else the projection does.
        """
        rows = u.flatten(0, -2)
        is_sorted = "x" not in self.shared
        if is_sorted:
            rows = groups.sort(rows)
            low = self._products("x", rows, groups)
        else:
            low = self.get_submodule("x_proj")(rows)
        dt_low, B, C = split_parameters(low, self.d_state)
        own, bias = self._own("dt"), None
        if "dt" in self.shared:
            delta = own[0](groups.restore(dt_low) if is_sorted else dt_low)
            bias = own[0].bias if self.dt_bias == "applied" else None
        else:
            dt_low = dt_low if is_sorted else groups.sort(dt_low)
            if groups.only is not None:
                delta, bias = groups.linear(dt_low, [each.weight for each in own]), own[groups.only].bias
                delta = groups.touch(delta, [each.bias for each in own])
            else:
                delta = groups.restore(groups.linear(dt_low, [e.weight for e in own], [e.bias for e in own]))
        if is_sorted:
            B, C = groups.restore(low[:, -2 * self.d_state :]).chunk(2, dim=-1)
        lead = u.shape[:-1]
        return ScanParameters(delta.unflatten(0, lead), B.unflatten(0, lead), C.unflatten(0, lead), bias)


def _check(modalities: int, shared: Collection[str], dt_bias: str) -> None:
    if not isinstance(modalities, int) or modalities < 1:
        raise InvalidArgumentError("bad modalities", where=_WHERE, expected="1 or more", got=repr(modalities))
    if isinstance(shared, str) or set(shared) - set(PROJECTIONS):
        raise InvalidArgumentError(
            "bad shared", where=_WHERE, expected=f"some of {', '.join(PROJECTIONS)}", got=repr(shared)
        )
    if dt_bias not in ("applied", "upstream"):
        raise InvalidArgumentError("bad dt_bias", where=_WHERE, expected="'applied' or 'upstream'", got=repr(dt_bias))
