"""The Mamba-3 mixer and its recurrence: the authors' bare operation, and the properties of the paper's rules."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from mambasdk.errors import InvalidArgumentError
from mambasdk.nn import Mamba3, Mamba3State
from mambasdk.nn.trapezoidal import TrapezoidalInputs, TrapezoidalWeights, trapezoidal_ssd
from mambasdk.testing import golden
from mambasdk.testing.golden import Golden, Recorded, Tensors, Tolerance

D = 12
KINDS: dict[str, dict[str, Any]] = {
    "siso": {"d_state": 8, "headdim": 4},
    "siso, groups and norm": {"d_state": 6, "headdim": 4, "ngroups": 2, "is_outproj_norm": True, "rope_fraction": 1.0},
    "mimo": {"d_state": 8, "headdim": 4, "is_mimo": True, "mimo_rank": 3},
}


def make(kind: str, **options: Any) -> Mamba3:
    """A mixer whose parameters are away from where they begin."""
    torch.manual_seed(0)
    mixer = Mamba3(D, **{**KINDS[kind], **options})
    golden.scatter(mixer, 1, 0.3)
    return mixer


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


# ---- the authors' bare operation ----


class Operation(torch.nn.Module):
    """Its weights by their recorded names."""

    def __init__(self, weights: Tensors) -> None:
        super().__init__()
        for name, tensor in weights.items():
            self.register_parameter(name, torch.nn.Parameter(tensor))


def operation(folder: Path, case: str) -> Operation:
    weights = load_file(folder / "weights.safetensors")
    return Operation({n.removeprefix(f"{case}."): w for n, w in weights.items() if n.startswith(case and f"{case}.")})


def operations(folder: Path) -> list[str]:
    cases = golden.config(folder).get("cases")
    return [""] if cases is None else [name for name, case in cases.items() if case["kind"] == "op"]


def run_operation(model: Operation, given: Recorded) -> Tensors:
    """Outputs, final states and the gradients of the recorded objective."""
    names = ("Q", "K", "V", "Z", "DT", "ADT", "Trap", "Angles")
    leaves = {name: given[name].requires_grad_() for name in names}
    fields = [name for name in Mamba3State._fields if f"initial.{name}_state" in given]
    start = {name: given[f"initial.{name}_state"].requires_grad_() for name in fields}
    weights = dict(model.named_parameters())
    K, Q = (leaves[n] if leaves[n].ndim == 5 else leaves[n].unsqueeze(2) for n in ("K", "Q"))
    K_bias, Q_bias = (w if (w := weights[n]).ndim == 3 else w.unsqueeze(1) for n in ("K_bias", "Q_bias"))
    values, gates, outs = (weights.get(name) for name in ("MIMO_V", "MIMO_Z", "MIMO_Out"))
    y, state = trapezoidal_ssd(
        TrapezoidalInputs(
            leaves["V"],
            K,
            Q,
            *(leaves[name].transpose(1, 2) for name in ("DT", "ADT", "Trap")),
            math.pi * torch.tanh(leaves["Angles"]),
        ),
        TrapezoidalWeights(K_bias, Q_bias, weights["D"], values),
        Mamba3State(**start) if start else None,
        interleaved=values is None,
        return_state=True,
    )
    assert state is not None
    z = leaves["Z"].unsqueeze(2)
    y = y * torch.nn.functional.silu(z if gates is None else z * gates.transpose(0, 1))
    y = (y if outs is None else y * outs.transpose(0, 1)).sum(2)
    if not start:  # the older set, of outputs alone
        found = {"y": y, **{f"{name}_state": tensor for name, tensor in state._asdict().items()}}
        found["k_state"] = found["k_state"].squeeze(1)
        objective = (y * given["cotangent"]).sum()
    else:
        found = {"y": y, **{f"final.{name}_state": tensor for name, tensor in state._asdict().items()}}
        objective = (y * given["cotangent.y"]).sum()
        for name, tensor in state._asdict().items():
            objective = objective + (tensor * given[f"cotangent.{name}_state"]).sum()
    leaves |= weights | {f"initial.{name}_state": tensor for name, tensor in start.items()}
    gradients = torch.autograd.grad(objective, list(leaves.values()))
    found |= {f"grad.{name}": gradient for name, gradient in zip(leaves, gradients, strict=True)}
    for name in [name for name in found if name.endswith("angle_state") and not name.startswith("grad")]:
        turns = torch.round((found[name] - given[name]) / (2 * math.pi))
        found[name] = found[name] - 2 * math.pi * turns
    return found


OPERATIONS = [
    Golden(
        system=system,
        model=operation,
        recorded=golden.read_io,
        cases=operations,
        run=run_operation,
        tolerance=Tolerance(5e-5),
        gradient=Tolerance(1e-3, "largest"),
        double=Tolerance(5e-5),
    )
    for system in ("mamba3", "mamba3-siso")
]


def _recorded() -> Iterable[Any]:
    for one in OPERATIONS:
        folder = golden.find(one.system)
        for case in one.cases(folder) if folder is not None else [""]:
            yield pytest.param(one, case, id=case or one.system)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("one", "case"), list(_recorded()))
def test_the_recurrence_equals_the_authors(one: Golden, case: str, dtype: torch.dtype) -> None:
    one.compare("mamba3", golden.folder_or_skip(one.system), case, dtype)


# ---- properties ----


def step_by_step(mixer: Mamba3, u: Tensor) -> Tensor:
    """The paper's recurrence as it is written, a token at a time, for one group: (B, L, D) -> (B, L, R, H, P)."""
    _, inputs = mixer._inputs(mixer.in_proj(u))
    heads, rank, angles, N = mixer.nheads, mixer.rank, mixer.angles, mixer.d_state
    lam = torch.sigmoid(inputs.trap)
    S, theta, last, out = 0.0, 0.0, None, []
    first = torch.arange(angles) if mixer.is_mimo else 2 * torch.arange(angles)
    second = first + (N // 2 if mixer.is_mimo else 1)
    for t in range(u.shape[1]):
        theta = theta + inputs.dt[:, t, :, None] * inputs.rates[:, t]  # (B, H, S)
        turned = []
        for small, bias in ((inputs.B, mixer.B_bias), (inputs.C, mixer.C_bias)):
            x = small[:, t].repeat_interleave(heads // mixer.ngroups, 2).transpose(1, 2) + bias  # (B, H, R, N)
            y = x.clone()
            cos, sin = theta.cos().unsqueeze(2), theta.sin().unsqueeze(2)
            y[..., first] = x[..., first] * cos - x[..., second] * sin
            y[..., second] = x[..., first] * sin + x[..., second] * cos
            turned.append(y)
        x = inputs.x[:, t]  # (B, H, P)
        v = x.unsqueeze(2) * (mixer.mimo_x if mixer.is_mimo else 1)  # (B, H, R, P)
        new = torch.einsum("bhrp,bhrn->bhpn", v, turned[0])
        dt, decay = (part[:, t, :, None, None] for part in (inputs.dt, inputs.log_decay.exp()))
        lam_t = lam[:, t, :, None, None]
        S = decay * (S + (0 if last is None else (1 - lam_t) * dt * last)) + lam_t * dt * new
        last = new
        out.append(torch.einsum("bhpn,bhrn->brhp", S, turned[1]) + (mixer.D[:, None, None] * v).transpose(1, 2))
    assert out[0].shape[1] == rank
    return torch.stack(out, 1)


def test_one_scan_is_the_recurrence(kind: str) -> None:
    mixer = make(kind).double()
    u = 3 * torch.randn(2, 70, D, dtype=torch.float64)
    weights = TrapezoidalWeights(mixer.B_bias, mixer.C_bias, mixer.D, mixer.mimo_x)
    y, _ = trapezoidal_ssd(mixer._inputs(mixer.in_proj(u))[1], weights, interleaved=not mixer.is_mimo)
    torch.testing.assert_close(y, step_by_step(mixer, u), atol=1e-10, rtol=1e-10)


def test_gradients_are_those_of_differences(kind: str) -> None:
    """Of the inputs, every parameter and the four states, in one sequence and in packed ones."""
    mixer = make(kind).double()
    names, parameters = zip(*mixer.named_parameters(), strict=True)
    u = torch.randn(1, 5, D, dtype=torch.float64, requires_grad=True)
    for offsets in (None, torch.tensor([0, 3, 3, 5], dtype=torch.int32)):
        sequences = 1 if offsets is None else 3
        state = Mamba3State(*(torch.randn_like(t).requires_grad_() for t in mixer.initial_state(sequences)))

        def run(u: Tensor, *rest: Tensor, offsets: Any = offsets) -> Any:
            given = dict(zip(names, rest[4:], strict=True))
            kwargs = {"return_state": True, "cu_seqlens": offsets}
            y, after = torch.func.functional_call(mixer, given, (u, Mamba3State(*rest[:4])), kwargs)
            return y, *after

        assert torch.autograd.gradcheck(run, (u, *state, *parameters), fast_mode=True)


def test_siso_is_mimo_of_one_rank_with_its_channels_in_the_other_order() -> None:
    siso = make("siso", rope_fraction=0.5)
    mimo = make("mimo", rope_fraction=0.5, mimo_rank=1)
    N, S = siso.d_state, siso.angles
    order = torch.empty(N, dtype=torch.int64)  # of MIMO's channel: SISO's
    pairs = torch.arange(S)
    order[pairs], order[pairs + N // 2] = 2 * pairs, 2 * pairs + 1
    rest = [n for n in range(N) if n not in {*pairs.tolist(), *(pairs + N // 2).tolist()}]
    order[rest] = torch.arange(2 * S, N)
    weights = {name: tensor.clone() for name, tensor in siso.state_dict().items()}
    for name in ("B_norm.weight", "C_norm.weight", "B_bias", "C_bias"):
        weights[name] = weights[name][..., order]
    for part in (2, 3):
        begin = sum(siso._rows[:part])
        weights["in_proj.weight"][begin : begin + N] = siso.in_proj.weight[begin : begin + N][order]
    ones = {name: torch.ones_like(getattr(mimo, name)) for name in ("mimo_x", "mimo_z", "mimo_o")}
    mimo.load_state_dict({**weights, **ones})
    x = torch.randn(2, 21, D)
    torch.testing.assert_close(mimo(x), siso(x), atol=2e-5, rtol=2e-5)


def test_outputs_depend_on_no_later_token(kind: str) -> None:
    mixer = make(kind)
    x = torch.randn(1, 9, D)
    other = x.clone()
    other[:, 5:] = 3 * torch.randn(1, 4, D)
    torch.testing.assert_close(mixer(x)[:, :5], mixer(other)[:, :5], atol=1e-5, rtol=1e-5)


def test_zero_rows_before_a_sequence_and_whole_turns_change_nothing(kind: str) -> None:
    mixer = make(kind)
    x = torch.randn(2, 9, D)
    padded = torch.cat([torch.zeros(2, 4, D), x], 1)
    torch.testing.assert_close(mixer(padded)[:, 4:], mixer(x), atol=1e-5, rtol=1e-5)
    _, state = mixer(x, return_state=True)
    turned = state._replace(angle=state.angle + 4 * math.pi)
    torch.testing.assert_close(mixer(x, turned), mixer(x, state), atol=5e-5, rtol=5e-5)


def test_the_floor_of_the_decay_rate_has_no_slope_below_it() -> None:
    for activation in ("heavy_tail", "softplus"):
        mixer = make("siso", A_floor=0.6, A_activation=activation)  # type: ignore[arg-type]
        raw = torch.tensor([-5.0, -1.0, 0.0, 1.0], requires_grad=True)
        mixer._decay_rate(raw).sum().backward()
        assert raw.grad is not None
        assert (raw.grad > 0).tolist() == [False, False, True, True]
        assert mixer._decay_rate(raw)[:2].tolist() == pytest.approx([0.6, 0.6])


def test_a_long_sequence_in_bfloat16_follows_the_float32_one(kind: str) -> None:
    mixer = make(kind)
    x = torch.randn(1, 10_000, D)
    expected = mixer(x)
    narrow = mixer.to(torch.bfloat16)
    found, state = narrow(x.bfloat16(), return_state=True)
    assert state.ssm.dtype == state.angle.dtype == torch.float32
    tail = slice(9_000, None)
    error = (found.float() - expected)[:, tail].norm() / expected[:, tail].norm()
    assert error < 0.03


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"headdim": 5}, "bad headdim"),
        ({"ngroups": 4}, "bad ngroups"),
        ({"d_state": 7}, "bad d_state"),
        ({"rope_fraction": 0.3}, "bad rope_fraction"),
        ({"is_mimo": True, "mimo_rank": 0}, "bad mimo_rank"),
        ({"A_activation": "relu"}, "bad A_activation"),
    ],
)
def test_options_that_cannot_be_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        make("siso", **options)
