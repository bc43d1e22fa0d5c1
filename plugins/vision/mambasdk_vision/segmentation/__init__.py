"""Segmentation: pairs of images and masks, augmentation, the task of the Trainer, scores."""
