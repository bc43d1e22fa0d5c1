"""MHS-VM (arXiv 2406.05992): a U-Net whose heads scan parts of the channels along routes of their own. Needs torch."""

from mambasdk_medical.families.mhs_vm.checkpoint import import_mhs_vm
from mambasdk_medical.families.mhs_vm.config import MHSVMConfig
from mambasdk_medical.families.mhs_vm.mixer import MultiHeadScan, VSSGate
from mambasdk_medical.families.mhs_vm.model import MHSVM, build
from mambasdk_medical.families.mhs_vm.route_attention import route_attention
from mambasdk_medical.families.mhs_vm.routes import base_routes

__all__ = [
    "MHSVM",
    "MHSVMConfig",
    "MultiHeadScan",
    "VSSGate",
    "base_routes",
    "build",
    "import_mhs_vm",
    "route_attention",
]
