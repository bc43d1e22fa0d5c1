"""How to train: length of the run, batch, optimiser. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from mambasdk.errors import InvalidArgumentError

OPTIMIZERS = ("adamw", "sgd")


@dataclass(frozen=True)
class TrainingOptions:
    """How to train. Defaults of the optimiser: the Mamba paper's (arXiv 2312.00752, appendix E).

    steps, minutes: when to end, whichever comes first; the learning rate follows the nearer one. batch: rows per step.
    lr: peak learning rate, reached after the share `warmup` of the run, from where a cosine falls to the share
    `final_lr` of it. weight_decay: of matrices (`nn.parameter_groups`). clip: largest norm of all gradients together.
    optimizer: "adamw", with beta1 and beta2, or "sgd" with Nesterov's momentum. ema: decay of an exponential moving
    average of the weights, which is then evaluated and packaged (0.9999 for example); 0 for the weights themselves.
    seed: of the data's order and of every random number that a step draws. autocast:
    "bfloat16" for matrix products in it, None for the parameters' own dtype; float16 has too small a range for
    gradients. Raises InvalidArgumentError for values that cannot be used.
    """

    steps: int | None = None
    minutes: float | None = None
    batch: int = 8
    lr: float = 3e-3
    final_lr: float = 0.05
    warmup: float = 0.03
    weight_decay: float = 0.1
    clip: float = 1.0
    beta1: float = 0.9
    beta2: float = 0.95
    seed: int = 0
    autocast: str | None = None
    optimizer: str = "adamw"
    momentum: float = 0.937
    ema: float = 0.0

    def __post_init__(self) -> None:
        if self.steps is None and self.minutes is None:
            raise InvalidArgumentError("no end given", where="training", way_out="give steps, minutes or both")
        for name in ("steps", "minutes", "batch", "lr", "clip"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InvalidArgumentError(f"bad {name}", where="training", expected="more than 0", got=value)
        for name in ("warmup", "beta1", "beta2", "momentum", "ema"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise InvalidArgumentError(f"bad {name}", where="training", expected="from 0 to below 1", got=value)
        for name in ("final_lr", "weight_decay", "seed"):
            value = getattr(self, name)
            if not value >= 0:
                raise InvalidArgumentError(f"bad {name}", where="training", expected="0 or more", got=value)
        if self.optimizer not in OPTIMIZERS:
            expected = " or ".join(OPTIMIZERS)
            raise InvalidArgumentError("bad optimizer", where="training", expected=expected, got=repr(self.optimizer))
        if self.autocast not in (None, "bfloat16"):
            raise InvalidArgumentError(
                "bad autocast",
                where="training",
                expected="'bfloat16' or None",
                got=repr(self.autocast),
                way_out="float16 has too small a range for gradients",
            )
