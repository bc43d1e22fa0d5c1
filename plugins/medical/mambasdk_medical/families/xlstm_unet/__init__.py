"""xLSTM-UNet (arXiv 2407.01530): a residual U-Net with Vision-LSTM layers on its maps. Needs torch."""

from mambasdk_medical.families.xlstm_unet.checkpoint import import_xlstm_unet
from mambasdk_medical.families.xlstm_unet.config import XLSTMUNetConfig
from mambasdk_medical.families.xlstm_unet.model import ViLLayer, XLSTMUNet, build

__all__ = ["ViLLayer", "XLSTMUNet", "XLSTMUNetConfig", "build", "import_xlstm_unet"]
