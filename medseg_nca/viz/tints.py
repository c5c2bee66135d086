"""What cells answer, in colours that are laid over a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.colors import to_rgb
from numpy.typing import NDArray

from medseg_nca.viz.canvas import colour

Floats = NDArray[np.float32]
# The cover of a label over the image, so that the image is seen through it.
LABEL = 0.55
# Channels: below zero, zero, above zero.
BELOW, ZERO, ABOVE = (0.12, 0.59, 1.0), (0.067, 0.078, 0.094), (1.0, 0.69, 0.0)


@dataclass(frozen=True)
class Tint:
    """Colours of cells, and how much of what lies below they cover.

    Attributes:
        colours: ``(a, b, 3)`` from 0 to 1.
        cover: ``(a, b)`` from 0 (nothing is covered) to 1.
        strong: ``(a, b)``, the cover where there is no image below.
    """

    colours: Floats
    cover: Floats
    strong: Floats

    def over(self, picture: Floats | None) -> Floats:
        """Return the colours over a picture ``(a, b, 3)``; without one over the dark ground."""
        cover = (self.strong if picture is None else self.cover)[..., None]
        below = np.array(ZERO, np.float32) if picture is None else picture
        return np.asarray(below * (1 - cover) + self.colours * cover, np.float32)

    def enlarged(self, factors: Sequence[int], size: Sequence[int]) -> Tint:
        """Return the tint with every cell several pixels large, cut to ``size``."""
        return Tint(*(_enlarged(a, factors, size) for a in (self.colours, self.cover, self.strong)))


def _enlarged(array: Floats, factors: Sequence[int], size: Sequence[int]) -> Floats:
    large = array.repeat(factors[0], 0).repeat(factors[1], 1)
    return large[: size[0], : size[1]]


def label_colours(count: int) -> tuple[tuple[int, int, int], ...]:
    """Return the colours of labels as the overlays of the reports have them, from 0 to 255."""
    return tuple(_bytes(to_rgb(colour(number))) for number in range(count))


def label_tint(places: NDArray[Any], count: int) -> Tint:
    """Colour a label map.

    Args:
        places: ``(a, b)``: 0 is the background, ``i + 1`` the label at place ``i`` of the table.
        count: number of labels.
    """
    table = np.array([ZERO, *(to_rgb(colour(number)) for number in range(count))], np.float32)
    there = (places > 0).astype(np.float32)
    return Tint(table[places], LABEL * there, there)


def share_tint(shares: NDArray[Any], colours: Sequence[tuple[int, int, int]]) -> Tint:
    """Colour votes ``(K, a, b)``: each cell has the colour of its class, as strong as its share."""
    strength = np.clip(shares.max(axis=0), 0, 1).astype(np.float32)
    table = np.array(colours, np.float32) / 255
    return Tint(table[shares.argmax(axis=0)], 0.75 * strength, strength)


def value_tint(values: NDArray[Any], low: float, high: float) -> Tint:
    """Colour real values ``(a, b)`` from ``low`` to ``high`` with the colours of "viridis"."""
    share = np.clip((values - low) / max(high - low, 1e-12), 0, 1)
    colours = matplotlib.colormaps["viridis"](share)[..., :3].astype(np.float32)
    whole = np.ones(values.shape, np.float32)
    return Tint(colours, whole, whole)


def white_tint(visible: NDArray[Any]) -> Tint:
    """Show a grown picture ``(V, a, b)`` on white; see :func:`medseg_nca.viz.growth.over_white`."""
    alpha = np.clip(visible[-1:], 0, 1)
    colours = visible[:-1] if visible.shape[0] == 4 else np.repeat(visible[:1], 3, axis=0)
    shown = np.moveaxis(np.clip(colours + 1 - alpha, 0, 1), 0, -1).astype(np.float32)
    whole = np.ones(shown.shape[:2], np.float32)
    return Tint(shown, whole, whole)


def signed(values: NDArray[Any]) -> Floats:
    """Colour a channel ``(a, b)``: blue below 0, dark at 0, orange above 0, half of it at 1.

    The scale is the same for every channel and step, so that a film does not flicker.
    """
    share = (values / (1 + np.abs(values))).astype(np.float32)[..., None]
    ends = np.where(share < 0, np.array(BELOW, np.float32), np.array(ABOVE, np.float32))
    zero = np.array(ZERO, np.float32)
    return np.asarray(zero + np.abs(share) * (ends - zero), np.float32)


def _bytes(colour_: Sequence[float]) -> tuple[int, int, int]:
    red, green, blue = (round(255 * part) for part in colour_)
    return red, green, blue
