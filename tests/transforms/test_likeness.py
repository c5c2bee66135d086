"""An image against those of the training: what is brought to them, and what is only said."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from medseg_nca.config.plan import TrainingImages
from medseg_nca.transforms.grid import Grid
from medseg_nca.transforms.likeness import compare, training_images
from tests.transforms.volumes import affine, plan

# 1 x 1 x 4 to 6 mm, 100 x 120 x 60 to 110 x 130 x 80 mm.
TRAINING = TrainingImages(
    spacing=(1, 1, 5), finest=(1, 1, 4), coarsest=(1, 1, 6),
    smallest=(100, 120, 60), largest=(110, 130, 80), orientations=("RAS",),
)  # fmt: skip


def grid(
    spacing: tuple[float, ...], size: tuple[float, ...] = (100, 120, 60), codes: str = "RAS"
) -> Grid:
    shape = tuple(round(n / s) for n, s in zip(size, spacing, strict=True))
    return Grid(shape, tuple(map(tuple, affine(codes, spacing).tolist())))


def found(image: Grid, *, match: bool = True, **changes: Any) -> Any:
    return compare(image, plan(training=TRAINING, **changes), match=match)


@pytest.mark.parametrize("spacing", [(1, 1, 5), (1.2, 0.9, 4), (1, 1, 7), (0.84, 1.19, 3.4)])
def test_what_is_like_the_training_is_left(spacing: tuple[float, ...]) -> None:
    likeness = found(grid(spacing))
    assert likeness.plan.spacing is None
    assert likeness.target == pytest.approx(spacing)
    assert likeness.brought is None
    assert likeness.unlike == ()


@pytest.mark.parametrize(
    ("spacing", "target"),
    [((0.5, 0.5, 5), (1, 1, 5)), ((1, 1, 1), (1, 1, 4)), ((1.4, 1, 8), (1, 1, 6))],
)
def test_an_axis_that_is_not_is_brought_to_the_nearest_spacing_of_the_training(
    spacing: tuple[float, ...], target: tuple[float, ...]
) -> None:
    likeness = found(grid(spacing))
    assert likeness.plan.spacing == pytest.approx(target)
    assert likeness.unlike == ()
    assert "brought to" in likeness.brought
    left = found(grid(spacing), match=False)
    assert left.plan.spacing is None
    assert "is not brought to" in left.unlike[-1]


def test_a_planned_spacing_stays_the_target() -> None:
    likeness = found(grid((2, 2, 5)), spacing=(1, 1, 4))
    assert likeness.target == (1, 1, 4)
    assert likeness.plan.spacing == (1, 1, 4)
    assert "2 x 2 x 5 mm brought to 1 x 1 x 4 mm" in likeness.brought
    assert found(grid((1, 1, 5)), spacing=(1, 1, 4)).brought is None


def test_much_coarser_voxels_are_told() -> None:
    (text,) = found(grid((2, 2, 5))).unlike
    assert text.startswith("its voxels (2 x 2 x 5 mm) are more than 1.5 times as large")
    assert found(grid((0.2, 0.2, 1))).unlike == ()


@pytest.mark.parametrize("size", [(300, 300, 400), (100, 120, 10), (0.1, 0.12, 0.06)])
def test_another_size_is_told(size: tuple[float, ...]) -> None:
    """The head for a model of an organ, a slab, a header in metres."""
    spacing = (1, 1, 5) if min(size) > 1 else (0.001, 0.001, 0.005)
    assert any("images of the training show" in text for text in found(grid(spacing, size)).unlike)


def test_axes_that_are_not_turned_are_told() -> None:
    turned = grid((1, 5, 1), (100, 60, 120), "LSP")
    assert found(turned, orientation="RAS").unlike == ()
    (text,) = [t for t in found(grid((1, 1, 5), codes="LPS")).unlike if "axes" in t]
    assert text == "its axes point to LPS, not RAS"


def test_axes_are_compared_after_they_are_turned() -> None:
    """An image whose slices are sagittal: its second axis is the plan's third."""
    likeness = found(grid((0.5, 10, 1), (100, 60, 120), "RIA"), orientation="RAS")
    assert likeness.spacing == pytest.approx((0.5, 1, 10))
    assert likeness.target == pytest.approx((1, 1, 6))


def test_a_model_that_does_not_say_what_it_learned_from_is_unlike_nothing() -> None:
    likeness = compare(grid((9, 9, 9)), plan())
    assert likeness.brought is None
    assert likeness.unlike == ()


def test_2d_pictures() -> None:
    known = TrainingImages(
        spacing=(1, 1), finest=(1, 1), coarsest=(1, 1), smallest=(200, 200), largest=(256, 256),
        orientations=("RA",),
    )  # fmt: skip
    picture = Grid((1024, 1024), tuple(map(tuple, np.eye(4).tolist())))
    (text,) = compare(picture, plan(2, training=known)).unlike
    assert "it shows 1024 x 1024 mm" in text


def test_what_a_data_set_is_like() -> None:
    cases: dict[str, Any] = {
        "a": SimpleNamespace(shape=(10, 20, 30), spacing=(1, 2, 3), codes=("R", "A", "S")),
        "b": SimpleNamespace(shape=(40, 50, 60), spacing=(3, 1, 1), codes=("I", "R", "A")),
        "c": SimpleNamespace(shape=(10, 20, 30), spacing=(1, 2, 4), codes=("R", "A", "S")),
    }
    assert training_images(cases, "RAS") == TrainingImages(
        spacing=(1, 2, 3), finest=(1, 1, 3), coarsest=(1, 2, 4),
        smallest=(10, 40, 90), largest=(50, 60, 120), orientations=("IRA", "RAS"),
    )  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"finest": (2, 2, 2)},
        {"spacing": (1, 1)},
        {"smallest": (0, 0, 0)},
        {"largest": (1, 1, 1)},
        {"orientations": ("XYZ",)},
        {"coarsest": (1, 1, float("inf"))},
    ],
)
def test_nonsense_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TrainingImages.model_validate({**TRAINING.model_dump(), **change})


def test_a_plan_of_other_axes_is_refused() -> None:
    with pytest.raises(ValidationError, match="training"):
        plan(2, training=TRAINING)
