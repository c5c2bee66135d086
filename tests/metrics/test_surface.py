"""Surface distances against numbers worked by hand."""

from __future__ import annotations

import math
import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from monai.metrics import (
    compute_average_surface_distance,
    compute_hausdorff_distance,
    compute_surface_dice,
)

from medseg_nca.metrics.segmentation import mask_metrics
from medseg_nca.metrics.surface import (
    element_distances,
    surface_distances,
    surface_elements,
    surface_voxels,
)


def box(shape: tuple[int, ...], *spans: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(low, high) for low, high in spans)] = True
    return mask


def measure(prediction: np.ndarray, truth: np.ndarray, spacing: Any, tolerance: float = 1.0) -> Any:
    names = ("hd", "hd95", "assd", "nsd")
    return SimpleNamespace(**mask_metrics(prediction, truth, spacing, tolerance, names))


@pytest.mark.parametrize(
    ("spacing", "distance"), [((1, 1, 1), 3.0), ((2, 1, 1), 6.0), ((0.5, 9, 9), 1.5)]
)
def test_two_voxels_three_apart(spacing: tuple[float, ...], distance: float) -> None:
    first, second = box((9, 5, 5), (1, 2), (2, 3), (2, 3)), box((9, 5, 5), (4, 5), (2, 3), (2, 3))
    result = measure(first, second, spacing)
    assert result.hd == pytest.approx(distance)
    assert result.hd95 == pytest.approx(distance)
    assert result.assd == pytest.approx(distance)


def test_diagonal_uses_every_axis() -> None:
    first, second = box((9, 9, 9), (1, 2), (1, 2), (1, 2)), box((9, 9, 9), (4, 5), (3, 4), (2, 3))
    # 3 voxels of 1 mm, 2 of 2 mm, 1 of 12 mm: sqrt(9 + 16 + 144) = 13.
    assert measure(first, second, (1, 2, 12)).hd == pytest.approx(13.0)


def test_square_in_a_square() -> None:
    """3x3 in 5x5: 8 inner surface pixels, all 1 mm off; of the outer 16, 12 are 1 and 4 sqrt 2."""
    inner, outer = box((9, 9), (3, 6), (3, 6)), box((9, 9), (2, 7), (2, 7))
    result = measure(inner, outer, (1.0, 1.0))
    assert result.hd == pytest.approx(math.sqrt(2))
    assert result.assd == pytest.approx((8 + 12 + 4 * math.sqrt(2)) / 24)
    # Outer to inner, sorted: 12 ones, then 4 roots. The 95th percentile is at 0.95 * 15 = 14.25.
    assert result.hd95 == pytest.approx(math.sqrt(2))


def test_hd95_interpolates_in_each_direction_and_takes_the_larger() -> None:
    """A line of 21 pixels against its first 11: distances 11 zeros, then 1 ... 10."""
    short, long = box((25, 3), (2, 13), (1, 2)), box((25, 3), (2, 23), (1, 2))
    result = measure(short, long, (1.0, 1.0))
    assert result.hd == pytest.approx(10.0)
    # Position 0.95 * 20 = 19 of 21 sorted distances: the 20th, which is 9.
    assert result.hd95 == pytest.approx(9.0)
    assert result.assd == pytest.approx(55 / 32)
    longer = measure(short, box((25, 3), (2, 22), (1, 2)), (1.0, 1.0))
    # 20 distances: 11 zeros, 1 ... 9. Position 18.05: between the 19th (8) and the 20th (9).
    assert longer.hd95 == pytest.approx(8.05)


def test_square_shifted_by_a_pixel() -> None:
    """Contour of a 4x4 square: 12 elements of 1 mm and 4 cut corners of sqrt(1/2).

    Shifted by one along x, both contours share 3 elements and one corner on the upper edge, and as
    much on the lower: half of the length. All the rest is 1 mm off.
    """
    truth, prediction = box((9, 9), (2, 6), (2, 6)), box((9, 9), (3, 7), (2, 6))
    assert measure(prediction, truth, (1.0, 1.0), 0.5).nsd == pytest.approx(0.5)
    assert measure(prediction, truth, (1.0, 1.0), 0.999).nsd == pytest.approx(0.5)
    assert measure(prediction, truth, (1.0, 1.0), 1.0).nsd == 1.0


def test_nsd_weighs_by_length_on_anisotropic_pixels() -> None:
    """Pixels of 1 x 5 mm, shifted along x: what is off are the long edges.

    The edges along x have 3 elements of 1 mm each, those along y 3 of 5 mm; a cut corner has
    sqrt(0.5^2 + 2.5^2) mm. A count of elements would give one half.
    """
    truth, prediction = box((9, 9), (2, 6), (2, 6)), box((9, 9), (3, 7), (2, 6))
    corner = math.hypot(0.5, 2.5)
    expected = (2 * 3 * 1 + 2 * corner) / (2 * 3 * 1 + 2 * 3 * 5 + 4 * corner)
    assert measure(prediction, truth, (1.0, 5.0), 0.5).nsd == pytest.approx(expected)


def test_tolerance_survives_single_precision() -> None:
    """Three voxels of 0.1 mm are 0.3 mm, though 3 * 0.1 > 0.3 in floating point."""
    first, second = box((9, 3, 3), (1, 2), (1, 2), (1, 2)), box((9, 3, 3), (4, 5), (1, 2), (1, 2))
    spacing = tuple(float(np.float32(0.1)) for _ in range(3))
    assert measure(first, second, spacing, 0.3).nsd == 1.0
    # The facing elements of the two voxels are 0.2 mm apart, the others 0.3 mm.
    assert measure(first, second, spacing, 0.2).nsd == pytest.approx(0.5)
    assert measure(first, second, spacing, 0.19).nsd == 0.0


def test_surface_of_a_block() -> None:
    """3x3x3: all but the centre. A voxel at the image's border is on the surface."""
    assert surface_voxels(np.ones((3, 3, 3), dtype=bool)).sum() == 26
    assert surface_voxels(box((7, 7, 7), (2, 5), (2, 5), (2, 5))).sum() == 26


@pytest.mark.parametrize(
    ("code", "spacing", "area"),
    [
        # One corner of a cell: a triangle between three mid-edges, here (1/2, 1, 3/2) mm away:
        # half of |(1, 0, 0) x ...| = sqrt(1.5^2 + 0.75^2 + 0.5^2) / 2.
        (((0, 0, 0),), (1, 2, 3), math.sqrt(1.5**2 + 0.75**2 + 0.5**2) / 2),
        # Half of a cell: a plane across it.
        (((0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 1)), (1, 2, 3), 6.0),
        (((0, 0, 0), (0, 0, 1), (1, 0, 0), (1, 0, 1)), (1, 2, 3), 3.0),
        (((0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 1, 0)), (1, 2, 3), 2.0),
        (((0, 0),), (3, 4), 2.5),
        (((0, 0), (0, 1)), (3, 4), 4.0),
        (((0, 0), (1, 0)), (3, 4), 3.0),
    ],
)
def test_area_of_one_element(
    code: tuple[tuple[int, ...], ...], spacing: tuple[float, ...], area: float
) -> None:
    mask = np.zeros((2,) * len(spacing), dtype=bool)
    for index in code:
        mask[index] = True
    elements, areas = surface_elements(mask, spacing)
    assert elements.all()
    assert areas.item() == pytest.approx(area, rel=1e-6)


@pytest.mark.parametrize("distances", [surface_distances, element_distances])
def test_empty_mask_is_refused(distances: Any) -> None:
    with pytest.raises(ValueError, match="not empty"):
        distances(box((4, 4), (1, 2), (1, 2)), np.zeros((4, 4), dtype=bool), (1, 1))


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.5, 2.0, 3.0)])
def test_agrees_with_monai(spacing: tuple[float, ...]) -> None:
    rng = np.random.default_rng(4)
    prediction, truth = (rng.random((9, 8, 7)) < 0.3 for _ in range(2))
    ours = measure(prediction, truth, spacing, 0.7)
    pair = [torch.from_numpy(mask)[None, None].float() for mask in (prediction, truth)]
    options: dict[str, Any] = {"include_background": True, "spacing": spacing}
    with warnings.catch_warnings():  # MONAI 1.6 calls itself with an argument it deprecates
        warnings.simplefilter("ignore")
        hd = compute_hausdorff_distance(*pair, **options)
        hd95 = compute_hausdorff_distance(*pair, percentile=95, **options)
        assd = compute_average_surface_distance(*pair, symmetric=True, **options)
        nsd = compute_surface_dice(*pair, [0.7], use_subvoxels=True, **options)
    assert [ours.hd, ours.hd95, ours.assd, ours.nsd] == pytest.approx(
        [float(v) for v in (hd, hd95, assd, nsd)], rel=1e-5
    )


masks = arrays(bool, (5, 4, 6)).filter(np.any)
spacings = st.tuples(*[st.floats(0.3, 4.0)] * 3)


@settings(max_examples=30, deadline=None)
@given(prediction=masks, truth=masks, spacing=spacings)
def test_symmetric_and_bounded(prediction: Any, truth: Any, spacing: Any) -> None:
    result, other = measure(prediction, truth, spacing), measure(truth, prediction, spacing)
    assert vars(result) == pytest.approx(vars(other), abs=1e-6)
    diagonal = float(np.linalg.norm(np.multiply(truth.shape, spacing)))
    assert 0 <= result.assd <= result.hd + 1e-6
    assert 0 <= result.hd95 <= result.hd + 1e-6 <= diagonal
    assert 0 <= result.nsd <= 1 + 1e-9


@settings(max_examples=20, deadline=None)
@given(mask=masks, spacing=spacings)
def test_a_mask_is_at_no_distance_from_itself(mask: Any, spacing: Any) -> None:
    result = measure(mask, mask, spacing, 0.01)
    assert (result.hd, result.hd95, result.assd) == (0, 0, 0)
    assert result.nsd == pytest.approx(1.0)


@settings(max_examples=20, deadline=None)
@given(prediction=masks, truth=masks, spacing=spacings, moves=st.tuples(*[st.integers(0, 3)] * 3))
def test_moving_both_changes_nothing(prediction: Any, truth: Any, spacing: Any, moves: Any) -> None:
    """Not even from the middle of the image to its border."""
    pads = [(move, 3 - move) for move in moves]
    moved = measure(np.pad(prediction, pads), np.pad(truth, pads), spacing)
    assert vars(moved) == pytest.approx(vars(measure(prediction, truth, spacing)), rel=1e-5)


@settings(max_examples=20, deadline=None)
@given(prediction=masks, truth=masks, factor=st.floats(0.2, 5.0))
def test_distances_scale_with_the_spacing(prediction: Any, truth: Any, factor: float) -> None:
    small = measure(prediction, truth, (1.0, 1.5, 2.0), 1.2)
    large = measure(prediction, truth, (factor, 1.5 * factor, 2 * factor), 1.2 * factor)
    assert [large.hd, large.hd95, large.assd] == pytest.approx(
        [factor * v for v in (small.hd, small.hd95, small.assd)], rel=1e-5
    )
    assert large.nsd == pytest.approx(small.nsd, rel=1e-5)
