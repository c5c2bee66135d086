"""An axis is a mirror only if no label has a side there, in enough cases."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medseg_nca.config.loading import load_settings
from medseg_nca.datasets.prepared import PreparedCase
from medseg_nca.datasets.splits import make_split
from medseg_nca.pipelines import preprocess
from medseg_nca.recipe.symmetry import Side, mirror_axes
from medseg_nca.transforms.fingerprint import label_centres
from tests.recipe.stores import case

NAMES = ("left", "right")


def cases(
    place: Callable[[int, np.random.Generator], dict[str, tuple[float, ...]]], count: int = 20
) -> list[PreparedCase]:
    rng = np.random.default_rng(0)
    return [case(f"c{n:02}", place(n, rng), (32, 32)) for n in range(count)]


def test_the_centre_of_a_label_is_a_share_of_the_image() -> None:
    array = np.zeros((4, 10), np.int16)
    array[0, 0] = 7
    array[1:3, 4:8] = 2
    # Voxel 0 of 4 reaches from 0 to 1/4, its middle is 1/8; voxel 0 of 10 is at 1/20.
    assert label_centres(array) == {2: (0.5, 0.6), 7: (0.125, 0.05)}
    assert label_centres(np.zeros((3, 3, 3), np.uint8)) == {}


def test_labels_that_keep_their_order_have_sides() -> None:
    """Left and right of each other on the first axis, side by side on the second."""

    def place(_: int, rng: np.random.Generator) -> dict[str, tuple[float, ...]]:
        x, y = rng.normal(0.5, 0.05, 2)
        return {"left": (x - 0.2, y), "right": (x + 0.2, y)}

    found = mirror_axes(cases(place), NAMES, 2)
    assert found.axes == (1,)
    assert "axis 0 has sides: left to right -0.400" in found.reason
    assert "axis 1 is a mirror" in found.reason


def test_a_label_in_one_half_has_a_side() -> None:
    def place(_: int, rng: np.random.Generator) -> dict[str, tuple[float, ...]]:
        return {"left": (rng.normal(0.5, 0.1), rng.normal(0.3, 0.05))}

    assert mirror_axes(cases(place), NAMES, 2).axes == (0,)


def test_pictures_from_anywhere_are_mirrors_on_both_axes() -> None:
    def place(_: int, rng: np.random.Generator) -> dict[str, tuple[float, ...]]:
        return {"left": tuple(rng.uniform(0.2, 0.8, 2))}

    assert mirror_axes(cases(place), NAMES, 2).axes == (0, 1)


def test_what_lies_exactly_in_the_middle_has_no_side() -> None:
    """One voxel off the middle in each case is consistent, and means nothing."""

    def place(_: int, __: np.random.Generator) -> dict[str, tuple[float, ...]]:
        return {"left": (0.51, 0.5)}

    assert mirror_axes(cases(place), NAMES, 2).axes == (0, 1)


def test_without_enough_cases_nothing_is_flipped() -> None:
    def place(number: int, rng: np.random.Generator) -> dict[str, tuple[float, ...]]:
        common = {"left": tuple(rng.uniform(0.2, 0.8, 2))}
        return common | ({"right": (0.5, 0.5)} if number < 3 else {})

    few = mirror_axes(cases(place, 7), NAMES, 2)
    assert (few.axes, few.reason) == ((), "7 labelled training cases; 8 are needed to tell")
    rare = mirror_axes(cases(place), NAMES, 2)
    assert rare.axes == ()
    assert "the label 'right' is in 3 training cases" in rare.reason


def test_a_pair_that_is_seldom_together_counts_as_one_sided() -> None:
    def place(number: int, rng: np.random.Generator) -> dict[str, tuple[float, ...]]:
        here = {"left": (0.4, *rng.uniform(0.2, 0.8, 1))} if number < 12 else {}
        there = {"right": (0.6, *rng.uniform(0.2, 0.8, 1))} if number >= 9 else {}
        return here | there

    assert 0 not in mirror_axes(cases(place), NAMES, 2).axes


def test_a_store_of_an_older_version_says_what_to_do() -> None:
    old = [c.model_copy(update={"centres": {}}) for c in cases(lambda *_: {"left": (0.5, 0.5)})]
    assert "prepare it anew" in mirror_axes(old, NAMES, 2).reason


@pytest.mark.parametrize(
    ("mean", "sd", "mix", "one_sided"),
    [(0.1, 0.05, 0.02, True), (0.1, 0.2, 0.4, False), (0.1, 0.2, 0.1, True),
     (0.01, 0.001, 0.0, False)],
)  # fmt: skip
def test_one_sided(mean: float, sd: float, mix: float, one_sided: bool) -> None:
    assert Side("a to b", mean, sd, mix).one_sided is one_sided
    assert Side("a to b", -mean, sd, mix).one_sided is one_sided


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "mirrors", "sided"), [("heart_cine", (), (1, 2)), ("dsb2018_nuclei", (0, 1), ())]
)
def test_real_data(
    shared_data: Callable[[str], Path], tmp_path: Path,
    name: str, mirrors: tuple[int, ...], sided: tuple[int, ...],
) -> None:  # fmt: skip
    settings = load_settings(None)
    store = preprocess.run(
        preprocess.PreprocessRequest(shared_data(name), tmp_path / "prepared", settings, workers=0)
    )
    training = [store.case(i) for i in make_split(store, settings.data.split).train]
    axes = mirror_axes(training, store.labels.names, store.plan.dims).axes
    assert set(mirrors) <= set(axes)
    assert not set(sided) & set(axes)
