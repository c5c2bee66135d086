"""Linear interpolation between grids, in slabs that change nothing."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from medseg_nca.transforms import resample as module
from medseg_nca.transforms.resample import Mapping, resample

STRAIGHT = np.diag([0.5, 1.0, 2.0, 1.0])
FLIPPED = np.diag([-0.8, 0.7, 2.5, 1.0])
SHEARED = np.diag([0.8, 0.7, 2.5, 1.0])
SHEARED[0, 1] = 0.2


def test_a_line_by_hand() -> None:
    """Voxels every 2 mm are read every 1.5 mm from 1 mm on, and stay the last beyond the end."""
    new = np.diag([1.5, 1.0, 1.0, 1.0])
    new[0, 3] = 1.0
    mapping = Mapping.between(np.diag([2.0, 1.0, 1.0, 1.0]), new, (5, 1))
    line = np.array([0, 10, 20, 40], np.int16).reshape(1, 4, 1)
    found = resample(line, mapping)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.ravel(), [5, 12.5, 20, 35, 40])


@pytest.mark.parametrize("new", [STRAIGHT, FLIPPED, SHEARED])
@pytest.mark.parametrize("slab", [1, 200, 1 << 22])
def test_it_is_the_interpolation_of_scipy(
    new: np.ndarray, slab: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SLAB", slab)
    array = np.random.default_rng(0).normal(size=(2, 9, 8, 7)).astype(np.float32)
    old = np.diag([1.0, 0.9, 1.1, 1.0])
    new = new.copy()
    new[:3, 3] = (5.0, -0.5, 0.3)
    mapping = Mapping.between(old, new, (11, 6, 5))
    assert mapping.parallel == (new[0, 1] == 0)
    index = np.stack(np.meshgrid(*(np.arange(n) for n in (11, 6, 5)), indexing="ij"))
    places = np.tensordot(mapping.matrix, index, 1) + mapping.offset.reshape(3, 1, 1, 1)
    expected = [map_coordinates(c, places, order=1, mode="nearest") for c in array]
    np.testing.assert_allclose(resample(array, mapping), expected, atol=1e-5)
