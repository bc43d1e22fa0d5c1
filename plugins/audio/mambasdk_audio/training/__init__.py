"""Training of audio models: clips on disk, augmentation, and the tasks of classification and pretraining."""
