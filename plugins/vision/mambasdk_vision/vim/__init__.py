"""Vision Mamba (Vim, arXiv 2401.09417): configuration, models for each task, checkpoints. Needs torch."""

from mambasdk_vision.vim.checkpoint import import_vim, resize_positions
from mambasdk_vision.vim.config import VimConfig
from mambasdk_vision.vim.model import VimClassifier, VimDetectionFeatures, VimEncoder, VimSegmentationFeatures, build

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
