"""Segment medical images with neural cellular automata, from a folder of images to a registered model."""

__version__ = "0.1.0"
