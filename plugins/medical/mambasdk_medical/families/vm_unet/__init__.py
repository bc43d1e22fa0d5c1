"""VM-UNet (arXiv 2402.02491): a U-Net of VSS blocks. Needs torch."""

from mambasdk_medical.families.vm_unet.checkpoint import import_vm_unet
from mambasdk_medical.families.vm_unet.config import VMUNetConfig
from mambasdk_medical.families.vm_unet.model import VMUNet, build
from mambasdk_medical.nn.vss_checkpoint import begin_from_vmamba

__all__ = ["VMUNet", "VMUNetConfig", "begin_from_vmamba", "build", "import_vm_unet"]
