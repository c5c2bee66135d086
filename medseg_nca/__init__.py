"""Segment medical images with neural cellular automata, from files to a registered model."""

__version__ = "0.1.0"
