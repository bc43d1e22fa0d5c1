"""The state contract of causal families: `out = model(x, state=None)`, where `out.state` continues the sequence."""

from __future__ import annotations

import inspect
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mambasdk import _core
from mambasdk.nn import ModelState
from mambasdk.testing.property import Property, collected
from mambasdk.testing.subject import Subject, trainable

PROPERTIES: list[Property] = []
LENGTH = 13
SPLITS = ([LENGTH], [1] * LENGTH, [0, 5, 0, 1, 7], [2, 11], [12, 1, 0])
MASKS = {
    "right padding": [[1, 1, 1, 1, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0, 0]],
    "left padding": [[0, 0, 0, 0, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0, 0, 1]],
    "holes": [[1, 0, 1, 1, 0, 0, 1, 0], [0, 1, 0, 0, 0, 1, 1, 1]],
    "an empty row": [[0, 0, 0, 0, 0, 0, 0, 0], [1, 1, 0, 1, 1, 0, 1, 1]],
}


def _causal(subject: Subject) -> bool:
    return subject.spec.causal


def _takes(name: str) -> Any:
    def applies(subject: Subject) -> bool:
        return subject.spec.causal and name in inspect.signature(subject.model().forward).parameters

    return applies


def _sequence(model: Any, length: int | None = None) -> Tensor:
    """The example's only input, (B, length, …)."""
    (x,) = model.example_inputs().values()
    tensor: Tensor = x[:, :length]
    return tensor


def _steps(out: Any, length: int) -> dict[str, Tensor]:
    """What the model gives for each step, by name: tensors (B, length, …)."""
    tensors = {name: value for name, value in vars(out).items() if isinstance(value, Tensor) and value.ndim > 1}
    found = {name: value for name, value in tensors.items() if value.shape[1] == length}
    assert found, f"no output has {length} steps: { ({name: tuple(t.shape) for name, t in tensors.items()}) }"
    return found


def _same_states(subject: Subject, found: ModelState, expected: ModelState) -> None:
    assert torch.equal(found.tokens_seen, expected.tokens_seen)
    for index, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
        for a, b in zip(ours or (), theirs or (), strict=True):
            assert (a is None) == (b is None), f"state of layer {index}"
            if a is not None:
                assert a.dtype == b.dtype
                subject.close(a, b, f"state of layer {index}")


@collected(PROPERTIES, applies=_causal)
def test_any_split_continues_as_the_full_forward(subject: Subject) -> None:
    """Outputs and final state, in the training form and in the form of steps."""
    model = subject.model()
    x = _sequence(model, LENGTH)
    chance = random.Random(0)
    splits = [list(split) for split in SPLITS]
    for _ in range(8):
        ends = [*sorted(chance.choices(range(LENGTH + 1), k=chance.randrange(6))), LENGTH]
        splits.append([end - start for start, end in zip([0, *ends], ends, strict=False)])
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            whole = model(x)
            for split in splits:
                state, pieces = None, []
                for piece in x.split(split, 1):
                    out = model(piece, state)
                    state = out.state
                    pieces.append(_steps(out, piece.shape[1]))
                for name, expected in _steps(whole, LENGTH).items():
                    subject.close(torch.cat([piece[name] for piece in pieces], 1), expected, f"{name} of {split}")
                assert state is not None
                assert state.tokens_seen.tolist() == [LENGTH] * len(x)
                _same_states(subject, state, whole.state)


@collected(PROPERTIES, applies=_causal)
def test_zero_state_is_no_state_and_a_state_is_not_written_to(subject: Subject) -> None:
    """A state may be continued more than once."""
    model = subject.model()
    x = _sequence(model)
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            expected = _steps(model(x), x.shape[1])
            for name, tensor in _steps(model(x, model.initial_state(len(x))), x.shape[1]).items():
                subject.close(tensor, expected[name], name)
            state = model(x).state
            copy = state.clone()
            for length in (1, 3):
                model(x[:, :length], state)
            for a, b in zip(state, copy, strict=True):
                for p, q in zip(a or (), b or (), strict=True):
                    assert q is None if p is None else torch.equal(p, q)


@collected(PROPERTIES, applies=_causal)
def test_state_survives_a_file_and_fans_out(subject: Subject, tmp_path: Path) -> None:
    """Saved, read and selected by rows."""
    model = subject.model()
    x = _sequence(model)
    length = x.shape[1]
    state = model(x).state
    state.save(tmp_path / "state.safetensors")
    restored = ModelState.load(tmp_path / "state.safetensors")
    expected = _steps(model(x, state), length)
    for name, tensor in _steps(model(x, restored), length).items():
        assert torch.equal(tensor, expected[name])
    rows = [1, 0, 0]
    fanned = model(x[rows], restored.select(rows))
    for name, tensor in _steps(fanned, length).items():
        subject.close(tensor, expected[name][rows], name)
    assert restored.batch_size == len(x)
    assert fanned.state.tokens_seen.tolist() == [2 * length] * 3


@collected(PROPERTIES, applies=_causal)
def test_gradient_flows_through_the_state(subject: Subject) -> None:
    """Two halves have the gradients of the whole; a detached state changes no output."""
    model = subject.model()
    x = _sequence(model)
    half = x.shape[1] // 2
    rest = x.shape[1] - half
    weights = list(trainable(model).values())

    def gradients(outputs: list[Tensor]) -> Any:
        return torch.autograd.grad(torch.stack([t.square().mean() for t in outputs]).sum(), weights, allow_unused=True)

    whole = gradients([tensor[:, half:] for tensor in _steps(model(x), x.shape[1]).values()])
    first = model(x[:, :half]).state
    second = _steps(model(x[:, half:], first), rest)
    for found, expected in zip(gradients(list(second.values())), whole, strict=True):
        assert (found is None) == (expected is None)
        if found is not None:
            subject.close(found, expected)
    for name, tensor in _steps(model(x[:, half:], first.detach()), rest).items():
        assert torch.equal(tensor, second[name])


@collected(PROPERTIES, applies=_takes("mask"))
def test_what_a_mask_leaves_out_is_not_there(subject: Subject) -> None:
    """Prompt and single steps: outputs and state of each row are those of its tokens alone."""
    model = subject.model()
    x, steps = _sequence(model)[:, :8], _sequence(model)[:, 8:10]
    for kind, rows in MASKS.items():
        mask = torch.tensor(rows)
        for grad in (True, False):
            with torch.set_grad_enabled(grad):
                out = model(x, mask=mask)
                after = model(steps[:, :1], out.state, mask=torch.tensor([[1], [0]]))
                last = model(steps[:, 1:], after.state)
                for row in range(2):
                    present = mask[row].bool()
                    alone = model(x[row : row + 1, present])
                    _same_row(subject, _steps(out, 8), row, present, alone, kind)
                    state = alone.state
                    if row == 0:
                        stepped = model(steps[:1, :1], state)
                        _same_row(subject, _steps(after, 1), row, slice(None), stepped, kind)
                        state = stepped.state
                    expected = model(steps[row : row + 1, 1:], state)
                    _same_row(subject, _steps(last, 1), row, slice(None), expected, kind)
                    _same_states(subject, last.state.select([row]), expected.state)


def _same_row(subject: Subject, found: dict[str, Tensor], row: int, where: Any, alone: Any, kind: str) -> None:
    for name, tensor in found.items():
        subject.close(tensor[row, where], getattr(alone, name)[0], f"{name} of row {row}, {kind}")


@collected(PROPERTIES, applies=_takes("cu_seqlens"))
def test_packed_sequences_equal_separate_ones(subject: Subject) -> None:
    """Outputs and final states of sequences that lie behind one another, an empty one among them."""
    model = subject.model()
    lengths = [5, 1, 0, 12, 3]
    x = torch.cat(list(_sequence(model)), 0)[None, : sum(lengths)]
    offsets = torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)
    out = model(x, cu_seqlens=offsets)
    for index, part in enumerate(x.split(lengths, 1)):
        alone = model(part)
        begin, end = offsets[index], offsets[index + 1]
        for name, tensor in _steps(out, x.shape[1]).items():
            subject.close(tensor[:, begin:end], getattr(alone, name), f"{name} of sequence {index}")
        _same_states(subject, out.state.select([index]), alone.state)


@collected(PROPERTIES, applies=_causal)
def test_empty_and_single_inputs(subject: Subject) -> None:
    """No row, no step, one of each."""
    model = subject.model()
    for shape in ((0, 5), (2, 0), (1, 1)):
        out = model(_sequence(model)[: shape[0], : shape[1]])
        assert all(tensor.shape[:2] == shape for tensor in _steps(out, shape[1]).values())
        assert out.state.batch_size == shape[0]


@collected(PROPERTIES, applies=_causal)
def test_compiled_model_continues_from_a_state(subject: Subject) -> None:
    """A prompt and a step in one graph each, for another batch and length too."""
    model = subject.model()
    torch._dynamo.reset()
    compiled: Any = torch.compile(model, fullgraph=True, dynamic=True, backend="aot_eager")
    x = _sequence(model)
    with torch.no_grad():
        for prompt in (x[:, :9], x[[0, 1, 0], :5]):
            out, expected = compiled(prompt), model(prompt)
            step = prompt[:, :1]
            for found, other, length in (
                (out, expected, prompt.shape[1]),
                (compiled(step, out.state), model(step, expected.state), 1),
            ):
                for name, tensor in _steps(other, length).items():
                    subject.close(getattr(found, name), tensor, name)
                _same_states(subject, found.state, other.state)


@collected(PROPERTIES, applies=lambda subject: subject.spec.causal and subject.evidence.native)
@torch.no_grad()
def test_native_session_continues_from_call_to_call(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Any split of a sequence over the calls of a session gives what PyTorch gives for the whole."""
    model = subject.model()
    ((name, x),) = model.example_inputs().items()
    x = x[:, :LENGTH]
    whole = {key: t for key, t in model.native_outputs({name: x}).items() if t.ndim > 1 and t.shape[1] == LENGTH}
    loaded = _core.load_package(subject.package(tmp_path_factory, "native"))
    for split in SPLITS:
        session = loaded.session()
        pieces = [session.run({name: piece.numpy()}, list(whole)) for piece in x.split(split, 1) if piece.shape[1]]
        for key, expected in whole.items():
            found = torch.cat([torch.as_tensor(piece[key]) for piece in pieces], 1)
            subject.close(found, expected, f"{key} of {split}")
