"""The cells of an automaton at their vote, as a GIF."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from medseg_nca.viz.canvas import store
from medseg_nca.viz.classes import class_colours, middle, shown
from medseg_nca.viz.gif import enlarge, upright, write_frames

SIDE, BARS, GAP, HEAD, FOOT = 220, 210, 10, 30, 30  # pixels
MOST_BARS, MOST_FRAMES = 12, 60
DARK, LIGHT, TRACK = (17, 20, 24), (235, 238, 242), (60, 67, 76)
FRAME_MS, LAST_MS = 160, 2500
SHADES, PICTURE = 180, 72  # of the 256 colours of a GIF: for the classes, for the image
_LETTERS = 12


def write_votes_gif(
    image: NDArray[Any],
    cells: NDArray[Any],
    votes: NDArray[Any],
    classes: Sequence[str],
    path: Path,
    title: str = "",
) -> Path:
    """Show, step by step, which class each cell is for, and what comes out of it.

    A cell has the colour of the class it is most for, as strong as it is for it. A volume is shown
    in its middle slice.

    Args:
        image: ``(C, *S)``.
        cells: ``(T, K, *cells)``, from 0 to 1, an entry for each step.
        votes: ``(T, K)``: probabilities of the image's classes after each step.
        classes: names of the K classes; the most probable ones at the end are shown as bars.
        path: of the GIF.
        title: above the frames.

    Returns:
        ``path``.

    Raises:
        OutputError: if the file cannot be written.
        ValueError: if there is no step, or not one row of votes for each.
    """
    steps = len(cells)
    if not steps or len(votes) != steps:
        raise ValueError(f"write_votes_gif needs a step and its votes, got {steps}, {len(votes)}")
    colours = np.array(class_colours(len(classes)), np.float32)
    picture = _picture(image)
    plane = middle(cells.ndim - 2, cells.shape[2:])
    order = np.sort(np.argsort(-votes[-1], kind="stable")[:MOST_BARS])
    chosen = np.unique(np.linspace(0, steps - 1, min(steps, MOST_FRAMES)).round().astype(int))
    frames = []
    for step in chosen:
        tinted = _tint(plane.of(cells[step]), colours)
        says = _enlarge(tinted, cells.ndim - 2, Image.Resampling.NEAREST)
        bars = [(classes[k], float(votes[step, k]), colours[k]) for k in order]
        frames.append(_frame(picture, says, bars, title, f"step {step} of {steps - 1}"))
    palette = _palette(picture, colours)
    return write_frames(frames, palette, path, pause=FRAME_MS, last=LAST_MS)


def plot_votes(
    image: NDArray[Any],
    cells: NDArray[Any],
    votes: NDArray[Any],
    classes: Sequence[str],
    path: Path,
    title: str = "",
    shown_steps: int = 5,
) -> Path:
    """Show the same as :func:`write_votes_gif` as one picture, with some of the steps side by side.

    Args:
        image: ``(C, *S)``.
        cells: ``(T, K, *cells)``, see :func:`write_votes_gif`.
        votes: ``(T, K)``.
        classes: names of the K classes.
        path: of the PNG.
        title: above the pictures.
        shown_steps: how many steps are shown, the first and last among them.

    Returns:
        ``path``.

    Raises:
        OutputError: if the file cannot be written.
    """
    steps = np.unique(np.linspace(0, len(cells) - 1, shown_steps).round().astype(int))
    colours = np.array(class_colours(len(classes)), np.float32)
    plane, dims = middle(cells.ndim - 2, cells.shape[2:]), cells.ndim - 2
    parts = [(_picture(image), "image")]
    for step in steps:
        tinted = _enlarge(_tint(plane.of(cells[step]), colours), dims, Image.Resampling.NEAREST)
        best = int(votes[step].argmax())
        parts.append((tinted, f"step {step}: {classes[best][:_LETTERS]} {votes[step, best]:.2f}"))
    small = [part.resize((part.width * 3 // 4, part.height * 3 // 4)) for part, _ in parts]
    width = max(part.width for part in small) + GAP
    height = max(part.height for part in small)
    sheet = Image.new("RGB", (GAP + width * len(small), HEAD + height + FOOT), DARK)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=13)
    draw.text((GAP, HEAD // 2), title[:90], fill=LIGHT, font=font, anchor="lm")
    for place, part in enumerate(small):
        sheet.paste(part, (GAP + place * width, HEAD))
        at = (GAP + place * width, HEAD + height + FOOT // 2)
        draw.text(at, parts[place][1], fill=LIGHT, font=font, anchor="lm")
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG", optimize=True)
    return store(buffer.getvalue(), path)


def _picture(image: NDArray[Any]) -> Image.Image:
    """The image, its pixels as squares where they are as large as that."""
    picture = shown(image)
    large = max(picture.shape[:2]) > SIDE // 4
    how = Image.Resampling.BICUBIC if large else Image.Resampling.NEAREST
    return _enlarge(255 * _rgb(picture), image.ndim - 1, how)


def _rgb(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    return picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2)


def _tint(shares: NDArray[Any], colours: NDArray[np.float32]) -> NDArray[np.float32]:
    """``(K, a, b)`` to colours ``(a, b, 3)``: black where a cell is for nothing."""
    strength = np.clip(shares.max(axis=0), 0, 1)[..., None].astype(np.float32)
    dark = np.array(DARK, np.float32)
    return np.asarray(dark + strength * (colours[shares.argmax(axis=0)] - dark), np.float32)


def _enlarge(values: NDArray[np.float32], dims: int, how: Image.Resampling) -> Image.Image:
    """``(a, b, 3)`` from 0 to 255 to a picture as large as there is room."""
    pixels = upright(values, dims)
    factor = min(SIDE / pixels.shape[0], SIDE / pixels.shape[1])
    size = max(round(pixels.shape[1] * factor), 1), max(round(pixels.shape[0] * factor), 1)
    return enlarge(pixels / 255, size, how)


def _frame(
    picture: Image.Image,
    says: Image.Image,
    bars: Sequence[tuple[str, float, NDArray[np.float32]]],
    title: str,
    caption: str,
) -> Image.Image:
    frame = Image.new("RGB", (4 * GAP + 2 * SIDE + BARS, HEAD + SIDE + FOOT), DARK)
    for place, part in enumerate((picture, says)):
        x = GAP + place * (SIDE + GAP) + (SIDE - part.width) // 2
        frame.paste(part, (x, HEAD + (SIDE - part.height) // 2))
    draw, font = ImageDraw.Draw(frame), ImageFont.load_default(size=13)
    draw.text((GAP, HEAD // 2), title[:90], fill=LIGHT, font=font, anchor="lm")
    draw.text((GAP, HEAD + SIDE + FOOT // 2), caption, fill=LIGHT, font=font, anchor="lm")
    left, height = 3 * GAP + 2 * SIDE, min(SIDE // len(bars), 26)
    room = max(draw.textlength(name[:_LETTERS], font=font) for name, _, _ in bars)
    start = left + room + 6
    for place, (name, share, colour) in enumerate(bars):
        y = HEAD + place * height
        draw.text((start - 6, y + height // 2), name[:_LETTERS], fill=LIGHT, font=font, anchor="rm")
        end = start + share * (left + BARS - GAP - start)
        draw.rectangle((start, y + 3, left + BARS - GAP, y + height - 4), fill=TRACK)
        shade = tuple(int(part) for part in colour)
        if end > start + 1:
            draw.rectangle((start, y + 3, end, y + height - 4), fill=shade)
    return frame


def _palette(picture: Image.Image, colours: NDArray[np.float32]) -> Image.Image:
    """One palette for all frames, or colours would flicker: shades of each class, and the image's.

    Left to what is frequent, classes would share colours.
    """
    dark = np.array(DARK, np.float32)
    shades = np.linspace(0, 1, min(max(SHADES // len(colours), 2), 12) + 1)[1:]
    ramps = [dark + shade * (colour - dark) for colour in colours for shade in shades]
    own = np.array(picture.quantize(PICTURE).getpalette()).reshape(-1, 3)[:PICTURE]
    listed = np.concatenate([[DARK, LIGHT, TRACK], own, ramps])[:256].round().astype(int)
    palette = Image.new("P", (1, 1))
    palette.putpalette(listed.ravel().tolist())
    return palette
