"""A contact sheet: key planes of an image with the outlines of its labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Colour = tuple[int, int, int]
# These percentiles of the finite values become black and white.
_WINDOW = (0.5, 99.5)
_LINE, _MARGIN = 14, 4


def key_planes(found: NDArray[np.bool_], most: int = 12) -> list[int]:
    """Choose planes evenly over those in which something was found; over all if nothing was.

    Args:
        found: for each plane whether it holds a label.
        most: how many at most.
    """
    candidates = np.flatnonzero(found) if found.any() else np.arange(len(found))
    picked = np.linspace(0, len(candidates) - 1, min(most, len(candidates)))
    return [int(candidates[round(float(i))]) for i in picked]


def grey(frames: NDArray[Any]) -> NDArray[np.uint8]:
    """Return frames as 8-bit grey, ``(n, rows, columns)``; colour ``(..., 3)`` is kept if 8-bit."""
    if frames.dtype == np.uint8 and frames.ndim == 4:
        return frames
    values = frames.astype(np.float32)
    low, high = np.percentile(values, _WINDOW) if values.size else (0.0, 1.0)
    scaled = (values - low) / max(float(high - low), 1e-6)
    return np.asarray(np.clip(scaled, 0, 1) * 255).astype(np.uint8)


def enlarged(
    frame: NDArray[Any], spacing: tuple[float, float], smallest: int = 256
) -> NDArray[Any]:
    """Repeat pixels until they look square and the longer side has ``smallest`` pixels or more.

    Args:
        frame: ``(rows, columns)`` or ``(rows, columns, 3)``.
        spacing: mm between rows, between columns.
        smallest: see above; a larger frame stays as large as it is.
    """
    rows, columns = frame.shape[:2]
    finest = min(spacing)
    height, width = rows * spacing[0] / finest, columns * spacing[1] / finest
    factor = max(1.0, math.ceil(smallest / max(height, width)))
    # A sheet is to look at: very long pixels are shown shorter than they are.
    limit = 1024 / max(height, width) / factor
    factor *= min(1.0, limit) if max(height, width) * factor > 1024 else 1.0
    take_rows = _nearest(rows, max(1, round(height * factor)))
    take_columns = _nearest(columns, max(1, round(width * factor)))
    return frame[take_rows][:, take_columns]


def edges(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the pixels of a mask that touch its outside, or the border of the picture."""
    from scipy.ndimage import binary_erosion

    inner: NDArray[np.bool_] = binary_erosion(mask, border_value=0)
    return mask & ~inner


def sheet(
    pictures: Sequence[NDArray[np.uint8]], legend: Sequence[tuple[str, Colour]], note: str
) -> NDArray[np.uint8]:
    """Lay pictures out in rows with a legend and a note below.

    Args:
        pictures: ``(rows, columns, 3)`` each, all of one size.
        legend: names and colours.
        note: text in white, below the legend.

    Returns:
        ``(rows, columns, 3)``.
    """
    from PIL import Image, ImageDraw, ImageFont

    per_row = math.ceil(math.sqrt(len(pictures)))
    lines = math.ceil(len(pictures) / per_row)
    height, width = pictures[0].shape[:2]
    total_width = max(per_row * (width + _MARGIN) + _MARGIN, 320)
    top = lines * (height + _MARGIN) + _MARGIN
    canvas = Image.new("RGB", (total_width, top + (len(legend) + 1) * _LINE + _MARGIN))
    for index, picture in enumerate(pictures):
        row, column = divmod(index, per_row)
        place = (_MARGIN + column * (width + _MARGIN), _MARGIN + row * (height + _MARGIN))
        canvas.paste(Image.fromarray(picture), place)
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=11)
    for index, (name, colour) in enumerate(legend):
        y = top + index * _LINE
        draw.rectangle((_MARGIN, y + 2, _MARGIN + 10, y + 11), fill=colour)
        draw.text((_MARGIN + 16, y), name, fill=(255, 255, 255), font=font)
    draw.text((_MARGIN, top + len(legend) * _LINE), note, fill=(255, 255, 255), font=font)
    return np.asarray(canvas)


def _nearest(size: int, wanted: int) -> NDArray[np.intp]:
    return np.minimum(np.arange(wanted) * size // wanted, size - 1)
