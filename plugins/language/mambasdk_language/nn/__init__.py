"""Layers of the language families that no other domain needs. Needs torch."""
