"""Scans and mixers of the families beside what their papers compare them with, at equal widths and maps."""

from __future__ import annotations

from typing import Any

import torch
from timing import Call, medians
from torch import Tensor, nn

from mambasdk import ops
from mambasdk_vision.families.efficientvmamba import ES2D, atrous_routes
from mambasdk_vision.families.plainmamba import PlainMamba2D, snakes
from mambasdk_vision.families.vmamba import SS2D
from mambasdk_vision.families.vssd import VSSDMixer
from mambasdk_vision.nn.routed_scan import RoutedScan
from mambasdk_vision.nn.routes import cross_routes

WIDTH, STATES, SIDE, BATCH = 96, 16, 56, 8


def measure(quick: bool) -> dict[str, Any]:
    """Seconds and ratios of each comparison; goals are the published ratios or those that follow from the work."""
    repeats = 2 if quick else 7
    results = {
        "atrous": _row(_atrous(), repeats, [("SS2D, scan", "ES2D, scan", 3.5), ("SS2D, mixer", "ES2D, mixer", 1.5)]),
        "snakes": _row(_snakes(), repeats, [("four scans of copies", "one routed scan", 1.5)]),
    }
    with torch.enable_grad():
        for side, width, heads in ((56, 64, 2),) if quick else ((56, 64, 2), (28, 128, 4)):
            goals = [("causal", "non-causal", 1.2), ("bidirectional", "non-causal", 1.5)]
            results[f"duality {side}"] = _row(_duality(side, width, heads), repeats, goals)
    growth = {"112": _forward(VSSDMixer(64, 2), 112), "56": _forward(VSSDMixer(64, 2), 56)}
    results["duality growth"] = _row(growth, repeats, [("112", "56", None)])
    return results


def _row(calls: dict[str, Call], repeats: int, goals: list[tuple[str, str, float | None]]) -> dict[str, Any]:
    seconds = medians(calls, repeats)
    for name, value in seconds.items():
        print(f"  {name:22s} {1000 * value:9.2f} ms")
    ratios = []
    for slower, faster, goal in goals:
        ratio = seconds[slower] / seconds[faster]
        ratios.append({"of": slower, "over": faster, "ratio": ratio, "goal": goal})
        print(f"  {slower} over {faster}: {ratio:.2f}" + (f" (goal {goal})" if goal else ""))
    return {"seconds": seconds, "ratios": ratios}


def _forward(module: nn.Module, side: int) -> Call:
    x = torch.randn(1, side, side, 64)
    return lambda: module(x)


def _scan(mixer: RoutedScan, u: Tensor, order: Tensor) -> Call:
    """The kernel alone, on projections of every step that are there."""
    inner, states = mixer.d_inner, mixer.d_state
    batch, steps = u.shape[0], order.shape[1]
    delta = torch.randn(batch, 4, steps, inner)
    B, C = torch.randn(2, batch, 4, steps, states)
    A = -torch.exp(mixer.A_logs.detach()).view(4, inner, states)
    D, bias = mixer.Ds.detach().view(4, inner), mixer.dt_projs_bias.detach()
    given = {"D": D, "delta_bias": bias, "delta_softplus": True, "order": order, "step_params": True}
    return lambda: ops.selective_scan(u, delta, A, B, C, **given)


def _atrous() -> dict[str, Call]:
    """SS2D of four whole routes and ES2D of four routes over a quarter each."""
    torch.manual_seed(0)
    full, atrous = SS2D(WIDTH, STATES, 2.0, forward_type="v0"), ES2D(WIDTH)
    x = torch.randn(BATCH, SIDE, SIDE, WIDTH)
    u = torch.randn(BATCH, SIDE, SIDE, full.d_inner)
    return {
        "SS2D, scan": _scan(full, u.flatten(1, 2), cross_routes(SIDE, SIDE)),
        "ES2D, scan": _scan(atrous, u.flatten(1, 2), atrous_routes(SIDE, SIDE)),
        "SS2D, mixer": lambda: full(x),
        "ES2D, mixer": lambda: atrous(x),
    }


def _snakes() -> dict[str, Call]:
    """PlainMamba's four snakes, as one scan with an order and as a scan of gathered copies for each."""
    torch.manual_seed(0)
    mixer = PlainMamba2D(WIDTH * 2)
    side = 28
    u = torch.randn(1, side * side, mixer.d_inner)
    order, directions = snakes(side, side, device=u.device)
    inverse = order.long().argsort(dim=1)
    low = mixer.x_proj(u)
    dt_low, B, C = low.split([mixer.dt_rank, mixer.d_state, mixer.d_state], dim=-1)
    delta, bias, A = mixer.dt_proj(dt_low), mixer.dt_proj.bias.detach(), -torch.exp(mixer.A_log.detach())
    steps = [B + mixer.direction_Bs[directions[route]] for route in range(4)]

    def separate() -> Tensor:
        total = torch.zeros_like(u)
        for route in range(4):
            copied = u[:, order[route].long()]
            y = ops.selective_scan(copied, delta, A, steps[route], C, D=mixer.D, delta_bias=bias, delta_softplus=True)
            total += y[:, inverse[route]]
        return total

    def routed() -> Tensor:
        four = delta[:, None].expand(-1, 4, -1, -1)
        y: Tensor = ops.selective_scan(
            u,
            four,
            A.expand(4, -1, -1),
            torch.stack(steps, 1),
            C[:, None].expand(-1, 4, -1, -1),
            D=mixer.D.expand(4, -1),
            delta_bias=bias.expand(4, -1),
            delta_softplus=True,
            order=order,
            step_params=True,
        )
        return y

    torch.testing.assert_close(routed(), separate(), atol=1e-4, rtol=1e-4)
    return {"one routed scan": routed, "four scans of copies": separate}


def _duality(side: int, width: int, heads: int) -> dict[str, Call]:
    """Forward and backward of VSSD's mixer in three forms, at the widths of its tiny variant."""
    torch.manual_seed(0)
    x = torch.randn(BATCH, side, side, width)
    mixers = {
        "non-causal": VSSDMixer(width, heads),
        "causal": VSSDMixer(width, heads, mixing="causal"),
        "bidirectional": VSSDMixer(width, heads, ngroups=2, mixing="bidirectional"),
    }

    def step(mixer: nn.Module) -> None:
        mixer.zero_grad()
        mixer(x).sum().backward()

    return {name: lambda mixer=mixer: step(mixer) for name, mixer in mixers.items()}
