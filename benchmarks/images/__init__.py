"""The parts of `families/vision.py`: image encoders beside what they compete with, on this machine's CPU."""
