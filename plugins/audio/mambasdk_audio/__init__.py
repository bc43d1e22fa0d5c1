"""Audio for mambasdk: preparation and labels of audio models."""

from mambasdk_audio.processors import AudioClassification, FbankProcessor, WaveformProcessor

__version__ = "0.1.0"
__all__ = ["AudioClassification", "FbankProcessor", "WaveformProcessor", "__version__"]
