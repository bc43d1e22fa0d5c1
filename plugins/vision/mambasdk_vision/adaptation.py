"""A trained model for another task, image size or set of classes: the weights that fit are taken over."""

from mambasdk_vision.model import adapted

__all__ = ["adapted"]
