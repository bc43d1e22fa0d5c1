"""The training loop: same bits from run to run and after a resume, the schedule, what stops it, arguments, curve."""

from __future__ import annotations

import argparse
import itertools
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from mambasdk.errors import CheckpointError, InvalidArgumentError
from mambasdk.training import (
    Batches,
    Trainer,
    TrainingOptions,
    TrainingResult,
    add_training_arguments,
    options_from_arguments,
    write_curve,
)


class Blobs:
    """Two clouds of points to tell apart; the batch is jittered at random, so every generator matters."""

    unit = "points"

    def __init__(self, model: nn.Module, options: TrainingOptions) -> None:
        chance = torch.Generator().manual_seed(5)
        self.y = torch.arange(60) % 2  # (60,)
        self.x = torch.randn(60, 4, generator=chance) + 1.5 * self.y[:, None]  # (60, 4)
        self.model = model
        self.batches = Batches(60, options.batch, options.seed)
        self.moving = torch.zeros(())  # carried from step to step
        self.modes: list[bool] = []

    def loss(self, step: int) -> tuple[Tensor, int]:
        index = self.batches.at(step)
        x = self.x[index] + 0.1 * torch.randn(len(index), 4)
        self.modes.append(self.model.training)
        self.moving = (0.9 * self.moving + x.mean()).detach()
        loss = nn.functional.cross_entropy(self.model(x + 0.01 * self.moving).float(), self.y[index])
        return loss, len(index)

    def evaluate(self) -> dict[str, float]:
        assert not self.model.training
        assert not torch.is_grad_enabled()
        torch.rand(3)  # must not matter to training
        found = self.model(self.x).argmax(1)
        return {"accuracy": float((found == self.y).double().mean())}

    def state_dict(self) -> dict[str, Any]:
        return {"moving": self.moving}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.moving = state["moving"]


def model(width: int = 16) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, width), nn.Dropout(0.3), nn.ReLU(), nn.Linear(width, 2))


def options(**changes: Any) -> TrainingOptions:
    return TrainingOptions(**{"steps": 40, "batch": 8, "lr": 0.05, **changes})


def trainer(width: int = 16, **changes: Any) -> Trainer:
    new = model(width)
    return Trainer(new, Blobs(new, options(**changes)), options(**changes))


@settings(max_examples=60)
@given(st.integers(1, 40), st.integers(1, 60), st.integers(0, 9))
def test_batches_are_permutations_of_the_data_by_step_alone(size: int, batch: int, seed: int) -> None:
    batches = Batches(size, batch, seed)
    epochs = 3
    steps = -(-epochs * size // batch)
    drawn = np.concatenate([batches.at(step) for step in range(steps)])
    assert drawn.dtype == np.int64
    for epoch in range(epochs):
        assert sorted(drawn[epoch * size : (epoch + 1) * size]) == list(range(size))
    for step in (steps - 1, 0, steps // 2):
        assert np.array_equal(Batches(size, batch, seed).at(step), drawn[step * batch : (step + 1) * batch])


def test_batches_differ_by_epoch_and_seed_and_refuse_nothing_to_draw_from() -> None:
    assert not np.array_equal(Batches(50, 50).at(0), Batches(50, 50).at(1))
    assert not np.array_equal(Batches(50, 50).at(0), Batches(50, 50, seed=1).at(0))
    with pytest.raises(InvalidArgumentError, match="bad size: expected 1 or more, got 0"):
        Batches(0, 4)


def test_training_learns_and_the_seed_decides_everything() -> None:
    runs = []
    for _ in range(2):
        torch.manual_seed(len(runs))  # the state of the global generator has no say
        run = trainer()
        torch.manual_seed(100 + len(runs))
        run.run(progress=False)
        runs.append(run)
    assert runs[0].result.losses == runs[1].result.losses
    assert runs[0].evaluate()["accuracy"] > 0.9
    assert runs[0].result.units == 40 * 8
    assert all(runs[0].task.modes)  # type: ignore[attr-defined]
    assert trainer(seed=1).run(progress=False).losses != runs[0].result.losses


def test_a_run_leaves_torchs_random_numbers_alone() -> None:
    run = trainer(steps=3)
    torch.manual_seed(7)
    expected = torch.rand(4)
    torch.manual_seed(7)
    run.run(progress=False)
    assert torch.equal(torch.rand(4), expected)


def test_evaluations_do_not_change_training_and_come_when_asked() -> None:
    plain = trainer().run(progress=False)
    evaluated = trainer().run(progress=False, evaluate_every=15, evaluate_at=(0.5,))
    assert [step for step, _ in evaluated.evaluations] == [15, 20, 30]
    assert plain.losses == evaluated.losses
    assert set(evaluated.metrics) == {"accuracy"}
    assert plain.metrics == {}


@pytest.mark.parametrize("autocast", [None, "bfloat16"])
def test_resumed_run_equals_an_unbroken_one_bit_for_bit(tmp_path: Path, autocast: str | None) -> None:
    whole = trainer(autocast=autocast)
    whole.run(progress=False, evaluate_every=10)

    first = trainer(autocast=autocast)
    for _ in range(10):
        first.step()
    first.evaluate()
    first.save(tmp_path / "checkpoint")
    second = trainer(autocast=autocast)
    second.resume(tmp_path / "checkpoint")
    second.run(progress=False, evaluate_every=10)

    assert second.result.losses == whole.result.losses
    assert second.result.evaluations == whole.result.evaluations
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(second.model.state_dict()[name], tensor), name


def test_losses_are_noted_in_the_tasks_unit() -> None:
    plain, in_bits = trainer(), trainer()
    in_bits.task.loss_unit = ("bits", math.log(2))  # type: ignore[attr-defined]
    in_bits = Trainer(in_bits.model, in_bits.task, in_bits.options)
    expected = [loss / math.log(2) for loss in plain.run(progress=False).losses]
    assert in_bits.run(progress=False).losses == expected


def test_checkpoint_is_replaced_only_when_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = trainer()
    run.run(progress=False, checkpoint=tmp_path / "new" / "checkpoint", checkpoint_every=40)
    before = (tmp_path / "new" / "checkpoint").read_bytes()

    def fail(content: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        run.save(tmp_path / "new" / "checkpoint")
    assert (tmp_path / "new" / "checkpoint").read_bytes() == before


def test_checkpoints_of_something_else_are_refused_and_change_nothing(tmp_path: Path) -> None:
    saved = trainer()
    saved.step()
    saved.save(tmp_path / "checkpoint")
    fresh = {name: tensor.clone() for name, tensor in model().state_dict().items()}
    other_unit = trainer()
    other_unit.task.unit = "images"
    frozen = model()
    frozen[0].requires_grad_(False)  # type: ignore[union-attr,operator]
    cases = [
        (trainer(lr=1e-3), r"trained with other options: lr = 0\.05"),
        (other_unit, "of another task: expected images, got points"),
        (Trainer(frozen, Blobs(frozen, options()), options()), "trained other parameters"),
    ]
    for run, message in cases:
        with pytest.raises(CheckpointError, match=message):
            run.resume(tmp_path / "checkpoint")
        assert all(torch.equal(run.model.state_dict()[name], tensor) for name, tensor in fresh.items())
    with pytest.raises(CheckpointError, match=r"of another model: .*weight"):
        trainer(width=17).resume(tmp_path / "checkpoint")
    (tmp_path / "junk").write_bytes(b"junk")
    torch.save({"format": "another"}, tmp_path / "other")
    for path, message in (("junk", "cannot be read"), ("nowhere", "cannot be read"), ("other", "not a training check")):
        with pytest.raises(CheckpointError, match=message):
            trainer().resume(tmp_path / path)
    longer = trainer(steps=60)
    longer.resume(tmp_path / "checkpoint")  # the end may differ
    assert longer.result.steps == 1


def test_every_flipped_byte_of_a_checkpoint_is_refused(tmp_path: Path) -> None:
    run = trainer()
    run.step()
    path = tmp_path / "checkpoint"
    run.save(path)
    data = path.read_bytes()
    places = range(0, len(data), 7) if len(data) < 20_000 else range(0, len(data), len(data) // 3000)
    fresh = trainer()
    for place in [*places, *range(len(data) - 90, len(data))]:
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :])
        with pytest.raises(CheckpointError, match="checkpoint"):
            fresh.resume(path)
    for end in (0, 1, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:end])
        with pytest.raises(CheckpointError, match="checkpoint"):
            fresh.resume(path)
    path.write_bytes(data)
    fresh.resume(path)
    assert fresh.result.losses == run.result.losses


def test_checkpoints_of_the_format_without_a_hash_are_read_with_a_warning(tmp_path: Path) -> None:
    run = trainer()
    run.step()
    run.save(tmp_path / "new")
    content = torch.load(tmp_path / "new", weights_only=True)
    torch.save({**content, "format": "mambasdk-training-1"}, tmp_path / "old")
    fresh = trainer()
    with pytest.warns(UserWarning, match="old: a checkpoint without a hash"):
        fresh.resume(tmp_path / "old")
    assert fresh.result.losses == run.result.losses


def _cut(entry: dict[str, Any], name: str) -> None:
    entry[name] = entry[name].reshape(-1)[:1]


MALFORMED: dict[str, Any] = {
    "moment of another shape": lambda c: _cut(c["optimizer"]["state"][0], "exp_avg"),
    "second moment of another shape": lambda c: _cut(c["optimizer"]["state"][1], "exp_avg_sq"),
    "moment of another type": lambda c: c["optimizer"]["state"][0].update(exp_avg="x"),
    "moment of another dtype": lambda c: c["optimizer"]["state"][0].update(
        exp_avg=c["optimizer"]["state"][0]["exp_avg"].double()
    ),
    "no step": lambda c: c["optimizer"]["state"][0].pop("step"),
    "negative step": lambda c: c["optimizer"]["state"][0].update(step=torch.tensor(-1.0)),
    "state of no parameter": lambda c: c["optimizer"]["state"].update({99: {}}),
    "no groups": lambda c: c["optimizer"].pop("param_groups"),
    "group without an option": lambda c: c["optimizer"]["param_groups"][0].pop("betas"),
    "option of another type": lambda c: c["optimizer"]["param_groups"][0].update(lr="x"),
    "result of another type": lambda c: c.update(result=[1]),
    "result without losses": lambda c: c["result"].pop("losses"),
    "losses of another length": lambda c: c["result"].update(losses=[1.0, 2.0]),
    "negative steps": lambda c: c["result"].update(steps=-1),
    "unknown member of the result": lambda c: c["result"].update(novelty=1),
    "malformed evaluations": lambda c: c["result"].update(evaluations=[1]),
    "evaluations of text": lambda c: c["result"].update(evaluations=[(1, {"a": "b"})]),
    "seconds of NaN": lambda c: c["result"].update(seconds=math.nan),
    "options of another type": lambda c: c.update(options=3),
    "best of another type": lambda c: c.update(best=3),
    "weights of another dtype": lambda c: c["model"].update({"0.weight": c["model"]["0.weight"].double()}),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_checkpoint_changes_nothing(tmp_path: Path, case: str) -> None:
    from mambasdk.training.checkpoint import write_checkpoint

    run = trainer()
    run.step()
    run.save(tmp_path / "good")
    content = torch.load(tmp_path / "good", weights_only=True)
    MALFORMED[case](content)
    write_checkpoint(content, tmp_path / "bad")  # its hash is right
    other = trainer()
    other.step()
    other.step()
    weights = {name: tensor.clone() for name, tensor in other.model.state_dict().items()}
    moments = [state["exp_avg"].clone() for state in other._optimizer.state.values()]
    moving, losses = other.task.moving.clone(), list(other.result.losses)  # type: ignore[attr-defined]
    with pytest.raises(CheckpointError, match="checkpoint"):
        other.resume(tmp_path / "bad")
    assert all(torch.equal(other.model.state_dict()[name], tensor) for name, tensor in weights.items())
    found = [state["exp_avg"] for state in other._optimizer.state.values()]
    assert all(map(torch.equal, found, moments))
    assert torch.equal(other.task.moving, moving)  # type: ignore[attr-defined]
    assert other.result.losses == losses
    other.step()  # and goes on


def test_schedule_warms_up_and_falls_to_its_end() -> None:
    run = trainer(warmup=0.1, lr=1.0, final_lr=0.05)
    rates = [run.learning_rate(share / 1000) for share in range(1001)]
    assert rates[0] > 0
    assert rates[100] == pytest.approx(1.0)
    assert all(a <= b for a, b in itertools.pairwise(rates[:101]))
    assert all(a >= b for a, b in itertools.pairwise(rates[100:]))
    assert rates[-1] == pytest.approx(0.05)
    assert trainer(warmup=0.0, lr=1.0).learning_rate(0.0) == 1.0


def test_gradients_are_clipped_together() -> None:
    run = trainer(clip=1e-3)
    run.step()
    norms = [parameter.grad.norm() for parameter in run.model.parameters() if parameter.grad is not None]
    assert torch.stack(norms).norm() <= 1.001e-3
    assert len(norms) == 4


def test_run_ends_on_time() -> None:
    result = trainer(steps=None, minutes=0.005).run(progress=False)
    assert result.steps >= 1
    assert 0.3 <= result.seconds < 0.3 + 20 * result.seconds / result.steps


@pytest.mark.parametrize("what", ["loss", "norm of the gradients"])
def test_what_is_not_finite_stops_the_run_before_the_weights_change(what: str) -> None:
    run = trainer()
    run.step()
    before = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    whole = run.task.loss

    def broken(step: int) -> tuple[Tensor, int]:
        loss, count = whole(step)
        if what == "loss":
            return loss * math.nan, count
        first = next(run.model.parameters())
        return loss + (first - first.detach()).square().sum().sqrt(), count  # 0, with an infinite slope

    run.task.loss = broken  # type: ignore[method-assign]
    with pytest.raises(InvalidArgumentError, match=rf"training: the {what} is (nan|inf) at step 1; use a smaller"):
        run.run(progress=False)
    assert all(torch.equal(run.model.state_dict()[name], tensor) for name, tensor in before.items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": None}, "no end given; give steps, minutes or both"),
        ({"steps": 0}, "bad steps: expected more than 0, got 0"),
        ({"lr": math.nan}, "bad lr"),
        ({"batch": 0}, "bad batch"),
        ({"warmup": 1.0}, "bad warmup: expected from 0 to below 1"),
        (
            {"autocast": "float16"},
            "bad autocast: expected 'bfloat16' or None, got 'float16'; float16 has too small a range",
        ),
    ],
)
def test_options_that_cannot_be_used_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"training: {message}"):
        options(**changes)


def test_a_model_without_trainable_parameters_is_refused() -> None:
    frozen = model().requires_grad_(False)
    with pytest.raises(InvalidArgumentError, match="no parameter of the model requires a gradient"):
        Trainer(frozen, Blobs(frozen, options()), options())


def parse(*arguments: str, **defaults: Any) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", default="out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dtype", default="float32")
    add_training_arguments(parser, **defaults)
    return parser.parse_args(arguments)


def test_arguments_become_options() -> None:
    assert options_from_arguments(parse()) == TrainingOptions(steps=1000)
    heads = {"batch": 32, "lr": 1e-3, "steps": 50, "beta2": 0.99, "final_lr": 0.0}
    assert options_from_arguments(parse(**heads)) == TrainingOptions(**heads)
    assert options_from_arguments(parse("--minutes", "2", **heads)) == TrainingOptions(
        **{**heads, "steps": None}, minutes=2.0
    )
    given = parse("--steps", "7", "--lr", "1", "--seed", "3", "--dtype", "bfloat16", "--weight-decay", "0", **heads)
    assert options_from_arguments(given) == TrainingOptions(
        **{**heads, "steps": 7, "lr": 1.0}, seed=3, autocast="bfloat16", weight_decay=0.0
    )
    with pytest.raises(InvalidArgumentError, match="no default can be set for epochs"):
        parse(epochs=3)


@pytest.mark.parametrize("same_axis", [True, False])
def test_curve_is_a_picture_with_every_line(tmp_path: Path, same_axis: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.figure import Figure

    figures: list[Figure] = []
    save = Figure.savefig

    def saved(figure: Figure, *args: Any, **kwargs: Any) -> None:
        figures.append(figure)
        save(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", saved)
    result = trainer().run(progress=False, evaluate_every=10)
    write_curve(
        tmp_path / "curve.png",
        result,
        title="Blobs",
        unit="points",
        loss_label="cross entropy (nats)",
        metric="accuracy",
        metric_label="cross entropy (nats)" if same_axis else "accuracy",
        baselines={"guessing": 0.5},
    )
    assert Image.open(tmp_path / "curve.png").size == (960, 540)
    lines = {str(line.get_label()): line for axes in figures[0].axes for line in axes.get_lines()}
    held_out = lines["held out" if same_axis else "held out, accuracy"]
    assert list(held_out.get_xdata()) == [80, 160, 240, 320]  # type: ignore[arg-type]
    assert list(held_out.get_ydata()) == [metrics["accuracy"] for _, metrics in result.evaluations]  # type: ignore[arg-type]
    assert list(lines["training, each step"].get_ydata()) == result.losses  # type: ignore[arg-type]
    assert "guessing: 0.500" in lines
    assert len(figures[0].axes) == (1 if same_axis else 2)
    with pytest.raises(InvalidArgumentError, match="no such metric: expected accuracy, got f1"):
        write_curve(tmp_path / "curve.png", result, metric="f1")


def test_curve_of_a_run_without_steps(tmp_path: Path) -> None:
    write_curve(tmp_path / "curve.png", TrainingResult())
    assert (tmp_path / "curve.png").stat().st_size > 1000


def test_everything_but_the_trainer_imports_without_torch() -> None:
    program = "import sys; from mambasdk.training import Batches, write_curve; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_averaged_weights_are_evaluated_and_the_run_goes_on_with_its_own(tmp_path: Path) -> None:
    """By definition, step by step; training itself is the same with an average or without."""
    plain, averaged = trainer(), trainer(ema=0.9)
    assert averaged.average is not None
    expected = {name: value.clone() for name, value in averaged.model.state_dict().items()}
    for step in range(1, 9):
        plain.step()
        averaged.step()
        share = 0.9 * (1 - math.exp(-step / 2000))
        for name, value in averaged.model.state_dict().items():
            expected[name] = share * expected[name] + (1 - share) * value
    for name, value in plain.model.state_dict().items():
        assert torch.equal(value, averaged.model.state_dict()[name])
        torch.testing.assert_close(averaged.average.state_dict()[name], expected[name])
    seen = []
    averaged.task.evaluate = lambda: seen.append(averaged.model.state_dict()["0.weight"].clone()) or {"a": 1.0}  # type: ignore[func-returns-value,method-assign]
    averaged.evaluate()
    torch.testing.assert_close(seen[0], expected["0.weight"])
    assert torch.equal(averaged.model.state_dict()["0.weight"], plain.model.state_dict()["0.weight"])
    averaged.save(tmp_path / "checkpoint")
    resumed = trainer(ema=0.9)
    resumed.resume(tmp_path / "checkpoint")
    assert resumed.average is not None
    for name, value in averaged.average.state_dict().items():
        assert torch.equal(value, resumed.average.state_dict()[name])
    with pytest.raises(CheckpointError, match=r"other options: ema = 0\.9"):
        trainer().resume(tmp_path / "checkpoint")


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_is_torchs_and_resumes_with_the_same_bits(tmp_path: Path, momentum: float) -> None:
    changes: dict[str, Any] = {
        "optimizer": "sgd",
        "momentum": momentum,
        "clip": 1e9,
        "warmup": 0.0,
        "weight_decay": 0.0,
    }
    ours = trainer(**changes)
    other = trainer(**changes)
    reference = torch.optim.SGD(other.model.parameters(), momentum=momentum, nesterov=momentum > 0)
    for step in range(3):
        rate = ours.learning_rate(ours.share_done())
        ours.step()
        with _same_numbers(step):
            loss, _ = other.task.loss(step)
        reference.zero_grad()
        loss.backward()
        reference.param_groups[0]["lr"] = rate
        reference.step()
    for one, two in zip(ours.model.parameters(), other.model.parameters(), strict=True):
        torch.testing.assert_close(one, two)
    ours.save(tmp_path / "checkpoint")
    resumed = trainer(**changes)
    resumed.resume(tmp_path / "checkpoint")
    assert [ours.step() for _ in range(5)] == [resumed.step() for _ in range(5)]
    with pytest.raises(CheckpointError, match=r"other options: .*optimizer = sgd"):
        trainer().resume(tmp_path / "checkpoint")
    with pytest.raises(InvalidArgumentError, match="bad optimizer: expected adamw or sgd"):
        options(optimizer="lion")


def _same_numbers(step: int) -> Any:
    """The random numbers that the Trainer gives a step."""
    from mambasdk.training.trainer import _seeded

    return _seeded((options().seed, step), torch.device("cpu"))


def test_frozen_parts_keep_weights_and_statistics() -> None:
    from mambasdk.training.freezing import freeze

    new = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 2), nn.BatchNorm1d(2))
    assert freeze(new, ["1"]) == 80  # a number: the first layers of the first list
    assert freeze(new, ["0.bias"]) == 0
    assert freeze(new, ["2"]) == 32
    before = {name: value.clone() for name, value in new.state_dict().items()}
    run = Trainer(new, Blobs(new, options()), options())
    run.run(progress=False)
    changed = {name.split(".")[0] for name, value in new.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"3", "4"}
    with pytest.raises(InvalidArgumentError, match="--freeze head: no such part of the model"):
        freeze(new, ["head"])
    with pytest.raises(InvalidArgumentError, match="nothing is left to train"):
        freeze(new, ["3", "4", "9"])
