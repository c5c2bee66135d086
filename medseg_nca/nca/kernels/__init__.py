"""Compiled loops of the CPU engine; imported only when it computes something."""
