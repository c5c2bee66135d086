"""Frames of an automaton at work: pictures side by side, with a caption and a legend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from medseg_nca.viz.animation import CAPTION, DARK, GAP, LIGHT, TRACK, write_caption
from medseg_nca.viz.gif import enlarge, upright

TITLE = 20
# The longest side of a panel in pixels: of a few panels, of some, of many.
SIDES = ((3, 320), (9, 200), (10**9, 128))
NARROWEST = 380  # pixels, so that there is room for the caption
KEPT = (DARK, LIGHT, TRACK)


@dataclass(frozen=True)
class Panel:
    """One picture of a frame.

    Attributes:
        title: above it.
        pixels: ``(a, b, 3)`` from 0 to 1, in the order of the array.
        smooth: whether it is a photograph, whose pixels are not to be seen as squares.
    """

    title: str
    pixels: NDArray[np.float32]
    smooth: bool = False


class FilmFrame:
    """Lays out every frame of a film alike.

    Args:
        plane: size of what is shown, along the horizontal and the vertical axis, in mm or cells;
            it is brought to the size of a panel.
        count: number of panels.
        dims: number of axes of the image; volumes have their origin at the bottom.
        legend: names and colours.

    Attributes:
        size: width and height of a frame; both are even, as films must be.
    """

    def __init__(
        self,
        plane: tuple[float, float],
        count: int,
        dims: int,
        legend: Sequence[tuple[str, tuple[int, int, int]]] = (),
    ) -> None:
        side = next(pixels for most, pixels in SIDES if count <= most)
        factor = side / max(plane)
        self._panel = max(round(plane[0] * factor), 1), max(round(plane[1] * factor), 1)
        self._columns = count if count <= 3 else ceil(count**0.5)
        rows = ceil(count / self._columns)
        self._dims, self._legend = dims, legend
        across = self._columns * (self._panel[0] + GAP) + GAP
        self._left = max(0, (NARROWEST - across) // 2)
        self._height = rows * (self._panel[1] + TITLE + GAP)
        width = max(across, NARROWEST)
        self.size = width + width % 2, (self._height + CAPTION + 1) // 2 * 2

    def draw(self, panels: Sequence[Panel], caption: str, done: float) -> Image.Image:
        """Return a frame.

        Args:
            panels: as many as were announced.
            caption: below them.
            done: share of the film that is over.
        """
        frame = Image.new("RGB", self.size, DARK)
        draw, font = ImageDraw.Draw(frame), ImageFont.load_default(size=12)
        for place, panel in enumerate(panels):
            row, column = divmod(place, self._columns)
            x = self._left + GAP + column * (self._panel[0] + GAP)
            y = row * (self._panel[1] + TITLE + GAP)
            draw.text((x, y + TITLE // 2), panel.title, fill=LIGHT, font=font, anchor="lm")
            pixels = upright(panel.pixels, self._dims)
            small = max(pixels.shape[:2]) * 4 <= max(self._panel)
            smooth = panel.smooth and not small
            large = max(pixels.shape[:2]) > max(self._panel)
            how = Image.Resampling.BICUBIC if smooth or large else Image.Resampling.NEAREST
            frame.paste(enlarge(pixels, self._panel, how), (x, y + TITLE))
        write_caption(draw, (self.size[0], self._height), self._legend, caption, done)
        return frame
