"""Configurations of residual U-Nets of nnU-Net's shape, with and without layers of tokens. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mambasdk.errors import InvalidArgumentError
from mambasdk_medical.config import MedicalConfig
from mambasdk_medical.plans import NetworkPlan

Placement = Literal["bot", "enc"]
_BLOCKS = 2  # per stage in plans of nnU-Net's default planner


@dataclass
class ResidualUNetConfig(MedicalConfig):
    """A residual U-Net; n is the number of stages.

    features_per_stage: width of every stage, full resolution first; their number is n. strides, kernel_sizes: of every
    stage, one odd kernel and one stride per axis; the first stride is 1. Empty: strides of 2 after the first stage,
    kernels of 3. n_conv_per_stage, n_conv_per_stage_decoder: blocks that the plan wants, in n stages and n - 1 steps of
    the decoder; empty is 2 each. The later half has one block whatever the plan says, see encoder_blocks and
    decoder_blocks. deep_supervision: whether `training_outputs` gives the coarser logits too.
    The patch is a multiple of the product of all strides, and the deepest map holds two positions at least: its norm
    is over them. Source: arXiv 2401.04722; plans of nnU-Net v2.
    """

    patch_size: Sequence[int] = (64, 64)
    features_per_stage: Sequence[int] = (8, 16, 32, 64)
    strides: Sequence[Sequence[int]] = ()
    kernel_sizes: Sequence[Sequence[int]] = ()
    n_conv_per_stage: Sequence[int] = ()
    n_conv_per_stage_decoder: Sequence[int] = ()
    deep_supervision: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.features_per_stage = tuple(self.features_per_stage)
        stages, dims = len(self.features_per_stage), self.spatial_dims
        if stages < 2 or min(self.features_per_stage) < 1:
            self._refuse("features_per_stage", "two stages or more, each 1 or more")
        self.strides = _per_axis(self.strides) or ((1,) * dims, *((2,) * dims for _ in range(stages - 1)))
        self.kernel_sizes = _per_axis(self.kernel_sizes) or ((3,) * dims,) * stages
        self.n_conv_per_stage = tuple(self.n_conv_per_stage) or (_BLOCKS,) * stages
        self.n_conv_per_stage_decoder = tuple(self.n_conv_per_stage_decoder) or (_BLOCKS,) * (stages - 1)
        for name in ("strides", "kernel_sizes"):
            values = getattr(self, name)
            if len(values) != stages or any(len(one) != dims or min(one) < 1 for one in values):
                self._refuse(name, f"{stages} stages of {dims} axes, each 1 or more")
        if any(step != 1 for step in self.strides[0]):
            self._refuse("strides", "1 in the first stage")
        if any(size % 2 == 0 for kernel in self.kernel_sizes for size in kernel):
            self._refuse("kernel_sizes", "odd sizes")
        for name, count in (("n_conv_per_stage", stages), ("n_conv_per_stage_decoder", stages - 1)):
            if len(getattr(self, name)) != count or min(getattr(self, name)) < 1:
                self._refuse(name, f"{count} numbers, each 1 or more")
        if any(extent % step for extent, step in zip(self.patch_size, self.divisor, strict=True)):
            self._refuse("patch_size", f"multiples of {self.divisor}, the product of the strides")
        if math.prod(self.map_sizes[-1]) < 2:
            self._refuse("patch_size", f"a deepest map of two positions or more: two times {self.divisor} on one axis")

    def _refuse(self, name: str, expected: str) -> None:
        raise InvalidArgumentError(f"bad {name}", where=type(self).__name__, expected=expected, got=getattr(self, name))

    @property
    def divisor(self) -> tuple[int, ...]:
        """The product of all strides, by axis."""
        return tuple(math.prod(steps) for steps in zip(*self.strides, strict=True))

    @property
    def map_sizes(self) -> tuple[tuple[int, ...], ...]:
        """The size of every stage's map for a patch."""
        sizes, size = [], tuple(self.patch_size)
        for steps in self.strides:
            size = tuple(extent // step for extent, step in zip(size, steps, strict=True))
            sizes.append(size)
        return tuple(sizes)

    @property
    def encoder_blocks(self) -> tuple[int, ...]:
        """Blocks of every stage: the plan's in the first half of the stages, rounded up, then one."""
        return _one_in_the_later_half(self.n_conv_per_stage, len(self.features_per_stage))

    @property
    def decoder_blocks(self) -> tuple[int, ...]:
        """Blocks of every step of the decoder, the deepest first, by the same rule."""
        return _one_in_the_later_half(self.n_conv_per_stage_decoder, len(self.features_per_stage))

    @property
    def fixed_size(self) -> bool:
        """Whether the network takes images of the patch's size alone."""
        return False

    @classmethod
    def for_plan(cls, plan: NetworkPlan) -> dict[str, Any]:
        """Overrides that fit a plan: what it says of stages, widths, kernels and blocks too."""
        stages = {
            name: getattr(plan, name)
            for name in (
                "strides",
                "kernel_sizes",
                "features_per_stage",
                "n_conv_per_stage",
                "n_conv_per_stage_decoder",
            )
        }
        given = {name: value for name, value in stages.items() if value}
        return {**super().for_plan(plan), **given, "deep_supervision": plan.deep_supervision}


@dataclass
class TokenUNetConfig(ResidualUNetConfig):
    """A residual U-Net with layers that read its maps as sequences.

    placement: "bot", one such layer on the deepest map; "enc", after some stages of the encoder.
    """

    placement: Placement = "bot"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.placement not in ("bot", "enc"):
            self._refuse("placement", "'bot' or 'enc'")

    @property
    def token_stages(self) -> tuple[int, ...]:
        """Stages of the encoder with a layer of tokens after them; none where the placement is "bot"."""
        return ()

    @property
    def alternating_stages(self) -> tuple[int, ...]:
        """Every other stage, the deepest one among them."""
        count = len(self.features_per_stage)
        return tuple(stage for stage in range(count) if stage % 2 != count % 2)

    def channel_tokens(self, stage: int) -> bool:
        """Whether the tokens after a stage are its channels, each a vector of all positions: where there are no more
        positions than channels. Such a layer has a parameter for each position, so the patch's size is fixed.
        """
        return math.prod(self.map_sizes[stage]) <= self.features_per_stage[stage]

    def token_dim(self, stage: int) -> int:
        """Numbers of each token after a stage of the encoder."""
        return math.prod(self.map_sizes[stage]) if self.channel_tokens(stage) else self.features_per_stage[stage]

    @property
    def fixed_size(self) -> bool:
        """Whether a layer's tokens are channels."""
        return any(self.channel_tokens(stage) for stage in self.token_stages)


def _per_axis(values: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(one) for one in values)


def _one_in_the_later_half(blocks: Sequence[int], stages: int) -> tuple[int, ...]:
    half = (stages + 1) // 2
    return tuple(count if index < half else 1 for index, count in enumerate(blocks))
