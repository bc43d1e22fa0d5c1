"""Finding objects: labelled data, augmentation, training, scores. What needs torch is imported when it is first used."""
