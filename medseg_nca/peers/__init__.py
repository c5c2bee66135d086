"""Checkpoints of published automata, read safely and turned into models of this package."""
