"""Pictures of votes and of classifications: what they show, and that they are whole files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medseg_nca.viz.classes import class_colours, plot_confusion, plot_gallery, plot_reliability
from medseg_nca.viz.votes import plot_votes, write_votes_gif


def votes_of(classes: int, dims: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Three steps; in the last every cell is for class 1."""
    size = (6, 5, 4)[:dims]
    cells = np.zeros((3, classes, *size), np.float32)
    cells[1, 0], cells[2, 1] = 0.5, 1.0
    votes = np.full((3, classes), 0.1)
    votes[2, 1] = 0.9
    return np.arange(np.prod(size), dtype=float).reshape(1, *size), cells, votes


@pytest.mark.parametrize(("classes", "dims"), [(2, 2), (10, 2), (60, 3)])
def test_each_cell_has_the_colour_of_its_class(tmp_path: Path, classes: int, dims: int) -> None:
    image, cells, votes = votes_of(classes, dims)
    names = [f"class {k}" for k in range(classes)]
    path = write_votes_gif(image, cells, votes, names, tmp_path / "v.gif", "title")
    with Image.open(path) as gif:
        assert gif.n_frames == 3
        gif.seek(2)
        seen = np.array(gif.convert("RGB").getpixel((10 + 220 + 10 + 110, 30 + 110)))
    assert np.abs(seen - class_colours(classes)[1]).max() <= 8
    with Image.open(plot_votes(image, cells, votes, names, tmp_path / "v.png")) as sheet:
        assert sheet.width > 500


def test_colours_of_many_classes_differ() -> None:
    for count in (2, 10, 20, 100):
        assert len(set(class_colours(count))) == count


def test_figures_are_written(tmp_path: Path) -> None:
    counts = np.eye(30, dtype=int).tolist()
    plot_confusion(counts, [f"$a_{k}" * 9 for k in range(30)], tmp_path / "c.png")
    rows = [{"low": 0.4, "high": 0.5, "n": 3, "probability": 0.45, "accuracy": 0.5}]
    plot_reliability(rows, None, tmp_path / "r.png")
    images = [
        np.random.default_rng(0).random((1, 5, 4)),
        np.zeros((3, 6, 6)),
        np.ones((1, 4, 5, 6)),
    ]
    plot_gallery(images, ["a", "$b", "c"], tmp_path / "g.png", "title")
    for name in "crg":
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert picture.width > 100
    with pytest.raises(ValueError, match="needs an image"):
        plot_gallery([], [], tmp_path / "n.png")
    with pytest.raises(ValueError, match="needs a step"):
        write_votes_gif(
            images[0], np.zeros((0, 2, 3, 3)), np.zeros((0, 2)), "ab", tmp_path / "v.gif"
        )
