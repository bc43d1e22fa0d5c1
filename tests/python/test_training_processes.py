"""Several processes that train together give what one with the whole batch gives."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mambasdk.training import Batches

# One process and two run this alike; rank 0 writes what came out.
WORKER = """
import json, sys
import torch
from torch import nn
from mambasdk.training import Batches, Best, Trainer, TrainingOptions, distributed

out, batch, processes = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
if processes > 1:
    distributed.start("cpu")

class Points:
    unit = "points"
    goals = {"accuracy": "max"}
    def __init__(self, model):
        chance = torch.Generator().manual_seed(5)
        self.y = torch.arange(50) % 2
        self.x = torch.randn(50, 4, generator=chance) + self.y[:, None]
        self.model, self.batches = model, Batches(50, batch, 3)
    def loss(self, step):
        rows = self.batches.at(step)
        kept = rows[: len(rows) - (step % 3 == 1 and distributed.rank() == 0 and processes > 1)] if UNEVEN else rows
        return nn.functional.cross_entropy(self.model(self.x[kept]), self.y[kept]), len(kept)
    def evaluate(self):
        assert distributed.rank() == 0
        return {"accuracy": float((self.model(self.x).argmax(1) == self.y).double().mean())}

UNEVEN = False
torch.manual_seed(1 + distributed.rank())  # every process begins with the weights of rank 0
model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2), nn.Linear(2, 2))
model[3].requires_grad_(True)
unused = nn.Linear(2, 2)  # a parameter without a gradient stays as it is
model.append(nn.Identity())
model[-1].register_module("unused", unused)
task = Points(model)
trainer = Trainer(model, task, TrainingOptions(steps=20, batch=batch, lr=0.05, weight_decay=0.5))
trainer.best = Best("accuracy", "max", patience=3, keep=False)
result = trainer.run(evaluate_every=5, progress=False)
weights = {name: value.tolist() for name, value in model.state_dict().items()}
with open(f"{out}.{distributed.rank()}", "w") as file:
    json.dump({"losses": result.losses, "units": result.units, "weights": weights,
               "evaluations": result.evaluations}, file)
distributed.stop()
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def launch(processes: int, command: list[str]) -> None:
    """What torchrun does: `processes` of the command, each with its rank in the environment."""
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(processes)}
    running = []
    for rank in range(processes):
        environment = {**os.environ, **place, "RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"}
        if processes == 1:
            for name in (*place, "RANK", "LOCAL_RANK"):
                environment.pop(name, None)
        running.append(
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
    outputs = [process.communicate(timeout=300) for process in running]
    for process, (_, error) in zip(running, outputs, strict=True):
        assert process.returncode == 0, error
    for _, (out, _) in list(enumerate(outputs))[1:]:
        assert out == ""  # rank 0 alone reports


def close(ours: Any, theirs: Any, scale: float = 1e-5) -> None:
    np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=scale, atol=scale)


@settings(max_examples=40)
@given(st.integers(1, 30), st.integers(1, 9), st.integers(1, 4), st.integers(0, 20))
def test_the_batches_of_all_ranks_are_that_of_one_process(size: int, batch: int, processes: int, step: int) -> None:
    parts = [Batches(size, batch, 1, rank=rank, processes=processes).at(step) for rank in range(processes)]
    assert np.array_equal(np.concatenate(parts), Batches(size, batch * processes, 1).at(step))


@pytest.mark.parametrize("uneven", [False, True])
def test_two_processes_give_the_losses_and_weights_of_one_with_the_double_batch(tmp_path: Path, uneven: bool) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text(WORKER.replace("UNEVEN = False", f"UNEVEN = {uneven}"))
    runs = {}
    for processes, batch in ((2, 4), (1, 8))[: 1 if uneven else 2]:
        out = tmp_path / f"run{processes}"
        launch(processes, [sys.executable, str(worker), str(out), str(batch), str(processes)])
        runs[processes] = [json.loads((tmp_path / f"run{processes}.{rank}").read_text()) for rank in range(processes)]
    first, second = runs[2]
    assert first == second  # bit for bit: losses, metrics and weights
    if uneven:
        assert first["units"] == 20 * 8 - 7  # what each process has counts by its units
        return
    one = runs[1][0]
    close(first["losses"], one["losses"])
    assert first["units"] == one["units"] == 160
    assert [step for step, _ in first["evaluations"]] == [step for step, _ in one["evaluations"]]
    for name, weights in one["weights"].items():
        close(first["weights"][name], weights, 1e-4)


def test_the_command_line_trains_in_two_processes(tmp_path: Path) -> None:
    pytest.importorskip("mambasdk_language")
    text = tmp_path / "text"
    text.mkdir()
    for index in range(20):
        (text / f"{index}.txt").write_text(f"{index}: the cat sat on mat {index % 7}\n" * 20)
    sizes = ["--set", "d_model=16", "--set", "n_layer=1", "--context", "32", "--steps", "6", "--json"]
    losses = {}
    for processes, batch in ((2, 2), (1, 4)):
        out = tmp_path / f"p{processes}"
        command = [sys.executable, "-m", "mambasdk", "train", "mamba", "--data", str(text), "--out", str(out)]
        launch(processes, [*command, "--batch", str(batch), *sizes])
        lines = (tmp_path / f"p{processes}.csv").read_text().splitlines()
        losses[processes] = [float(line.split(",")[4]) for line in lines[1:] if line.split(",")[4]]
        assert (out / "mambasdk.json").is_file()
    assert len(losses[1]) == 6
    close(losses[2], losses[1], 1e-4)
