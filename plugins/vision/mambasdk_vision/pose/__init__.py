"""Human pose: keypoint sets and files, crops and heat maps to train on, scores."""
