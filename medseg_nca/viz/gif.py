"""How frames become a GIF, with one palette for all of them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medseg_nca.viz.canvas import store

# Pillow finds a colour by the six upper bits of its channels: no other colour of the palette may
# share these with a colour that is kept.
NEAR = 8
COLOURS = 192  # fewer than 256, so that a colour is free to mean "as in the frame before"


def write_frames(
    frames: Sequence[Image.Image], palette: Image.Image, path: Path, *, pause: int, last: int
) -> Path:
    """Write a GIF that runs for ever.

    Args:
        frames: of one size; those in the mode "P" have the palette already.
        palette: an image of the mode "P", whose palette all frames get.
        path: of the GIF.
        pause: milliseconds of a frame.
        last: milliseconds of the last frame.

    Raises:
        OutputError: if the file cannot be written.
    """
    small = [frame if frame.mode == "P" else with_palette(frame, palette) for frame in frames]
    buffer = io.BytesIO()
    # "optimize" leaves out what is as in the frame before, which makes films five times smaller.
    small[0].save(
        buffer, format="GIF", save_all=True, append_images=small[1:], loop=0, optimize=True,
        duration=[pause] * (len(small) - 1) + [last],
    )  # fmt: skip
    return store(buffer.getvalue(), path)


def with_palette(frame: Image.Image, palette: Image.Image) -> Image.Image:
    """Return a frame in the colours of a palette."""
    return frame.quantize(palette=palette, dither=Image.Dither.NONE)


def palette_of(
    frames: Sequence[Image.Image], kept: Sequence[tuple[int, int, int]], count: int = COLOURS
) -> Image.Image:
    """Return one palette for all frames, because with several the colours would flicker.

    Args:
        frames: some of them, of one size.
        kept: colours that it has in any case. With frequent colours alone, the few pixels of all
            names in a legend would get one colour.
        count: most colours of it.
    """
    width, height = frames[0].size
    together = Image.new("RGB", (width, len(frames) * height))
    for place, frame in enumerate(frames):
        together.paste(frame, (0, place * height))
    found = np.array(together.quantize(count - len(kept)).getpalette()).reshape(-1, 3)
    far = np.ones(len(found), bool)
    for colour in kept:
        far &= np.abs(found - colour).max(axis=1) >= NEAR
    palette = Image.new("P", (1, 1))
    palette.putpalette([*np.ravel(kept).astype(int).tolist(), *found[far].ravel().tolist()])
    return palette


def upright(values: NDArray[Any], dims: int) -> NDArray[Any]:
    """Turn ``(a, b, ...)`` into rows and columns of a picture; volumes begin at the bottom."""
    pixels = np.swapaxes(values, 0, 1)
    return np.ascontiguousarray(pixels[::-1] if dims == 3 else pixels)


def enlarge(pixels: NDArray[Any], size: tuple[int, int], how: Image.Resampling) -> Image.Image:
    """Return ``(rows, columns, 3)`` from 0 to 1 as a picture of that size (width, height)."""
    small = Image.fromarray((np.clip(pixels, 0, 1) * 255).round().astype(np.uint8))
    return small.resize(size, how)
