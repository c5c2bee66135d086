"""How something grows: strips of pictures, animations, and curves of damage and recovery."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from medseg_nca.viz.canvas import FAINT, INK, colour, headline, new_figure, save, store, style
from medseg_nca.viz.gif import palette_of, upright, write_frames
from medseg_nca.viz.tints import white_tint

Array = NDArray[Any]
CAPTION = 22
GAP = 6
LIGHT, DARK = (255, 255, 255), (31, 41, 51)
# Cells that are shorter than this on every side are enlarged to about so many pixels.
_SIDE = 216
_COLOURS = 255


def over_white(visible: Array) -> NDArray[np.uint8]:
    """Show channels on white: ``(V, x, y)`` or ``(V, x, y, z)`` to ``(row, column, 3)``.

    V is red, green and blue multiplied by alpha, and alpha; or grey and alpha. Of a volume the
    middle slice of the last axis is shown.
    """
    plane = visible[..., visible.shape[-1] // 2] if visible.ndim == 4 else visible
    shown = upright(white_tint(plane).colours, 2)
    return (shown * 255).round().astype(np.uint8)


def rgba_png(visible: Array, path: Path) -> Path:
    """Write ``(4, x, y)``, colours multiplied by alpha, as a PNG of a pixel a cell.

    Raises:
        OutputError: if it cannot be written.
    """
    alpha = np.clip(visible[3:], 0, 1)
    colours = np.clip(visible[:3] / np.maximum(alpha, 1e-6), 0, 1) * (alpha > 0)
    pixels = (np.concatenate((colours, alpha)).transpose(2, 1, 0) * 255).round().astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels), "RGBA").save(buffer, format="PNG")
    return store(buffer.getvalue(), path)


def growth_strip(frames: Sequence[Array], captions: Sequence[str], path: Path) -> Path:
    """Write pictures side by side, each with a caption below it.

    Args:
        frames: see :func:`over_white`.
        captions: one each.
        path: of the PNG.

    Raises:
        OutputError: if it cannot be written.
    """
    tiles = [
        _tile(frame, text, _scale(frame, 132)) for frame, text in zip(frames, captions, strict=True)
    ]
    width = sum(tile.width for tile in tiles) + GAP * (len(tiles) - 1)
    whole = Image.new("RGB", (width, max(tile.height for tile in tiles)), LIGHT)
    left = 0
    for tile in tiles:
        whole.paste(tile, (left, 0))
        left += tile.width + GAP
    buffer = io.BytesIO()
    whole.save(buffer, format="PNG", optimize=True)
    return store(buffer.getvalue(), path)


def growth_gif(
    frames: Sequence[Array], captions: Sequence[str], path: Path, *, scale: int | None = None,
    fps: float = 15,
) -> Path:  # fmt: skip
    """Write an animation that runs for ever; its last picture stays for two seconds.

    Args:
        frames: see :func:`over_white`; one at least.
        captions: one each.
        path: of the GIF.
        scale: pixels a cell; None makes it about 216 pixels wide.
        fps: pictures a second.

    Raises:
        OutputError: if it cannot be written.
    """
    tiles = [
        _tile(frame, text, scale or _scale(frame, _SIDE))
        for frame, text in zip(frames, captions, strict=True)
    ]
    some = [tiles[place] for place in (len(tiles) // 3, 2 * len(tiles) // 3, len(tiles) - 1)]
    palette = palette_of(some, (), _COLOURS)
    return write_frames(tiles, palette, path, pause=round(1000 / fps), last=2000)


def plot_losses(
    curves: Mapping[str, Sequence[float]], path: Path, *, title: str, mark: float | None = None,
    marked: str = "",
) -> Path:  # fmt: skip
    """Draw losses over the steps, with a logarithmic axis.

    Args:
        curves: by name; the first value is that before the first step.
        path: of the PNG.
        title: above the figure.
        mark: a loss that is drawn as a line across, with the text ``marked``.
        marked: its text.

    Raises:
        OutputError: if it cannot be written.
    """
    figure = new_figure(6.4, 3.4)
    headline(figure, title)
    axes = style(figure.subplots(), x="steps", y="mean squared error")
    for number, (name, values) in enumerate(curves.items()):
        axes.plot(np.maximum(values, 1e-9), color=colour(number), linewidth=1.6, label=name)
    axes.set_yscale("log")
    if mark is not None:
        axes.axhline(mark, color=FAINT, linewidth=1, linestyle="--", label=marked)
    if len(curves) > 1 or mark is not None:
        axes.legend(fontsize=8, frameon=False, labelcolor=INK)
    return save(figure, path)


def _scale(frame: Array, side: int) -> int:
    return max(1, round(side / int(max(frame.shape[1:3]))))


def _tile(frame: Array, caption: str, scale: int) -> Image.Image:
    small = Image.fromarray(over_white(frame))
    size = (small.width * scale, small.height * scale)
    tile = Image.new("RGB", (max(size[0], 96), size[1] + CAPTION), LIGHT)
    tile.paste(small.resize(size, Image.Resampling.NEAREST), ((tile.width - size[0]) // 2, 0))
    font = ImageFont.load_default(size=12)
    middle = (tile.width // 2, size[1] + CAPTION // 2)
    ImageDraw.Draw(tile).text(middle, caption, fill=DARK, font=font, anchor="mm")
    return tile
