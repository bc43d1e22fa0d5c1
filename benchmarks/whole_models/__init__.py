"""Whole models in the native engine and beside it: what they are, who runs them, how one runs alone."""
