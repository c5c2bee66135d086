"""The plan from the fingerprint, with numbers worked by hand."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg_nca.config.data import PreprocessSettings
from medseg_nca.errors import ConfigError
from medseg_nca.io.volume import Volume
from medseg_nca.transforms.fingerprint import (
    CaseFingerprint,
    ChannelFingerprint,
    foreground_statistics,
    measure,
    summarise,
)
from medseg_nca.transforms.grid import turned_place
from medseg_nca.transforms.planning import Demands, make_plan, pyramid, sample_size
from tests.transforms.volumes import affine, blobs


def case(shape: tuple[int, ...], spacing: tuple[float, ...], codes: str = "RAS") -> CaseFingerprint:
    channel = ChannelFingerprint(minimum=0, maximum=1, mean=0.5, sd=0.1)
    return CaseFingerprint(
        shape=shape, spacing=spacing, codes=tuple(codes[: len(shape)]), box=shape,
        channels=(channel,), labels={0: 1},
    )  # fmt: skip


def decide(*cases: CaseFingerprint, modality: str = "MRI", **changes: Any) -> Any:
    settings = PreprocessSettings(**changes)
    named = {f"case_{i}": c for i, c in enumerate(cases)}
    return make_plan(
        named, settings, ("image",), modality, lambda plan: Demands(plan.scales[0], lambda _: 0)
    )


@pytest.mark.parametrize(
    ("size", "spacing", "scales"),
    [
        ((64, 64, 64), (1, 1, 1), [(8, 8, 8), (4, 4, 4), (2, 2, 2), (1, 1, 1)]),
        # 36 / 8 would be 4.5 cells.
        ((36, 50, 35), (1, 1, 1), [(4, 4, 4), (2, 2, 2), (1, 1, 1)]),
        # Cells become cubes of 4 mm, then grow together.
        ((128, 128, 32), (1, 1, 4), [(16, 16, 4), (8, 8, 2), (4, 4, 1), (2, 2, 1), (1, 1, 1)]),
        # Ten slices are never halved; the plane is.
        ((200, 200, 10), (1, 1, 5), [(16, 16, 1), (8, 8, 1), (4, 4, 1), (2, 2, 1), (1, 1, 1)]),
        # Twelve slices would become three; the plane goes on, until its cells are 24 x 24 x 20 mm.
        (
            (256, 224, 12),
            (1.5, 1.5, 10),
            [(16, 16, 2), (8, 8, 2), (4, 4, 1), (2, 2, 1), (1, 1, 1)],
        ),
        # A signal has to cross the coarsest level: 16 cells at most, where there are five levels.
        ((288, 384), (1, 1), [(32, 32), (16, 16), (8, 8), (4, 4), (2, 2), (1, 1)]),
        (
            (512, 512, 120),
            (0.8, 0.8, 2.5),
            [(32, 32, 16), (16, 16, 8), (8, 8, 4), (4, 4, 2), (2, 2, 1), (1, 1, 1)],
        ),
        ((2000, 2000), (1, 1), [(2**k, 2**k) for k in range(7, -1, -1)]),
        ((36, 52, 36), (1, 1, 1), [(4, 4, 4), (2, 2, 2), (1, 1, 1)]),
        ((256, 256), (1, 1), [(16, 16), (8, 8), (4, 4), (2, 2), (1, 1)]),
        ((8, 8), (1, 1), [(1, 1)]),
        ((50, 50, 1), (1, 1, 1), [(8, 8, 1), (4, 4, 1), (2, 2, 1), (1, 1, 1)]),
    ],
)
def test_pyramid(size: Any, spacing: Any, scales: Any) -> None:
    assert list(pyramid(size, spacing)) == scales


@given(
    st.lists(st.integers(1, 600), min_size=2, max_size=3),
    st.lists(st.floats(0.1, 10), min_size=3, max_size=3),
)
def test_levels_nest_and_keep_enough_cells(size: list[int], spacing: list[float]) -> None:
    scales = pyramid(size, spacing[: len(size)])
    assert scales[-1] == (1,) * len(size)
    assert 1 <= len(scales) <= 8
    for coarse, fine in pairwise(scales):
        assert all(c in (f, 2 * f) for c, f in zip(coarse, fine, strict=True))
    assert all(s == 1 or n / s >= 6 for n, s in zip(size, scales[0], strict=True))


def test_the_median_decides() -> None:
    plan = decide(
        case((40, 50, 30), (1, 1, 2.0001)),
        case((42, 60, 32), (1, 1, 2)),
        case((60, 80, 33), (1, 1, 3)),
    )
    assert plan.spacing == (1, 1, 2)
    # Sizes at that spacing: 40 50 30, 42 60 32, 60 80 50 (33 x 3 / 2 rounded).
    assert plan.scales[0] == (4, 4, 2)
    assert plan.crop_size == (44, 60, 32)
    assert plan.normalise == "zscore"


def test_sizes_and_spacings_are_those_after_turning() -> None:
    plan = decide(case((30, 50, 40), (2, 1, 1), "SRP"))
    assert plan.spacing == (1, 1, 2)
    assert plan.crop_size == (52, 40, 30)
    stored = decide(case((30, 50, 40), (2, 1, 1), "SRP"), orientation=None, spacing="keep")
    assert stored.spacing is None
    assert stored.crop_size == (30, 52, 40)


def test_what_the_user_says_is_kept() -> None:
    plan = decide(case((40, 40, 40), (1, 1, 1)), spacing=(2, 2, 2), crop_size=(17, 18, 19))
    assert plan.spacing == (2, 2, 2)
    assert plan.crop_size == (17, 18, 19)


def test_no_sample_is_larger_than_the_bound() -> None:
    """1024 x 1024 x 700 is halved along its longest axes until 2 ** 27 voxels hold it."""
    plan = decide(case((1024, 1024, 700), (0.5, 0.5, 0.5)))
    assert plan.crop_size == (512, 512, 350 + 2)  # a multiple of the coarsest level, 16
    with pytest.raises(ConfigError, match=r"crop_size .* more than 134,217,728 voxels"):
        decide(case((40, 40, 40), (1, 1, 1)), crop_size=(1024, 512, 512))


def test_a_spacing_beyond_reason_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"spacing must be 3 numbers of mm from 0\.0001 to 10000"):
        decide(case((40, 40, 40), (1, 1, 1)), spacing=(1, 1, 1e5))


def test_a_setting_that_does_not_fit_is_refused() -> None:
    flat = case((40, 40), (1, 1))
    with pytest.raises(ConfigError, match=r"preprocess\.spacing: .* 2 positive numbers"):
        decide(flat, spacing=(1, 1, 1))
    with pytest.raises(ConfigError, match=r"preprocess\.crop_size: .* 2 positive numbers"):
        decide(flat, crop_size=(16, 0))
    with pytest.raises(ConfigError, match=r"preprocess\.orientation: 'RAL' is no orientation"):
        decide(flat, orientation="RAL")


def test_the_sample_is_cut_to_the_memory() -> None:
    demands = Demands((4, 4, 4), lambda size: float(np.prod(size)))
    assert sample_size((35, 50, 35), demands, 1e9) == (36, 52, 36)
    cut = sample_size((200, 100, 50), demands, 100_000)
    assert np.prod(cut) <= 100_000
    assert np.prod(cut) > 70_000
    assert all(n % 4 == 0 for n in cut)
    assert sample_size((200, 100, 50), demands, 1) == (4, 4, 4)


def test_ct_takes_the_statistics_of_the_foreground() -> None:
    rng = np.random.default_rng(0)
    cases, pool = {}, []
    for name, size in (("a", 30), ("b", 12)):
        array = rng.normal(100, 30, (1, size, 20, 20)).astype(np.float32)
        label = (rng.random(array.shape) < 0.3).astype(np.uint8)
        cases[name] = measure(Volume(array, np.eye(4)), Volume(label, np.eye(4)))
        pool.append(array[label > 0])
    inside = np.concatenate(pool)
    (statistics,) = foreground_statistics(cases) or ()
    assert statistics.mean == pytest.approx(inside.mean(), rel=1e-4)
    assert statistics.sd == pytest.approx(inside.std(), rel=1e-4)
    low, high = np.percentile(inside, (0.5, 99.5))
    assert (statistics.low, statistics.high) == pytest.approx((low, high), abs=1)
    plan = decide(*cases.values(), modality="CT")
    assert plan.normalise == "ct"
    assert plan.statistics == (statistics,)
    assert decide(*cases.values(), modality="CT", normalise="percentile").statistics is None
    with pytest.raises(ConfigError, match="no case has any"):
        decide(case((9, 9, 9), (1, 1, 1)), normalise="ct")


def test_what_is_measured() -> None:
    volume, label = blobs((10, 12, 8), affine("LPS", (1, 2, 3)))
    volume.array[0, :3] = 0
    found = measure(volume, label)
    assert found.codes == ("L", "P", "S")
    assert found.spacing == (1, 2, 3)
    assert found.box == (7, 12, 8)
    assert found.labels == {v: int((label.array == v).sum()) for v in (0, 1, 4)}
    assert found.channels[0].maximum == pytest.approx(float(volume.array.max()))
    tree = summarise({"a": found, "b": measure(volume, None)})
    assert tree["cases"] == 2
    assert tree["labelled"] == 1
    assert tree["labels"]["4"] == {"cases": 1, "median_mm3": 6.0 * (label.array == 4).sum()}
    assert tree["orientations"] == {"LPS": 2}


def bordered(share: float) -> CaseFingerprint:
    """A cube whose voxels that are not 0 fill a share of the first axis."""
    return case((20, 10, 10), (1, 1, 1)).model_copy(update={"box": (round(20 * share), 10, 10)})


@pytest.mark.parametrize(
    ("shares", "crop"),
    [([0.5] * 10, "nonzero"), ([0.75] * 10, "nonzero"), ([0.8] * 10, "none"),
     ([0.5] * 8 + [1.0] * 2, "nonzero"), ([0.5] * 7 + [1.0] * 3, "none"), ([1.0], "none")],
)  # fmt: skip
def test_borders_of_zeros_are_cut_off_where_most_images_have_them(
    shares: list[float], crop: str
) -> None:
    cases = [bordered(share) for share in shares]
    assert decide(*cases).crop == crop
    assert decide(*cases, crop="none").crop == "none"
    assert decide(*cases, crop="nonzero").crop == "nonzero"


def test_pictures_of_equal_colours_become_grey() -> None:
    one = ChannelFingerprint(minimum=0, maximum=255, mean=100, sd=20)
    other = one.model_copy(update={"mean": 101.0})
    grey = case((32, 32), (1, 1)).model_copy(update={"channels": (one,) * 3})
    coloured = case((32, 32), (1, 1)).model_copy(update={"channels": (one, one, other)})
    names = ("red", "green", "blue")

    def colour(*cases: CaseFingerprint, **changes: Any) -> str:
        named = {f"case_{i}": c for i, c in enumerate(cases)}
        demands = Demands((1, 1), lambda _: 0)
        settings = PreprocessSettings(**changes)
        return make_plan(named, settings, names, "unknown", lambda _: demands).colour

    assert colour(grey, grey) == "grey"
    assert colour(grey, coloured) == "keep"
    assert colour(grey, grey, colour="keep") == "keep"
    assert decide(case((32, 32), (1, 1))).colour == "keep"  # one channel is grey already


@pytest.mark.parametrize(
    ("codes", "orientation", "place"),
    [("RAS", "RAS", (0.1, 0.2, 0.3)), ("LAS", "RAS", (0.9, 0.2, 0.3)),
     ("PSR", "RAS", (0.3, 0.9, 0.2)), ("RA", "RAS", (0.1, 0.2)), ("RP", "RAS", (0.1, 0.8)),
     ("LAS", None, (0.1, 0.2, 0.3))],
)  # fmt: skip
def test_a_place_turns_with_its_image(
    codes: str, orientation: str | None, place: tuple[float, ...]
) -> None:
    known = (0.1, 0.2, 0.3)[: len(codes)]
    assert turned_place(known, codes, orientation) == pytest.approx(place)
