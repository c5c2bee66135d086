"""The emblem that is grown if no picture is given: a heart that holds a cell."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
# Number of points for each pixel and axis, over which edges are averaged.
_FINE = 8
_RED, _DARK = np.array([0.90, 0.22, 0.27]), np.array([0.55, 0.07, 0.24])
_IVORY, _TEAL = np.array([1.0, 0.96, 0.88]), np.array([0.05, 0.48, 0.53])


def draw_emblem(size: int) -> FloatArray:
    """Draw the emblem with soft edges.

    Args:
        size: side in pixels.

    Returns:
        ``(4, size, size)``, axes (x, y) with y downwards: red, green and blue multiplied by alpha,
        and alpha, all from 0 to 1.
    """
    fine = (np.arange(size * _FINE) + 0.5) / (size * _FINE) * 2 - 1
    x, y = np.meshgrid(fine, fine, indexing="ij")
    # The heart (u^2 + v^2 - 1)^3 = u^2 v^3, v upwards, scaled to fill the square.
    u, v = x * 1.16, 0.12 - y * 1.13
    heart = (u**2 + v**2 - 1) ** 3 - u**2 * v**3 <= 0
    radius = np.hypot(x, y + 0.12)
    shade = np.clip((y + 1) / 2, 0, 1)[..., None]
    colour = _RED * (1 - shade) + _DARK * shade
    colour = np.where((radius < 0.46)[..., None], _IVORY, colour)
    colour = np.where((np.hypot(x - 0.04, y + 0.16) < 0.21)[..., None], _TEAL, colour)
    rgba = np.concatenate((colour, np.ones_like(shade)), -1) * heart[..., None]
    blocks = rgba.reshape(size, _FINE, size, _FINE, 4).mean(axis=(1, 3))
    return np.ascontiguousarray(blocks.transpose(2, 0, 1), np.float32)
