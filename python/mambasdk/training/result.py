"""What a training run gave. No torch."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class TrainingResult:
    """steps done, units (of the task) trained on, seconds in steps; evaluations and checkpoints are not in them.

    losses: of each step, in the task's `loss_unit`. evaluations: (steps done, held-out metrics by name).
    """

    steps: int = 0
    units: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)
    evaluations: list[tuple[int, dict[str, float]]] = field(default_factory=list)

    @property
    def units_per_second(self) -> float:
        """Training speed in the task's unit."""
        return self.units / self.seconds if self.seconds > 0 else 0.0

    @property
    def metrics(self) -> dict[str, float]:
        """The last evaluation; empty where there was none."""
        return dict(self.evaluations[-1][1]) if self.evaluations else {}
