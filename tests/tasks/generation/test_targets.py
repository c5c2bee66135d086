"""What is to be grown: the emblem, pictures, volumes, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medseg_nca.errors import ConfigError, ImageError
from medseg_nca.io.volume import Volume
from medseg_nca.io.write import write_volume
from medseg_nca.tasks.generation.emblem import draw_emblem
from medseg_nca.tasks.generation.options import GenerationOptions
from medseg_nca.tasks.generation.targets import load_targets
from tests.tasks.generation.growing import square, write_png


def targets(**options: Any) -> Any:
    return load_targets(GenerationOptions(**options))


@pytest.mark.parametrize("size", [8, 20, 33])
def test_the_emblem_fills_its_square_and_has_soft_edges(size: int) -> None:
    emblem = draw_emblem(size)
    alpha = emblem[3]
    assert emblem.shape == (4, size, size)
    assert emblem.min() >= 0
    assert (emblem[:3] <= alpha + 1e-6).all(), "colours are multiplied by alpha"
    assert ((alpha > 0.01) & (alpha < 0.99)).any(), "edges are soft"
    assert np.allclose(alpha, alpha[::-1], atol=1e-6), "the heart is symmetric"
    assert alpha.any(0).all() or alpha.any(1).all()
    assert 0.4 < alpha.mean() < 0.8


def test_the_emblem_looks_the_same_at_any_size() -> None:
    large = draw_emblem(32).reshape(4, 16, 2, 16, 2).mean((2, 4))
    assert np.allclose(draw_emblem(16), large, atol=0.1)


def test_a_picture_is_read_with_its_alpha_and_lies_in_the_middle(tmp_path: Path) -> None:
    picture = square(8)
    picture[2, 3] = (255, 255, 255, 128)  # row 2, column 3
    found = targets(target=str(write_png(tmp_path / "dot.v1.png", picture)), grid=[10, 12])
    assert (found.names, found.grid, found.visible) == (("dot",), (10, 12), 4)
    array = found.array[0]
    assert array[3].sum() == pytest.approx(15 + 128 / 255)
    assert array[:, 1 + 3, 2 + 2] == pytest.approx([128 / 255] * 4)
    assert array[:, 1 + 4, 2 + 4] == pytest.approx([200 / 255, 100 / 255, 50 / 255, 1])


def test_a_margin_of_an_eighth_is_left_where_no_grid_is_given() -> None:
    assert targets(size=16).grid == (20, 20)


def test_grey_with_alpha_becomes_colours(tmp_path: Path) -> None:
    grey = np.zeros((6, 6, 2))
    grey[2:4, 2:4] = (51, 255)
    found = targets(target=str(write_png(tmp_path / "grey.png", grey)))
    assert found.array[0][:, 3, 3] == pytest.approx([0.2, 0.2, 0.2, 1])


def test_a_volume_has_grey_and_alpha_and_keeps_its_place(tmp_path: Path) -> None:
    values = np.zeros((1, 4, 4, 6), np.float32)
    values[0, 1:3, 1:3, 1:5] = 2
    values[0, 1, 1, 1] = 4
    affine = np.diag([2.0, 1, 1, 1])
    affine[:3, 3] = 5
    path = tmp_path / "lump.nii.gz"
    write_volume(Volume(values, affine), path)
    found = targets(target=str(path), grid=[6, 6, 6])
    assert (found.names, found.visible) == (("lump",), 2)
    assert found.array[0][:, 2, 2, 1] == pytest.approx([1, 1])
    assert found.array[0][:, 3, 3, 3] == pytest.approx([0.25 + 0.75 / 2, 1])
    assert found.array[0][1].sum() == 16
    # Cell (1, 1, 0) of the grid is the first voxel, which lies at (5, 5, 5).
    assert found.affine @ [1, 1, 0, 1] == pytest.approx([5, 5, 5, 1])


def test_targets_that_cannot_be_grown_are_refused_by_name(tmp_path: Path) -> None:
    plain = write_png(tmp_path / "plain.png", np.full((6, 6, 3), 9))
    empty = write_png(tmp_path / "empty.png", np.zeros((6, 6, 4)))
    good = write_png(tmp_path / "good.png", square(8))
    other = write_png(tmp_path / "other.png", square(12))
    same = write_png(tmp_path / "again" / "good.png", square(8))
    flat = tmp_path / "flat.nii.gz"
    write_volume(Volume(np.ones((1, 4, 4, 4), np.float32), np.eye(4)), flat)
    for options, error, word in (
        ({"target": str(plain)}, ImageError, "no alpha channel"),
        ({"target": str(empty)}, ImageError, "is empty"),
        ({"target": str(flat)}, ImageError, "is empty"),
        ({"target": str(good), "grid": 7}, ImageError, "8 x 8 cells and does not fit"),
        ({"target": str(tmp_path / "no.png")}, ImageError, "no such target"),
        ({"targets": [str(good), str(other)]}, ConfigError, "12 x 12"),
        ({"targets": [str(good), str(same)]}, ConfigError, "same name"),
        ({"grid": [40, 40, 40]}, ConfigError, "3 axes, the target 2"),
        ({"grid": 1000}, ConfigError, "1,000,000 cells"),
        ({"seeds": [[0.5, 0.5, 0.5]]}, ConfigError, "3 numbers"),
    ):
        with pytest.raises(error, match=word):
            targets(**options)


def test_pictures_and_volumes_are_not_mixed(tmp_path: Path) -> None:
    path = tmp_path / "lump.nii.gz"
    values = np.zeros((1, 4, 4, 4), np.float32)
    values[0, 1, 1, 1] = 1
    write_volume(Volume(values, np.eye(4)), path)
    with pytest.raises(ConfigError, match="channels to be seen"):
        targets(targets=[str(path), "emblem"])


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"target": "a.png", "targets": ["b.png"]}, "not both"),
        ({"targets": ["a.png", "a.png"]}, "once"),
        ({"pol": 3}, "pol"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        GenerationOptions(**options)
