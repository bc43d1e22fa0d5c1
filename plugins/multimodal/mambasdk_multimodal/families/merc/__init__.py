"""Broad Mamba with probability-guided fusion, our implementation of an idea (arXiv 2404.17858). Needs torch."""

from mambasdk_multimodal.families.merc.config import MERCConfig
from mambasdk_multimodal.families.merc.model import MERC, MERCOutput, OnlineMERC, build
from mambasdk_multimodal.families.merc.ridge import fit_ridge, solve_ridge

__all__ = ["MERC", "MERCConfig", "MERCOutput", "OnlineMERC", "build", "fit_ridge", "solve_ridge"]
