"""Pictures and animations of growth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medseg_nca.viz.growth import growth_gif, growth_strip, over_white, plot_losses, rgba_png


def frame(alpha: float = 1.0) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """A red cell at column 1, row 2 of 3 x 4."""
    array = np.zeros((4, 3, 4), np.float32)
    array[:, 1, 2] = (alpha, 0, 0, alpha)
    return array


def test_what_is_transparent_is_white() -> None:
    """Half of red on white is (255, 128, 128)."""
    shown = over_white(frame(0.5))
    assert shown.shape == (4, 3, 3)
    assert shown[2, 1].tolist() == [255, 128, 128]
    assert (np.delete(shown.reshape(12, 3), 7, 0) == 255).all()


def test_the_middle_slice_of_a_volume_is_shown_in_grey() -> None:
    volume = np.zeros((2, 2, 2, 3), np.float32)
    volume[:, 0, 1, 1] = (0.2, 1)
    assert over_white(volume)[1, 0].tolist() == [51, 51, 51]


def test_a_picture_holds_colours_that_are_not_multiplied_by_alpha(tmp_path: Path) -> None:
    with Image.open(rgba_png(frame(0.5), tmp_path / "cell.png")) as picture:
        assert picture.getpixel((1, 2)) == (255, 0, 0, 128)
        assert picture.getpixel((0, 0)) == (0, 0, 0, 0)


def test_an_animation_has_every_frame_and_keeps_its_colours(tmp_path: Path) -> None:
    frames = [frame(alpha) for alpha in (0.1, 0.5, 1.0)]
    path = growth_gif(frames, ["a", "b", "c"], tmp_path / "film.gif", scale=9)
    with Image.open(path) as film:
        assert getattr(film, "n_frames", 1) == 3
        assert film.info["duration"] in (60, 70), "GIF counts hundredths"
        film.seek(2)
        red, green, blue = film.convert("RGB").getpixel((48, 22))  # type: ignore[misc]
    assert red > 240
    assert max(green, blue) < 15


def test_a_strip_has_all_pictures_side_by_side(tmp_path: Path) -> None:
    path = growth_strip([frame()] * 3, ["one", "two", "three"], tmp_path / "strip.png")
    with Image.open(path) as picture:
        assert picture.width >= 3 * 96
    with pytest.raises(ValueError, match="zip"):
        growth_strip([frame()], [], tmp_path / "wrong.png")


def test_losses_are_drawn_also_where_they_are_zero(tmp_path: Path) -> None:
    path = plot_losses({"a": [1.0, 0.0]}, tmp_path / "curve.png", title="x", mark=0.1, marked="m")
    assert path.read_bytes().startswith(b"\x89PNG")
