"""What a plan says about its network, whatever the family. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class NetworkPlan:
    """The network of one configuration (`2d`, `3d_fullres`, …) of a plans file, for one data set.

    patch_size: of a tile, (H, W) or (D, H, W). in_channels: of the image. num_classes: channels of the logits: labels
    with the background, or regions. strides, kernel_sizes: of every stage, one number per axis; the first stride is 1.
    n_conv_per_stage, n_conv_per_stage_decoder: blocks. features_per_stage: widths. deep_supervision: whether coarser
    outputs are trained too. Source: nnU-Net v2's `architecture.arch_kwargs`.
    """

    patch_size: tuple[int, ...]
    in_channels: int
    num_classes: int
    strides: tuple[tuple[int, ...], ...] = ()
    kernel_sizes: tuple[tuple[int, ...], ...] = ()
    features_per_stage: tuple[int, ...] = ()
    n_conv_per_stage: tuple[int, ...] = ()
    n_conv_per_stage_decoder: tuple[int, ...] = ()
    deep_supervision: bool = True
