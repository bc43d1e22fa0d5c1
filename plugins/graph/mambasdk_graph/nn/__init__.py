"""Modules that the graph families share: encoders of features, message passing. Needs torch."""
