"""Training of classifiers on folders of images, and pictures of their results."""
