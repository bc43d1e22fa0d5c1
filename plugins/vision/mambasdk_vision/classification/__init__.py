"""Training and evaluation of classifiers on folders of images."""
