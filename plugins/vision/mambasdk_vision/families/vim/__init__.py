"""Vision Mamba (Vim, arXiv 2401.09417): configuration, models for each task, checkpoints. Needs torch."""

from mambasdk_vision.families.vim.checkpoint import import_vim
from mambasdk_vision.families.vim.config import VimConfig
from mambasdk_vision.families.vim.model import (
    VimClassifier,
    VimDetectionFeatures,
    VimEncoder,
    VimSegmentationFeatures,
    build,
)
from mambasdk_vision.families.vim.positions import resize_positions

__all__ = [
    "VimClassifier",
    "VimConfig",
    "VimDetectionFeatures",
    "VimEncoder",
    "VimSegmentationFeatures",
    "build",
    "import_vim",
    "resize_positions",
]
