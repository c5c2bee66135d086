"""The intensities of an image against those of the training: measured, compared, told."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from medseg_nca.config import PreprocessPlan
from medseg_nca.config.plan import TrainingImages, TrainingIntensities
from medseg_nca.errors import ConfigError
from medseg_nca.transforms.intensity_likeness import (
    compare_intensities,
    join_intensities,
    range_unlike,
    training_intensities,
    with_intensities,
)
from medseg_nca.transforms.intensity_measures import measure_intensities
from tests.transforms.volumes import plan

# Whole numbers; a dark border, and half of it in the lowest third of its range.
MR: dict[str, Any] = {
    "low": (0, 10), "median": (60, 100), "high": (300, 400), "place": (0.2, 0.3),
    "border": (0, 0.1), "floor": (0, 0.05), "rough": (0.02, 0.1), "grades": 100, "whole": True,
}  # fmt: skip
CT: dict[str, Any] = {
    **MR, "low": (-1024, -1000), "median": (-900, -100), "high": (200, 1000), "place": (0.05, 0.6),
    "floor": (0, 0.4),
}  # fmt: skip


def model_of(*channels: dict[str, Any], dims: int = 2, **changes: Any) -> PreprocessPlan:
    one = (1.0,) * dims
    known = TrainingImages(
        spacing=one, finest=one, coarsest=one, smallest=one, largest=one,
        intensities=tuple(TrainingIntensities(**channel) for channel in channels),
    )  # fmt: skip
    names = tuple(f"c{n}" for n in range(len(channels)))
    defaults = {"normalise": "zscore", "channels": names, "training": known}
    return plan(dims, **{**defaults, **changes})


def body(low: float, high: float, size: int = 64) -> np.ndarray:
    """Whole numbers: a smooth bright disc on a dark ground, ``(1, size, size)``."""
    x, y = np.meshgrid(*[np.linspace(-1, 1, size)] * 2, indexing="ij")
    disc = np.clip(1.1 - np.hypot(x, y), 0, 1)
    return np.rint(low + (high - low) * disc / disc.max())[None]


def test_an_image_is_measured() -> None:
    """A ramp down the rows: row k of 101 has the value k."""
    ramp = np.repeat(np.arange(101.0)[:, None], 11, axis=1)[None]
    (found,) = measure_intensities(ramp)
    assert (found.low, found.median, found.high) == (1, 50, 99)
    assert (found.place, found.border) == (0.5, 0.5)
    assert found.floor == pytest.approx(11 / 1111)
    assert (found.grades, found.whole) == (101, True)
    assert found.rough == 0  # along the columns nothing changes
    assert not measure_intensities(ramp / 2)[0].whole


def test_noise_is_rough_and_a_chessboard_rougher() -> None:
    noise = np.random.default_rng(0).normal(size=(1, 40, 30, 20))
    assert measure_intensities(noise)[0].rough == pytest.approx(1, abs=0.05)
    board = (np.indices((20, 20)).sum(0) % 2)[None]
    assert measure_intensities(board)[0].rough == pytest.approx(2, abs=0.02)
    assert measure_intensities(board)[0].grades == 2


def test_a_large_image_is_measured_by_a_part_of_it() -> None:
    ramp = np.broadcast_to(np.arange(400.0)[:, None, None], (400, 300, 200))[None]
    (found,) = measure_intensities(ramp)
    assert found.place == pytest.approx(0.5, abs=0.02)
    assert found.high == pytest.approx(395, abs=15)


def test_the_edges_of_a_volume_are_its_border() -> None:
    """The first and the last slice show what is inside, all round them there is air."""
    image = np.zeros((1, 20, 20, 6))
    image[:, 3:-3, 3:-3] = 1
    assert measure_intensities(image)[0].border == 0
    assert measure_intensities(1 - image)[0].border == 1


def test_padding_does_not_count_where_a_plan_crops_it() -> None:
    image = np.zeros((1, 90, 90))
    image[:, 20:60, 30:70] = body(10, 300, 40)
    (inside,) = measure_intensities(image, nonzero=True)
    assert inside == measure_intensities(body(10, 300, 40))[0]
    known = training_intensities([[inside]])
    assert known is not None
    (one,) = known
    assert compare_intensities(image, model_of(one.model_dump(), crop="nonzero")) == ()
    assert compare_intensities(image, model_of(one.model_dump()))


def test_an_image_without_a_number_has_no_intensities() -> None:
    (found,) = measure_intensities(np.full((1, 4, 4), np.nan))
    assert (found.low, found.high, found.grades) == (0, 0, 1)


def test_the_training_is_a_range_over_its_images() -> None:
    first, second = (measure_intensities(body(0, high)) for high in (300, 400))
    (known,) = training_intensities([first, second]) or ()
    assert known.high == (first[0].high, second[0].high)
    assert known.grades == min(first[0].grades, second[0].grades)
    assert known.whole
    assert training_intensities([]) is None
    assert training_intensities([first, ()]) is None
    assert training_intensities([first], grey=True) == training_intensities([first])


def test_a_plan_of_an_older_version_is_given_its_intensities() -> None:
    older = model_of(MR).changed(training=model_of(MR).training.changed(intensities=None))  # type: ignore[union-attr]
    images = [body(0, high) for high in (300, 400)]
    newer = with_intensities(older, images)
    assert newer.training is not None
    assert newer.training.intensities == training_intensities(map(measure_intensities, images))
    assert compare_intensities(body(0, 999), newer) == ()
    assert compare_intensities(-body(0, 300), newer)
    with pytest.raises(ValueError, match="says nothing of its training images"):
        with_intensities(plan(2), images)


def test_members_of_an_ensemble_learned_from_all_their_images() -> None:
    one, two = TrainingIntensities(**MR), TrainingIntensities(**{**MR, "low": (-5, 3), "grades": 9})
    (both,) = join_intensities([(one,), (two,)]) or ()
    assert (both.low, both.high, both.grades) == ((-5, 10), (300, 400), 9)
    assert join_intensities([(one,), None]) is None


def test_an_image_like_the_training_is_told_nothing() -> None:
    assert compare_intensities(body(0, 350), model_of(MR)) == ()
    assert compare_intensities(body(-1024, 800), model_of(CT, normalise="ct", modality="CT")) == ()
    assert compare_intensities(body(0, 350), plan(2)) == ()


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (body(0, 1824), "run from 0 to 18.*, those of the training from -1024 to 1000 HU .is the"),
        (body(0, 1000) / 1000, "run only from 0 to 0.9.* it has fractions, they have whole"),
        (body(0, 255), "run from 0 to 2.* HU .is the image rescaled or shifted"),
        (body(-1024, -950), "run only from -1024 to -9"),
        (body(-1024, 800) * 10, "run from -10240 to"),
    ],
)
def test_a_ct_in_other_numbers_is_told(image: np.ndarray, words: str) -> None:
    (text,) = compare_intensities(image, model_of(CT, normalise="ct", modality="CT"))
    assert re.search(words, text), text


def test_air_beyond_the_scanner_and_metal_are_usual_in_ct() -> None:
    """Some scanners write -3024 outside their circle; an implant has 3000 HU and more."""
    image = body(-1024, 900)
    image[:, :, :2], image[:, 30:36, 30:36] = -3024, 3071
    assert compare_intensities(image, model_of(CT, normalise="ct", modality="CT")) == ()


def test_the_median_of_an_image_is_compared_where_its_ends_are_like_the_training() -> None:
    image = np.where(np.arange(6400).reshape(1, 80, 80) % 100 < 3, -1024.0, 600)
    (text,) = compare_intensities(image, model_of({**CT, "grades": 2}, normalise="none"))
    assert text.startswith("the median of its intensities is 600, that of an image of the training")


DISC = body(0, 350)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (350 - DISC, "its border has 100 % of its range of intensities, the border of images of"),
        (350 - DISC, "half of it is darker than"),
        (DISC > 100, "it has only 2 different intensities, every image of the training at least"),
        (np.round(DISC / 120), "it has only 4 different intensities"),
        (np.full((1, 9, 9), 7), "it has only one intensity"),
        (np.random.default_rng(0).normal(size=(1, 64, 64)), "anything but noise in the image"),
        (np.where(DISC > 200, DISC, 0), "of it has exactly its lowest intensity, 0 % to 5 % of an"),
    ],
)
def test_what_is_unlike_on_any_scale_is_told(image: np.ndarray, words: str) -> None:
    found = compare_intensities(image, model_of(MR))
    assert any(words in text for text in found), found


def test_an_image_with_a_few_odd_voxels_is_empty() -> None:
    image = np.full((1, 100, 100), 5.0)
    image[0, 3, :40] = np.arange(40)
    (text,) = compare_intensities(image, model_of(MR))
    assert text.startswith("nearly all of it has one intensity")
    sparse = {**MR, "floor": (0.9, 0.99)}
    assert compare_intensities(image, model_of(sparse)) == ()


@given(
    power=st.integers(-12, 12),
    offset=st.integers(-(10**6), 10**6),
    kind=st.sampled_from(["body", "inverted", "noise", "flat"]),
)
def test_neither_a_factor_nor_an_offset_changes_what_is_found_of_an_mr(
    power: int, offset: int, kind: str
) -> None:
    """Powers of two and whole numbers: what float64 computes of them is exact."""
    image = {
        "body": DISC, "inverted": -DISC, "flat": np.where(DISC > 349, DISC, 0),
        "noise": np.random.default_rng(1).integers(0, 999, (1, 40, 40)),
    }[kind]  # fmt: skip
    model = model_of(MR)
    found = compare_intensities(image.astype(float), model)
    assert compare_intensities(image * 2.0**power + offset, model) == found
    assert (found == ()) == (kind == "body")


def test_the_channel_is_named() -> None:
    image = np.concatenate([DISC, -DISC])
    found = compare_intensities(image, model_of(MR, MR))
    assert found
    assert all(text.startswith("channel c1: its ") or "channel c1: half" in text for text in found)
    assert compare_intensities(DISC, model_of(MR, MR)) == ()  # the preparation refuses it


def test_a_grey_model_compares_the_green_of_a_coloured_picture() -> None:
    model = model_of(MR, channels=("red", "green", "blue"), colour="grey")
    assert compare_intensities(DISC, model) == ()
    assert compare_intensities(np.concatenate([-DISC, DISC, -DISC]), model) == ()
    assert compare_intensities(np.concatenate([DISC, -DISC, DISC]), model)


def test_odd_numbers_raise_nothing() -> None:
    for image in (DISC * 1e305, np.full((1, 8, 8), np.nan), DISC.astype(bool), DISC[:, :1, :1]):
        for normalise in ("zscore", "none"):
            compare_intensities(image, model_of(MR, normalise=normalise))


def test_a_range_that_is_no_range_is_compared_with_nothing() -> None:
    assert range_unlike((0, 1), (5, 5), (5, 5)) is None
    assert range_unlike((0, 10), (0, 0), (10, 10)) is None


@pytest.mark.parametrize(
    "change",
    [
        {"low": (5, 1)}, {"low": (float("nan"), 1)}, {"high": (0, float("inf"))},
        {"high": (0, 1e31)}, {"place": (0, 1.1)}, {"border": (-0.1, 1)}, {"floor": (0.5,)},
        {"rough": (0, 3)}, {"grades": 0}, {"grades": 10**9}, {"whole": "perhaps"}, {"other": 1},
    ],
)  # fmt: skip
def test_nonsense_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TrainingIntensities.model_validate({**MR, **change})


def test_a_plan_has_intensities_of_each_channel_that_its_model_sees() -> None:
    with pytest.raises(ValidationError, match="must be of 2 channels, got 1"):
        model_of(MR, channels=("a", "b"))
    with pytest.raises(ConfigError, match="must be of 3 channels, got 1"):
        model_of(MR, channels=("a", "b", "c"), colour="grey").changed(colour="keep")


def test_they_come_back_from_json_and_are_left_out_where_they_are_not_known() -> None:
    model = model_of(MR)
    assert PreprocessPlan.model_validate_json(model.model_dump_json()) == model
    assert model.training is not None
    older = model.training.changed(intensities=None)
    assert "intensities" not in json.loads(older.model_dump_json())
    assert TrainingImages.model_validate_json(older.model_dump_json()) == older
