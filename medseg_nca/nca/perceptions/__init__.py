"""Perceptions: what a cell sees of its neighbourhood; one file each, and ``base``, their seam."""
