"""Training of segmenters: patches, augmentation, loss, the task and its trainer."""
