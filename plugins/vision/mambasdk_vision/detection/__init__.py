"""Finding objects: labelled data, augmentation, training, scores. What needs torch is imported late."""
