"""The automaton at work, as a GIF."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import to_rgb
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from medseg_nca.config import LabelTable
from medseg_nca.viz.canvas import VIVID, vivid
from medseg_nca.viz.gif import enlarge, palette_of, upright, write_frames
from medseg_nca.viz.slices import Cut, fullest_plane, to_picture

FloatArray = NDArray[np.float32]
HEIGHT, WIDTH = 260, 340  # most pixels of a picture, without its caption
CAPTION = 46
DIM, STRONG = 0.65, 0.9  # the image under the labels, and the colour of a label that is certain
GAP = 8
DARK, LIGHT, TRACK = (17, 20, 24), (235, 238, 242), (60, 67, 76)


def write_gif(
    image: NDArray[Any],
    probabilities: NDArray[Any],
    labels: LabelTable,
    path: Path,
    *,
    captions: Sequence[str] | None = None,
    fps: float = 12,
    max_frames: int = 90,
) -> Path:
    """Show how the probabilities of the labels grow, step by step, beside the image.

    A volume is shown in the slice that has most of the final segmentation.

    Args:
        image: ``(C, *S)``.
        probabilities: ``(T, K, *S)``, K channels in the order of the label table (exclusive labels:
            with the background first), one entry a step.
        labels: the table.
        path: of the GIF.
        captions: a text for each step; None counts them.
        fps: frames a second. The last frame stays for two seconds.
        max_frames: with more steps, evenly spread ones are shown, the first and last among them.

    Returns:
        ``path``.

    Raises:
        OutputError: if the file cannot be written.
        ValueError: if there is no step, or not one caption for each.
    """
    steps = len(probabilities)
    if not steps or (captions is not None and len(captions) != steps):
        raise ValueError(f"write_gif needs one step at least and a caption for each, got {steps}")
    first = 0 if labels.multi_label else 1
    foreground = probabilities[:, first:]
    last = foreground[-1]
    found = last.max(axis=0) > 0.5
    plane = fullest_plane(found if found.any() else last.max(axis=0) >= np.quantile(last, 0.99))
    picture = to_picture(image, plane)
    shown = np.unique(np.linspace(0, steps - 1, min(steps, max_frames)).round().astype(int))
    frames = [
        _frame(
            picture, plane.of(foreground[step]), plane, labels.names,
            captions[step] if captions else f"step {step + 1} of {steps}", (step + 1) / steps,
        )
        for step in shown
    ]  # fmt: skip
    return _write(frames, path, fps)


def _write(frames: list[Image.Image], path: Path, fps: float) -> Path:
    some = [frames[place] for place in sorted({0, len(frames) // 2, len(frames) - 1})]
    # The labels' own colours come first, then frequent ones.
    palette = palette_of(some, [*(_rgb(name) for name in VIVID), DARK, LIGHT, TRACK])
    return write_frames(frames, palette, path, pause=round(1000 / fps), last=2000)


def _rgb(name: str) -> tuple[int, int, int]:
    red, green, blue = (round(255 * part) for part in to_rgb(name))
    return red, green, blue


def _frame(
    picture: FloatArray,
    probabilities: NDArray[Any],
    plane: Cut,
    names: Sequence[str],
    caption: str,
    done: float,
) -> Image.Image:
    grey = picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2)
    left = _enlarge(grey, plane, Image.Resampling.BICUBIC)
    right = _enlarge(_tint(grey, probabilities), plane, Image.Resampling.NEAREST)
    # Room for the caption below narrow pictures.
    width, height = max(2 * left.width + GAP, 360), left.height
    frame = Image.new("RGB", (width, height + CAPTION), DARK)
    frame.paste(left, ((width - GAP) // 2 - left.width, 0))
    frame.paste(right, ((width + GAP) // 2, 0))
    legend = [(name, _rgb(vivid(number))) for number, name in enumerate(names)]
    write_caption(ImageDraw.Draw(frame), (width, height), legend, caption, done)
    return frame


def _tint(grey: FloatArray, probabilities: NDArray[Any]) -> FloatArray:
    """Mix each label's colour into the picture, as strongly as the label is probable."""
    mixed = grey * DIM
    for number, chance in enumerate(np.clip(probabilities, 0, 1)):
        weight = STRONG * np.asarray(chance, dtype=np.float32)[..., None]
        mixed = mixed * (1 - weight) + np.array(to_rgb(vivid(number)), dtype=np.float32) * weight
    return np.asarray(mixed, dtype=np.float32)


def _enlarge(values: FloatArray, plane: Cut, how: Image.Resampling) -> Image.Image:
    """``(a, b, 3)`` as large as there is room."""
    pixels = upright(values, plane.dims)
    factor = min(HEIGHT / pixels.shape[0], WIDTH / pixels.shape[1])
    return enlarge(pixels, (max(round(pixels.shape[1] * factor), 1),
                            max(round(pixels.shape[0] * factor), 1)), how)  # fmt: skip


def write_caption(
    draw: ImageDraw.ImageDraw,
    size: tuple[int, int],
    legend: Sequence[tuple[str, tuple[int, int, int]]],
    caption: str,
    done: float,
) -> None:
    """Write a bar of progress, a caption and the legend below a picture.

    Args:
        draw: of the frame.
        size: width and height of the picture, without the caption.
        legend: names with their colours; those for which there is no room are left out.
        caption: the text at the left.
        done: share of the film that is over.
    """
    width, height = size
    font = ImageFont.load_default(size=14)
    draw.rectangle((0, height, width, height + 3), fill=TRACK)
    draw.rectangle((0, height, round(width * done), height + 3), fill=LIGHT)
    middle = height + CAPTION // 2 + 2
    draw.text((10, middle), caption, fill=LIGHT, font=font, anchor="lm")
    x = float(width - 10)
    room = 30 + draw.textlength(caption, font=font)
    for name, shade in reversed(legend):
        length = draw.textlength(name, font=font)
        if x - length - 18 < room:
            break
        draw.text((x, middle), name, fill=LIGHT, font=font, anchor="rm")
        x -= length + 16
        draw.rectangle((x, middle - 5, x + 10, middle + 5), fill=shade)
        x -= 14
