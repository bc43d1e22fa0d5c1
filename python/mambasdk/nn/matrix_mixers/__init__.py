"""Sequence mixers that differ in the structure of their matrix alone. Source: arXiv 2407.09941, section 2."""

from mambasdk.nn.matrix_mixers.mixer import MATRIX_MIXERS, MatrixMixer
from mambasdk.nn.matrix_mixers.structure import Structure

__all__ = ["MATRIX_MIXERS", "MatrixMixer", "Structure"]
