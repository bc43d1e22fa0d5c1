"""The routed scan of SS2D beside copies for every route."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from peers import cross_scan_2d
from timing import Call, medians
from torch import Tensor

from mambasdk import ops
from mambasdk_vision.families.vmamba import SS2D
from mambasdk_vision.nn.routes import cross_routes


def route_calls(side: int, width: int, states: int) -> dict[str, Call]:
    """ours and the copies, on the scan alone and with the projections; checked to give the same map."""
    torch.manual_seed(0)
    mixer = SS2D(width, states, 2.0 if states > 1 else 1.0)
    inner, rank, length = mixer.d_inner, mixer.dt_rank, side * side
    u = torch.randn(1, side, side, inner)
    order = cross_routes(side, side)
    A = -torch.exp(mixer.A_logs.detach()).view(4, inner, states)
    shared = {"D": mixer.Ds.detach().view(4, inner), "delta_bias": mixer.dt_projs_bias.detach()}
    low = torch.randn(1, 4, length, rank + 2 * states)
    delta = low[..., :rank] @ mixer.dt_projs_weight.detach().transpose(1, 2)
    B, C = low[..., rank : rank + states], low[..., rank + states :]
    flat = u.flatten(1, 2)
    xs, ordered = cross_scan_2d.copies(u), delta.transpose(1, 2).contiguous()
    calls: dict[str, Call] = {
        "scan, routed": lambda: ops.selective_scan(flat, delta, A, B, C, delta_softplus=True, order=order, **shared),
        "scan, gathered": lambda: cross_scan_2d.gathered(u=flat, delta=delta, A=A, B=B, C=C, order=order, **shared),
        "scan, cross-scan and cross-merge": lambda: cross_scan_2d.merge(
            cross_scan_2d.scan(cross_scan_2d.copies(u), ordered, A, B.transpose(1, 2), C.transpose(1, 2), **shared),
            side,
            side,
        ),
        "scan, copies already there": lambda: cross_scan_2d.scan(
            xs, ordered, A, B.transpose(1, 2), C.transpose(1, 2), **shared
        ),
        "mixer, routed": lambda: mixer._routed(u),
        "mixer, cross-scan and cross-merge": lambda: cross_scan_2d.ss2d_core(mixer, u),
    }
    _same(calls["scan, routed"](), calls["scan, gathered"]())
    _same(calls["mixer, routed"](), calls["mixer, cross-scan and cross-merge"]())
    return calls


def _same(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=1e-4 * float(theirs.abs().max()), rtol=0)


# (side of the map, C, N): first and second stage of VMamba-tiny at 224, first stage at 512; vanilla and s1l8.
MAPS = ((56, 96, 16), (28, 192, 16), (128, 96, 16), (56, 96, 1), (128, 96, 1))


def measure(quick: bool, memory: Callable[[str, Any], list[dict[str, float]]]) -> dict[str, Any]:
    """Rows by map."""
    maps = MAPS[:1] if quick else MAPS
    memories = memory("routes", range(len(maps)))
    rows = []
    for (side, width, states), used in zip(maps, memories, strict=True):
        seconds = medians(route_calls(side, width, states), 5 if quick else 15)
        ratios = {
            name: (seconds[name] / seconds[ours], used[name] / max(used[ours], 0.1))
            for name, ours in (
                ("scan, gathered", "scan, routed"),
                ("scan, cross-scan and cross-merge", "scan, routed"),
                ("mixer, cross-scan and cross-merge", "mixer, routed"),
            )
        }
        rows.append({"map": [side, side, width, states], "seconds": seconds, "MiB": used, "ratios": ratios})
        print(f"{side} x {side}, C {width}, N {states}")
        for name, value in seconds.items():
            ratio = "  {:.2f} x time, {:.2f} x memory of the routed one".format(*ratios[name]) if name in ratios else ""
            print(f"  {name:34s} {1000 * value:8.2f} ms {used[name]:8.1f} MiB{ratio}")
    return {"rows": rows}
