"""The made-up pairs: the same for a seed, plausible, and readable as pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medseg_nca.datasets.depth_phantom import make_depth_case, write_depth_phantom
from medseg_nca.datasets.pairs import open_pairs
from medseg_nca.errors import DataError, Interrupted, OutputError
from medseg_nca.io.read import read_volume
from medseg_nca.job import Job

SMALL = (24, 20)


def test_a_case_depends_on_seed_and_number_alone(tmp_path: Path) -> None:
    few, more = (write_depth_phantom(tmp_path / str(n), n, seed=3, size=SMALL) for n in (1, 2))
    name = "targets/phantom_00000.tiff"
    assert (few / name).read_bytes() == (more / name).read_bytes()
    first, again, other = (make_depth_case(s, 1, 2, SMALL) for s in (3, 3, 4))
    assert np.array_equal(first.image, again.image)
    assert not np.array_equal(first.image, other.image)


def test_what_is_far_is_dark() -> None:
    case = make_depth_case(0, 0, 2, (48, 48))
    near, far = np.quantile(case.target, (0.2, 0.8))
    assert case.image[case.target <= near].mean() > 1.3 * case.image[case.target >= far].mean()
    assert case.target.min() > 0


def test_the_wall_is_where_the_ray_meets_it() -> None:
    """Twice as many pixels see the same scene: depth does not depend on the size."""
    fine, coarse = (make_depth_case(5, 2, 2, (n, n)).target for n in (80, 40))
    means = fine.reshape(40, 2, 40, 2).mean((1, 3))
    assert np.median(np.abs(means - coarse)) < 0.1


def test_the_distance_in_3d_is_signed_and_grows_by_a_millimetre_a_millimetre() -> None:
    case = make_depth_case(0, 0, 3, (20, 20, 16))
    assert case.target.min() < 0 < case.target.max()
    steps = np.abs(np.diff(case.target, axis=0))
    assert steps.max() <= 1 + 0.5  # the surface lies between voxels
    assert np.linalg.norm(case.affine[:3, 2]) == 1.5
    bright = case.image[case.target < 0].mean()
    assert bright > case.image[case.target > 0].mean() + 0.3


@pytest.mark.parametrize(("dims", "size"), [(2, SMALL), (3, (16, 16, 16))])
def test_what_is_written_is_read_as_pairs(tmp_path: Path, dims: int, size: tuple[int, ...]) -> None:
    folder = write_depth_phantom(tmp_path / "set", 2, 0, dims, size)  # type: ignore[arg-type]
    pairs = open_pairs(folder)
    case = make_depth_case(0, 1, dims, size)  # type: ignore[arg-type]
    assert [pair.id for pair in pairs.cases] == ["phantom_00000", "phantom_00001"]
    assert pairs.notes.unit == "mm"
    target = read_volume(pairs.cases[1].target)
    assert np.array_equal(target.array[0], case.target)
    assert np.allclose(target.affine, case.affine)


def test_bad_numbers_and_used_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least 16"):
        make_depth_case(0, 0, 2, (8, 32))
    with pytest.raises(DataError, match="at least 1 case"):
        write_depth_phantom(tmp_path / "none", 0)
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").touch()
    with pytest.raises(OutputError, match="is in use"):
        write_depth_phantom(tmp_path / "used", 1)


def test_cancelled_it_leaves_nothing(tmp_path: Path) -> None:
    job = Job(lambda progress: job.cancel())
    with pytest.raises(Interrupted):
        write_depth_phantom(tmp_path / "set", 3, size=SMALL, job=job)
    assert not (tmp_path / "set").exists()
