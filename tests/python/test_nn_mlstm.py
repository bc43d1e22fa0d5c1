"""The mLSTM mixer and the ViL block: golden layers, the state contract, precision, the native engine."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import mambasdk
from mambasdk import _core, nn
from mambasdk.errors import InvalidArgumentError, ShapeError
from mambasdk.testing import golden as files
from mambasdk.testing.golden import Tolerance

D, L = 12, 21
NETS = ("enc2d", "bot2d", "enc3d", "bot3d")


def make(d_model: int = D, **options: Any) -> nn.MLSTM:
    """A mixer whose parameters are away from where they begin."""
    torch.manual_seed(0)
    mixer = nn.MLSTM(d_model, **options)
    files.scatter(mixer, 1, 0.2)
    return mixer


def draw(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))).to(dtype)


@pytest.mark.parametrize("net", NETS)
def test_golden_blocks(golden: Callable[[str], Path], net: str) -> None:
    """The deepest ViL layer of each net of golden/xlstm-unet, over positions or channels of its map."""
    folder = golden("xlstm-unet")
    weights, io = load_file(folder / "weights.safetensors"), load_file(folder / "io.safetensors")
    layer = json.loads((folder / "config.json").read_text())["vil"][net]["vil"][-1]
    prefix = f"{net}.{layer['name']}.vil."
    block = nn.ViLBlock(layer["dim"])
    block.load_state_dict({k.removeprefix(prefix): w for k, w in weights.items() if k.startswith(prefix)})
    assert block.layer.num_heads == layer["heads"]
    x, y = (io[f"mid.{net}.vil_{end}"].flatten(2) for end in ("in", "out"))
    if not layer["channel_token"]:
        x, y = x.mT, y.mT
    Tolerance(1e-4, "largest").check(block(x), y, "y")


def test_names_and_shapes_are_the_checkpoints() -> None:
    block = nn.ViLBlock(16)
    shapes = {name: tuple(parameter.shape) for name, parameter in block.named_parameters()}
    assert shapes == {
        "norm.weight": (16,),
        "layer.proj_up.weight": (64, 16),
        "layer.q_proj.weight": (8, 4, 4),
        "layer.k_proj.weight": (8, 4, 4),
        "layer.v_proj.weight": (8, 4, 4),
        "layer.conv1d.conv.weight": (32, 1, 4),
        "layer.conv1d.conv.bias": (32,),
        "layer.mlstm_cell.igate.weight": (4, 96),
        "layer.mlstm_cell.igate.bias": (4,),
        "layer.mlstm_cell.fgate.weight": (4, 96),
        "layer.mlstm_cell.fgate.bias": (4,),
        "layer.mlstm_cell.outnorm.weight": (32,),
        "layer.learnable_skip": (32,),
        "layer.proj_down.weight": (16, 32),
    }


@pytest.mark.parametrize(("dim", "number"), [(8, 4), (6, 2), (25, 2), (400, 4)])
def test_heads_and_blocks_follow_the_width(dim: int, number: int) -> None:
    mixer = nn.MLSTM(dim)
    assert mixer.num_heads == number
    assert mixer.q_proj.weight.shape == (2 * dim // number, number, number)
    assert mixer(draw(1, 3, dim)).shape == (1, 3, dim)


def test_initialisation() -> None:
    torch.manual_seed(0)
    mixer = nn.MLSTM(256)
    cell = mixer.mlstm_cell
    small = (2 / (5 * 256)) ** 0.5
    for layer in (mixer.proj_up, mixer.q_proj, mixer.k_proj, mixer.v_proj):
        assert float(layer.weight.detach().std()) == pytest.approx(small, rel=0.05)
    assert float(mixer.proj_down.weight.detach().std()) == pytest.approx(2 / 16, rel=0.05)
    assert torch.equal(cell.fgate.bias.detach(), torch.linspace(3, 6, 4))
    assert not cell.fgate.weight.any()
    assert not cell.igate.weight.any()
    assert 0 < float(cell.igate.bias.detach().abs().max()) < 0.5
    assert not cell.outnorm.weight.any()
    assert bool((mixer.learnable_skip == 1).all())


@pytest.mark.parametrize("options", [{}, {"num_heads": 3, "block_size": 6, "d_conv": 3, "chunk": 8}])
def test_a_state_continues_a_sequence(options: dict[str, Any]) -> None:
    """Any split, with gradients through the state; single steps without."""
    mixer = make(**options).double()
    x = draw(2, L, D, dtype=torch.float64).requires_grad_()
    whole, final = mixer(x, mixer.initial_state(2), return_state=True)
    (expected,) = torch.autograd.grad(whole.square().sum(), x)
    state, pieces = mixer.initial_state(2), []
    for piece in x.split([5, 1, 0, 15], 1):
        y, state = mixer(piece, state, return_state=True)
        pieces.append(y)
    found = torch.cat(pieces, 1)
    torch.testing.assert_close(found, whole, rtol=1e-10, atol=1e-10)
    (gradient,) = torch.autograd.grad(found.square().sum(), x)
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-9)
    with torch.no_grad():
        state, pieces = mixer.initial_state(2), []
        for piece in x.split(1, 1):
            y, state = mixer(piece, state, return_state=True)
            pieces.append(y)
    torch.testing.assert_close(torch.cat(pieces, 1), whole, rtol=1e-10, atol=1e-10)
    for ours, theirs in zip(state, final, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    without = mixer(x)  # from m = -inf: a factor within 1e-6 of 1 before the norm
    torch.testing.assert_close(without, whole, rtol=1e-5, atol=1e-5)


def test_no_step_hears_a_later_one() -> None:
    block = nn.ViLBlock(D)
    files.scatter(block, 1, 0.2)
    x = draw(2, L, D)
    y = block(x)
    for t in (1, 7, 20):
        changed = x.clone()
        changed[:, t:] += 1.0
        assert torch.equal(block(changed)[:, :t], y[:, :t])
        assert not torch.equal(block(changed)[:, t:], y[:, t:])


def test_a_mask_leaves_its_positions_as_they_are() -> None:
    block = nn.ViLBlock(D)
    files.scatter(block, 1, 0.2)
    x, mask = draw(2, 7, D), torch.tensor([[0, 1, 1, 0, 1, 1, 1], [0, 0, 0, 0, 0, 0, 0]])
    y, state = block(x, mask=mask, return_state=True)
    present = mask[0].bool()
    alone, after = block(x[:1, present], return_state=True)
    torch.testing.assert_close(y[0, present], alone[0], rtol=1e-6, atol=1e-6)
    assert torch.equal(y[0, ~present], x[0, ~present])
    assert torch.equal(y[1], x[1])
    for ours, theirs in zip(state, after, strict=True):
        torch.testing.assert_close(ours[:1], theirs, rtol=1e-6, atol=1e-6)
    more = block(x, state)  # the row without a token begins here
    torch.testing.assert_close(more[1:], block(x[1:]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_gates_and_memory_are_float32_under_autocast(dtype: torch.dtype) -> None:
    """Training in half precision stays finite with gates whose exponentials 16 bits cannot hold, and near float32."""
    block = nn.ViLBlock(D)
    files.scatter(block, 1, 0.2)
    with torch.no_grad():
        block.layer.mlstm_cell.igate.bias.add_(40.0)
    x = draw(2, L, D)
    exact = block(x)
    with torch.autocast("cpu", dtype):
        y, state = block(x, return_state=True)
        igate, _ = block.layer.mlstm_cell.gates(*(draw(2, L, 2 * D, dtype=dtype) for _ in range(3)))
    assert igate.dtype == torch.float32
    assert {t.dtype for t in (state.C, state.n, state.m)} == {torch.float32}
    assert float((y - exact).abs().max()) < 0.05 * float((exact - x).abs().max())
    optimizer = torch.optim.SGD(block.parameters(), 0.01, momentum=0.9)
    for _ in range(20):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype):
            loss = (block(x).float() - x.flip(-1)).square().mean()
        loss.backward()
        assert bool(loss.isfinite())
        assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in block.parameters())
        optimizer.step()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_module_in_half_precision(dtype: torch.dtype) -> None:
    block = nn.ViLBlock(D)
    files.scatter(block, 1, 0.2)
    exact = block(draw(2, L, D))
    y, state = block.to(dtype)(draw(2, L, D, dtype=dtype), return_state=True)
    assert y.dtype == dtype
    assert state.m.dtype == torch.float32
    assert float((y.float() - exact).abs().max()) < 0.05 * float(exact.abs().max())


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(InvalidArgumentError, match="bad num_heads"):
        nn.MLSTM(D, num_heads=5)
    with pytest.raises(InvalidArgumentError, match="bad block_size"):
        nn.MLSTM(D, block_size=7)
    with pytest.raises(ShapeError, match=r"MLSTM.*\(B, L, 12\)"):
        make()(draw(2, L, D + 1))
    with pytest.raises(InvalidArgumentError, match="bad chunk"):
        nn.mlstm_chunkwise(*(draw(1, 2, 1, 4) for _ in range(3)), draw(1, 2, 1), draw(1, 2, 1), chunk=0)


@torch.no_grad()
def test_the_native_engine_steps(tmp_path: Path) -> None:
    """Any split of a sequence over the calls of a session gives what PyTorch gives for the whole."""
    blocks = [nn.Block(make(), nn.LayerNorm(D)) for _ in range(2)]
    model = nn.CausalLM(nn.MixerModel(blocks, nn.LayerNorm(D), D, vocab_size=32), 32).eval()
    mambasdk.save_package(model, tmp_path / "package", engine="native")
    program = json.loads((tmp_path / "package" / "program.json").read_text())
    assert sum(node.get("op") == "mlstm" for node in program["nodes"]) == 2
    tokens = torch.randint(32, (2, 11), generator=torch.Generator().manual_seed(0), dtype=torch.int32)
    whole = model.native_outputs({"tokens": tokens})["logits"]
    loaded = _core.load_package(str(tmp_path / "package"))
    for split in (11, 1, 4):
        session = loaded.session()
        pieces = [session.run({"tokens": part.numpy()}, ["logits"])["logits"] for part in tokens.split(split, 1)]
        found = torch.cat([torch.as_tensor(piece) for piece in pieces], 1)
        torch.testing.assert_close(found, whole, rtol=1e-5, atol=1e-5)
