"""A run as the command line asks for it: nothing is lost, nothing begins unannounced, the best weights, the log."""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mambasdk
from mambasdk.command_line import main
from mambasdk.errors import CheckpointError, InvalidArgumentError, MambaSDKError
from mambasdk.lowering import graph
from mambasdk.package import Manifest
from mambasdk.training import (
    Best,
    CsvLog,
    Trainer,
    TrainingOptions,
    TrainingResult,
    add_training_arguments,
    check_output,
    command,
    memory,
    options_from_arguments,
    start_model,
    train_from_arguments,
)
from mambasdk.training.interruption import Interruption, TrainingInterrupted


class Echo:
    """A language model learns to repeat the token before; the held-out metric is set by a test."""

    unit = "tokens"
    goals = {"accuracy": "max", "loss": "min"}  # noqa: RUF012
    data = "64 rows"

    def __init__(self, model: Any, options: TrainingOptions, metrics: list[float] | None = None) -> None:
        self.model = model
        self.options = options
        self.metrics = metrics

    def loss(self, step: int) -> tuple[Tensor, int]:
        tokens = torch.full((self.options.batch, 8), step % 7)
        return self.model(tokens, labels=tokens).loss, tokens.numel()

    def evaluate(self) -> dict[str, float]:
        tokens = torch.arange(7)[:, None].expand(7, 8)
        out = self.model(tokens, labels=tokens)
        accuracy = self.metrics.pop(0) if self.metrics else 0.5
        return {"accuracy": accuracy, "loss": float(out.loss)}


def parse(*arguments: str, model: str = "toy-2") -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", required=True)
    parser.add_argument("--flavour", default="plain")
    add_training_arguments(parser, lr=1e-2, batch=2)
    parser.set_defaults(model=model, seed=0, dtype="float32", device="cpu", json=False, overrides={})
    return parser.parse_args(arguments)


def trainer_of(args: argparse.Namespace, metrics: list[float] | None = None) -> Trainer:
    model: Any = start_model(args)
    options = options_from_arguments(args)
    return Trainer(model, Echo(model, options, metrics), options)


def train(*arguments: str, metrics: list[float] | None = None, **others: Any) -> Any:
    args = parse(*arguments)
    check_output(args)
    return train_from_arguments(trainer_of(args, metrics), args, processors={}, **others)


def test_a_run_is_announced_in_one_line_before_its_first_step(
    toy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    step = Trainer.step

    def first(trainer: Trainer) -> float:
        said.append(capsys.readouterr().err)
        return step(trainer)

    monkeypatch.setattr(Trainer, "step", first)
    train("--out", str(tmp_path / "p"), "--steps", "5")
    line = next(line for line in said[0].splitlines() if line.startswith("training toy-2: "))
    count = sum(p.numel() for p in mambasdk.create_model("toy-2").parameters())
    threads = torch.get_num_threads()
    assert f"{count:,} parameters, about " in line
    assert re.search(r"about [\d.,]+ MB of memory, 5 steps of 2 rows, 64 rows, cpu with \d+ thread", line)
    assert f"cpu with {threads} thread" in line
    assert re.search(r"roughly [\d.]+ (s|min)", line)
    assert "time: about" in "".join(said)


@pytest.mark.parametrize("kind", ["model", "batch"])
def test_a_run_that_exceeds_the_memory_is_refused_with_the_way_out(
    toy: str, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "model":
        monkeypatch.setattr(memory, "available_memory", lambda _: 100_000)
        with pytest.raises(InvalidArgumentError, match=r"takes .* for weights, .*--set, or start anyway with --yes"):
            train("--out", str(tmp_path / "p"))
        return
    with pytest.raises(InvalidArgumentError, match=r"a step of 100,000,000 rows takes about .*a smaller --batch"):
        train("--out", str(tmp_path / "p"), "--batch", "100000000")
    assert not (tmp_path / "p").exists()


def test_the_memory_estimate_changes_no_weight_no_buffer_and_no_random_number(toy: str) -> None:
    model: Any = mambasdk.create_model("toy-2").train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    task = Echo(model, TrainingOptions(steps=1))
    small, large = (memory.estimate(model, task, batch) for batch in (2, 200))
    assert torch.equal(torch.rand(2), expected)
    assert model.training
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in before.items())
    assert large.bytes - small.bytes > 10 * (small.bytes - memory.estimate(model, task, 0).bytes)


def test_a_repeated_command_goes_on_and_a_finished_run_says_so(
    toy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "p")]
    whole = train("--out", str(tmp_path / "whole"), "--steps", "12")
    args = parse(*out, "--steps", "12")
    part = trainer_of(args)
    part.command = command._command(args, part.task)
    for _ in range(5):
        part.step()
    part.save(tmp_path / "p.checkpoint")
    capsys.readouterr()
    again = train(*out, "--steps", "12")
    assert f"resumed at step 5 from {tmp_path / 'p.checkpoint'}" in capsys.readouterr().err
    assert again.result.losses == whole.result.losses
    assert again.resumed_at == 5
    assert Manifest.read(tmp_path / "p").engine["name"] == "native"
    before = (tmp_path / "p" / "model.safetensors").stat().st_mtime_ns
    finished = train(*out, "--steps", "12")
    assert f"finished already: step 12 of 12; {tmp_path / 'p'} is what it gave" in capsys.readouterr().err
    assert (tmp_path / "p" / "model.safetensors").stat().st_mtime_ns == before
    assert finished.metrics == again.metrics
    with pytest.raises(InvalidArgumentError, match="its run is at step 12 of 20; pass --overwrite to train on"):
        train(*out, "--steps", "20")
    assert train(*out, "--steps", "20", "--overwrite").result.steps == 20
    assert train(*out, "--steps", "3", "--overwrite", "--restart").result.steps == 3


def test_a_checkpoint_of_another_command_is_refused_with_the_way_out(toy: str, tmp_path: Path) -> None:
    out = ["--out", str(tmp_path / "p"), "--steps", "3"]
    train(*out)
    for other, message in (
        (["--flavour", "bitter"], "trained with another flavour: expected plain, got bitter"),
        (["--lr", "0.5"], "trained with other options: lr = 0.01"),
    ):
        with pytest.raises(CheckpointError, match=f"{message}.*--restart begins anew"):
            train(*out, "--overwrite", *other)


def test_a_mistyped_checkpoint_is_an_error_and_names_the_nearest(toy: str, tmp_path: Path) -> None:
    train("--out", str(tmp_path / "p"), "--steps", "2", "--checkpoint", str(tmp_path / "run.checkpoint"))
    with pytest.raises(InvalidArgumentError, match=r"no checkpoint .*rum\.checkpoint.*did you mean .*run\.checkpoint"):
        train("--out", str(tmp_path / "q"), "--resume", "--checkpoint", str(tmp_path / "rum.checkpoint"))


@pytest.mark.parametrize("flag", ["--out", "--checkpoint", "--log", "--curve"])
def test_an_output_that_cannot_be_written_is_found_before_the_first_step(
    toy: str, tmp_path: Path, flag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trainer, "step", lambda _: pytest.fail("a step was made"))
    (tmp_path / "file").write_text("x")
    with pytest.raises(InvalidArgumentError, match=rf"{flag} .*file/x: cannot be written: .*; give another {flag}"):
        train(*(["--out", str(tmp_path / "p")] if flag != "--out" else []), flag, str(tmp_path / "file" / "x"))


def test_an_output_in_the_way_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious").write_text("x")
    assert check_output(parse("--out", str(tmp_path / "new"))) == tmp_path / "new"
    assert check_output(parse("--out", str(tmp_path / "empty"))) == tmp_path / "empty"
    for more in ([], ["--overwrite"]):
        for out in ("full", "full/precious"):
            with pytest.raises(InvalidArgumentError, match="exists and is no package; give another --out"):
                check_output(parse("--out", str(tmp_path / out), *more))
    (tmp_path / "full" / "mambasdk.json").write_text("{}")
    with pytest.raises(InvalidArgumentError, match="exists; pass --overwrite or another --out"):
        check_output(parse("--out", str(tmp_path / "full")))
    assert check_output(parse("--out", str(tmp_path / "full"), "--overwrite")) == tmp_path / "full"


def test_a_full_disk_is_found_before_the_first_step(toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(command.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(InvalidArgumentError, match=r"package and checkpoints take .*1\.0 KB that are free on the disk"):
        train("--out", str(tmp_path / "p"))


def test_a_checkpoint_that_cannot_be_written_is_warned_of_and_tried_again(
    toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save, calls = Trainer.save, [0]

    def full(trainer: Trainer, path: Any) -> None:
        calls[0] += 1
        if calls[0] < 3:
            raise OSError(28, "No space left on device")
        save(trainer, path)

    monkeypatch.setattr(Trainer, "save", full)
    trained = train("--out", str(tmp_path / "p"), "--steps", "6", "--checkpoint-every", "2")
    assert trained.result.steps == 6
    shown = capsys.readouterr().err
    assert shown.count("warning: step") == 2
    assert "No space left on device" in shown
    assert (tmp_path / "p.checkpoint").is_file()


def test_checkpoints_come_by_the_clock(toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []
    monkeypatch.setattr(Trainer, "save", lambda trainer, path: steps.append(trainer.result.steps))
    args = parse("--out", str(tmp_path / "p"), "--steps", "4")
    trainer_of(args).run(checkpoint=tmp_path / "c", checkpoint_minutes=1e-9, progress=False)
    assert steps == [1, 2, 3, 4]


def test_a_model_that_cannot_be_lowered_is_saved_for_python(
    toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(graph.Graph, "lower", lambda *_: (_ for _ in ()).throw(AttributeError("no program")))
    trained = train("--out", str(tmp_path / "p"), "--steps", "2")
    assert trained.engine == "torch"
    assert "the package will run in Python alone (engine torch), not on native" in capsys.readouterr().err
    assert mambasdk.load(tmp_path / "p") is not None


def test_an_export_that_fails_is_found_before_the_first_step(
    toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def first(_: Trainer) -> float:
        assert "the package will run in Python alone (engine torch), not on aoti: no graph" in capsys.readouterr().err
        raise InvalidArgumentError("enough seen")

    def fail(_: Any) -> None:
        raise MambaSDKError("no graph")

    monkeypatch.setattr(command, "export_model", fail)
    monkeypatch.setattr(Trainer, "step", first)
    with pytest.raises(InvalidArgumentError, match="enough seen"):
        train("--out", str(tmp_path / "p"), "--steps", "2", engine="aoti")


def test_a_package_that_cannot_be_written_keeps_the_checkpoint(
    toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(command, "save_package", full)
        with pytest.raises(MambaSDKError, match=r"No space left.*the training is kept in .*p\.checkpoint"):
            train("--out", str(tmp_path / "p"), "--steps", "4")
    again = train("--out", str(tmp_path / "p"), "--steps", "4")
    assert again.resumed_at == 4
    assert (tmp_path / "p" / "mambasdk.json").is_file()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_step_saves_and_says_how_to_go_on(
    toy: str, tmp_path: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train("--out", str(tmp_path / "whole"), "--steps", "6")
    loss = Echo.loss

    def interrupted(task: Echo, step: int) -> tuple[Tensor, int]:
        if step == 3:
            os.kill(os.getpid(), number)
        return loss(task, step)

    with monkeypatch.context() as patch:
        patch.setattr(Echo, "loss", interrupted)
        with pytest.raises(TrainingInterrupted, match=r"at step 4 of 6, saved in .*the same command") as error:
            train("--out", str(tmp_path / "p"), "--steps", "6")
    assert error.value.exit_code == 128 + number
    assert not (tmp_path / "p").exists()
    assert train("--out", str(tmp_path / "p"), "--steps", "6").result.losses == whole.result.losses


def test_a_second_signal_aborts() -> None:
    with Interruption() as interruption:
        os.kill(os.getpid(), signal.SIGINT)
        assert interruption.signal == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_package_gets_the_best_weights_and_patience_ends_the_run(
    toy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = [0.1, 0.9, 0.3, 0.4, 0.5, 0.6]
    run = ["--steps", "12", "--evaluate-every", "2"]
    trained = train("--out", str(tmp_path / "best"), *run, "--best", "--patience", "3", metrics=list(metrics))
    assert trained.result.steps == 10
    assert (trained.best_step, trained.metrics["accuracy"]) == (4, 0.9)
    shown = capsys.readouterr().err
    assert "step 4: held out: accuracy 0.9" in shown
    assert "the best so far" in shown
    assert "ended early: 3 evaluations without a better accuracy" in shown
    # What the weights were after 4 steps of the same run.
    args = parse("--out", str(tmp_path / "x"), "--steps", "12")
    run_of_four = trainer_of(args)
    for _ in range(4):
        run_of_four.step()
    found: Any = mambasdk.load(tmp_path / "best").state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in run_of_four.model.state_dict().items())
    last = train("--out", str(tmp_path / "last"), *run, "--patience", "3", metrics=list(metrics))
    assert (last.result.steps, last.best_step, last.metrics["accuracy"]) == (10, None, 0.5)
    assert train("--out", str(tmp_path / "best"), *run, "--best", "--patience", "3").metrics["accuracy"] == 0.9


def test_the_best_survives_a_checkpoint(toy: str, tmp_path: Path) -> None:
    args = parse("--out", str(tmp_path / "p"), "--steps", "9")
    first = trainer_of(args, [0.8, 0.2])
    first.best = Best("accuracy", "max", patience=5, keep=True)
    for _ in range(2):
        first.step()
        first.evaluate()
    first.save(tmp_path / "c")
    second = trainer_of(args)
    second.best = Best("accuracy", "max", patience=5, keep=True)
    second.resume(tmp_path / "c")
    assert (second.best.step, second.best.stale, second.best.metrics["accuracy"]) == (1, 1, 0.8)
    assert first.best.weights is not None
    assert second.best.weights is not None
    assert all(torch.equal(second.best.weights[name], tensor) for name, tensor in first.best.weights.items())


@pytest.mark.parametrize("change", [{"step": "1"}, {"metrics": {"accuracy": None}}, {"weights": {"other": 1}}])
def test_a_malformed_best_in_a_checkpoint_is_refused_and_changes_nothing(
    toy: str, tmp_path: Path, change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    args = parse("--out", str(tmp_path / "p"), "--steps", "9")
    first = trainer_of(args)
    first.best = Best("accuracy", "max", keep=True)
    first.step()
    first.evaluate()
    state = first.best.state_dict()
    monkeypatch.setattr(Best, "state_dict", lambda _: {**state, **change})
    first.save(tmp_path / "c")
    second = trainer_of(args)
    before = {name: tensor.clone() for name, tensor in second.model.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"bad best evaluation|of another model"):
        second.resume(tmp_path / "c")
    assert second.result.steps == 0
    assert all(torch.equal(second.model.state_dict()[name], tensor) for name, tensor in before.items())


def test_an_unknown_metric_is_refused_before_the_first_step(toy: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="--best f1: no such metric: expected accuracy or loss"):
        train("--out", str(tmp_path / "p"), "--best", "f1")


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_log_has_every_loss_and_metric_and_goes_on_after_a_resume(toy: str, tmp_path: Path) -> None:
    trained = train("--out", str(tmp_path / "p"), "--steps", "6", "--evaluate-every", "3")
    found = rows(tmp_path / "p.csv")
    losses = [float(row["loss"]) for row in found if row["loss"]]
    assert losses == trained.result.losses
    assert [int(row["step"]) for row in found if row["held_out_accuracy"]] == [3, 6]
    assert float(found[0]["learning_rate"]) > 0
    longer = train("--out", str(tmp_path / "p"), "--steps", "9", "--evaluate-every", "3", "--overwrite")
    assert [float(row["loss"]) for row in rows(tmp_path / "p.csv") if row["loss"]] == longer.result.losses


def test_a_log_forgets_what_a_crash_undid_and_its_own_failure_ends_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = TrainingResult()
    log = CsvLog(tmp_path / "log.csv")
    log.begin(0)
    for step in range(1, 5):
        result.steps, result.losses = step, [*result.losses, float(step)]
        log.step(result, 0.1)
    log.close()
    again = CsvLog(tmp_path / "log.csv")
    again.begin(2)
    again.evaluation(result, {"new": float("nan")})
    again.close()
    assert [row["step"] for row in rows(tmp_path / "log.csv")] == ["1", "2", "4"]
    broken = CsvLog(tmp_path / "log.csv" / "x")
    broken.begin(0)
    broken.step(result, 0.1)
    broken.close()
    assert capsys.readouterr().err.count("the log cannot be written any more") == 1


def test_tensorboard_is_asked_for_by_name(toy: str, tmp_path: Path) -> None:
    try:
        import tensorboard  # noqa: F401
    except ModuleNotFoundError:
        with pytest.raises(MambaSDKError, match=r"--tensorboard needs tensorboard.*pip install tensorboard"):
            train("--out", str(tmp_path / "p"), "--tensorboard", str(tmp_path / "t"))
        return
    train("--out", str(tmp_path / "p"), "--steps", "2", "--tensorboard", str(tmp_path / "t"))
    assert any((tmp_path / "t").iterdir())


def test_a_bare_family_means_its_small_default(plugin_site: Any) -> None:
    import fakes

    (plugin_site.folder / "toy_model.py").write_text(fakes.FAMILY_MODEL)
    source = fakes.FAMILY_PLUGIN.replace('tiny={"n', 'default_variant="toy-mlp", tiny={"n')
    plugin_site.install("mambasdk-toy", "toy", "toy_plugin", source)
    bare: Any = mambasdk.create_model("toy")
    assert mambasdk.models.identity(bare).variant == "toy-mlp"
    assert mambasdk.models.identity(bare).config["d_intermediate"] == 48
    changed: Any = mambasdk.create_model("toy", n_layer=1)
    assert mambasdk.models.identity(changed).variant is None
    assert mambasdk.models.identity(changed).config["d_intermediate"] == 48


@pytest.mark.parametrize(("device", "message"), [("cuda", "use --device cpu"), ("cpux", "no such kind of device")])
def test_a_device_that_is_not_there_is_named(
    toy: str, tmp_path: Path, device: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    code = main(["train", "toy-2", "--out", str(tmp_path / "p"), "--steps", "1", "--device", device])
    error = capsys.readouterr().err
    assert code == 2
    assert error.startswith(f"mambasdk: error: --device {device}: ")
    assert message in error
    assert error.count("\n") == 1
    if device == "cuda":
        assert f"torch {torch.__version__}" in error


HANGS = """
import mambasdk.training.trainer as trainer, sys, time
step = trainer.Trainer.step
def slow(self):
    print("step", self.result.steps, file=sys.stderr, flush=True)
    time.sleep(0.2)
    return step(self)
trainer.Trainer.step = slow
from mambasdk.command_line import main
sys.exit(main(sys.argv[1:]))
"""


def test_sigterm_ends_the_command_with_its_exit_code(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("the cat sat on the mat\n" * 200)
    sizes = ["--set", "d_model=16", "--set", "n_layer=1", "--batch", "2", "--context", "16", "--steps", "5000"]
    arguments = ["train", "mamba", "--data", str(text), "--out", str(tmp_path / "p"), *sizes, "--json"]
    process = subprocess.Popen(
        [sys.executable, "-c", HANGS, *arguments], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    seen = []
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        line = process.stderr.readline()
        seen.append(line)
        if line.startswith("step 2") or not line:
            break
    process.terminate()
    out, err = process.communicate(timeout=120)
    if "no model named" in "".join(seen):
        pytest.skip("the language plugin is not installed")
    assert process.returncode == 128 + signal.SIGTERM, "".join(seen) + err
    assert re.search(r"mambasdk: interrupted at step \d of 5,000, saved in .*p\.checkpoint", err)
    assert out == ""
    assert (tmp_path / "p.checkpoint").is_file()


def test_json_never_holds_what_is_no_json(capsys: pytest.CaptureFixture[str]) -> None:
    import numpy as np

    from mambasdk.command_line import json_text

    value = {"a": float("nan"), "b": [float("inf"), 1.5], 3: np.float32("nan"), "c": np.arange(2), "d": Path("x")}
    found = json.loads(json_text(value), parse_constant=lambda text: pytest.fail(f"{text} in JSON"))
    assert found == {"a": None, "b": [None, 1.5], "3": None, "c": [0, 1], "d": "x"}


def test_running_out_of_memory_is_a_sentence(
    toy: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import toy_model  # type: ignore[import-not-found]

    for error in (
        MemoryError("Unable to allocate 7 TiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: you tried"),
    ):

        def fail(*_: Any, failure: Exception = error) -> None:
            raise failure

        monkeypatch.setattr(toy_model.ToyHead, "train", fail)
        assert main(["train", "toy-2", "--out", "x", "--steps", "1"]) == 2
        assert "not enough memory" in capsys.readouterr().err


def test_doctor_warns_of_a_busy_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    from mambasdk import threads as module

    monkeypatch.setattr(module, "usable_cores", lambda: 2)
    monkeypatch.setattr(os, "getloadavg", lambda: (7.5, 1.0, 1.0))
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    load, threads, policy = module.load_warnings()
    assert "load average is 7.5 on 2 usable cores" in load
    assert "OMP_NUM_THREADS is 8 on 2" in threads
    assert "OMP_WAIT_POLICY is ACTIVE" in policy


def test_the_command_line_lets_openmp_wait_passively_before_torch_is_loaded() -> None:
    program = (
        "import os, sys; from mambasdk.threads import wait_passively; wait_passively();"
        "print(os.environ['OMP_WAIT_POLICY'], os.environ['GOMP_SPINCOUNT'], 'torch' in sys.modules)"
    )
    plain = {name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=plain)
    assert found.stdout.split() == ["PASSIVE", "0", "False"]


def test_a_module_without_parameters_to_train_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="no parameter"):
        Trainer(nn.Linear(2, 2).requires_grad_(False), Echo(None, TrainingOptions(steps=1)), TrainingOptions(steps=1))
