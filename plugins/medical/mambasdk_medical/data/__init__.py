"""Data sets in nnU-Net's folders: labels, cases, files of images and of labels."""

from mambasdk_medical.data.dataset import Case, Dataset, open_dataset
from mambasdk_medical.data.geometry import Geometry
from mambasdk_medical.data.labels import Labels

__all__ = ["Case", "Dataset", "Geometry", "Labels", "open_dataset"]
