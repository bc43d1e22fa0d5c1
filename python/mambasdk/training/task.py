"""What a head gives to the Trainer: data, loss and metrics of what its models learn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor


class Task(Protocol):
    """The data of a run, the loss of each step and the metrics on held-out data.

    What a step draws at random must depend on `step` alone, so that a resumed run goes on with the same bits: indices
    from `Batches.at(step)`, NumPy numbers from `default_rng((seed, step))`; torch's generators (dropout, `torch.rand`)
    are seeded by the Trainer before each step. Whatever else is carried from step to step belongs into a state dict.
    In a run of several processes each has its own task, whose `Batches` give the rows of its rank.

    Optional members:
        loss_unit: tuple[str, float]: name of the unit in which losses are noted and shown, and its size in the unit of
            what `loss` returns: ("bits", math.log(2)) for a cross entropy in nats. Default: as `loss` returns it.
        goals: dict[str, str]: "max" or "min" of each metric, whichever is better; the first is what `--best` and
            `--patience` go by.
        data: str: what is trained on, for the line before the first step: "400 images, 40 held out".
        sample_inputs() -> tuple[dict[str, Tensor], int]: inputs as the model's `native_outputs` takes them, and how
            many rows of a step they are, from which memory and time are estimated. Default: the model's
            `example_inputs()`.
        state_dict() -> dict: of plain values and tensors (`torch.load(weights_only=True)` must read it), written to
            checkpoints.
        load_state_dict(state: dict) -> None: takes it back; raises CheckpointError where it is of another task.
    """

    unit: str
    """What the run counts, in plural: "images", "tokens"."""

    def loss(self, step: int) -> tuple[Tensor, int]:
        """(scalar loss of the step's batch, units in the batch). Steps count from 0; the model is in train mode.

        It runs inside the autocast of TrainingOptions; the Trainer does backward and the optimizer's step. The loss is
        a mean over the units: losses and gradients of several processes are averaged by their units.
        """

    def evaluate(self) -> dict[str, float]:
        """Metrics on held-out data, by name. The model is in eval mode and no gradients are recorded."""
