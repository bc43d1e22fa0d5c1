"""VMamba (arXiv 2401.10166): the four-route scan SS2D, its block types, the network, checkpoints. Needs torch."""

from mambasdk_vision.families.vmamba.checkpoint import import_vmamba
from mambasdk_vision.families.vmamba.config import VMambaConfig
from mambasdk_vision.families.vmamba.model import VMambaClassifier, VMambaFeatures, build
from mambasdk_vision.nn.forward_type import ForwardType
from mambasdk_vision.nn.ss2d import SS2D

__all__ = [
    "SS2D",
    "ForwardType",
    "VMambaClassifier",
    "VMambaConfig",
    "VMambaFeatures",
    "build",
    "import_vmamba",
]
