from __future__ import annotations

import numpy as np

from medseg_nca.io.grid import grid_difference
from medseg_nca.io.volume import Volume


def volume(shape: tuple[int, ...] = (10, 10, 10), affine: object = None) -> Volume:
    return Volume(np.zeros((1, *shape)), np.eye(4) if affine is None else np.asarray(affine))


def test_rounding_in_a_header_is_no_difference() -> None:
    rounded = np.eye(4)
    rounded[0, 0], rounded[1, 3] = 1.0004, 0.03
    assert grid_difference(volume(), volume(affine=rounded)) is None


def test_shape_shift_flip_and_turn_are_differences() -> None:
    assert grid_difference(volume(), volume((10, 10, 9))) == "shape (10, 10, 10) and (10, 10, 9)"
    shifted = np.eye(4)
    shifted[2, 3] = 0.5
    assert grid_difference(volume(), volume(affine=shifted)) == "affine, by 0.5 mm at a corner"
    # The corners of a cube fall on each other when it is flipped, but not voxel by voxel.
    flipped = np.diag([-1.0, 1.0, 1.0, 1.0])
    flipped[0, 3] = 9
    assert grid_difference(volume(), volume(affine=flipped)) == "affine, by 9 mm at a corner"
    # A single voxel stays in its place when it is turned; its axes do not.
    turned = np.eye(4)[[1, 0, 2, 3]]
    assert grid_difference(volume((1, 1, 1)), volume((1, 1, 1), turned)) is not None


def test_2d() -> None:
    assert grid_difference(volume((4, 5)), volume((4, 5))) is None
    assert grid_difference(volume((4, 5)), volume((4, 5, 1))) is not None
