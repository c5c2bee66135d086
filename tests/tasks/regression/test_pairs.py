"""Pairs as they are read and prepared, and what is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medseg_nca.config import PreprocessPlan
from medseg_nca.datasets.pairs import Pair, open_pairs
from medseg_nca.errors import ImageError
from medseg_nca.tasks.regression.options import RegressionFacts, TargetFacts
from medseg_nca.tasks.regression.pairs import PreparedPairs, prepare_pair, read_pair
from medseg_nca.tasks.regression.values import TargetSums, restored_values, standardised
from tests.tasks.regression.work import write_array, write_pairs


def pair(folder: Path, target: np.ndarray, suffix: str = ".nii.gz") -> Pair:
    image = np.arange(target[0].size, dtype=np.float32).reshape(1, *target.shape[1:])
    write_array(folder / f"image{suffix}", image)
    write_array(folder / f"target{suffix}", target.astype(np.float32))
    return Pair("a", (folder / f"image{suffix}",), folder / f"target{suffix}")


def facts(transform: Any = "none", **changes: object) -> RegressionFacts:
    plan = PreprocessPlan(dims=2, channels=("image",), crop_size=(4, 4), orientation=None)
    target = TargetFacts(name="t", mean=2, sd=0.5, average=2, spread=0.5, low=1, high=4)
    return RegressionFacts(
        plan=plan.changed(**changes),
        targets=(target,),
        transform=transform,
    )


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha", ".tiff"])
def test_nan_and_the_number_for_unknown_are_unknown(tmp_path: Path, suffix: str) -> None:
    target = np.array([[[1, np.nan], [-1, 3.0]]])
    found = read_pair(pair(tmp_path, target, suffix), unknown=-1).target
    assert np.array_equal(found, [[[1, np.nan], [np.nan, 3.0]]], equal_nan=True)


@pytest.mark.parametrize("bits", [np.uint8, np.uint16])
def test_pictures_are_targets_too(tmp_path: Path, bits: type) -> None:
    values: Any = np.array([[[0, 7], [200, 9]]]).astype(bits)
    write_array(tmp_path / "i.png", values)
    write_array(tmp_path / "t.png", values)
    found = read_pair(Pair("a", (tmp_path / "i.png",), tmp_path / "t.png"), unknown=0)
    assert np.isnan(found.target[0, 0, 0])
    assert found.target[0, 1, 0] == 200


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (np.full((1, 2, 2), np.nan), "no value of the target is known"),
        (np.full((1, 2, 2), -1.0), "no value of the target is known"),
        (np.full((1, 2, 2), 3.0), r"constant \(every known value is 3\)"),
        (np.array([[[3, np.nan], [3.0, -1]]]), "constant"),
    ],
)
def test_a_target_that_teaches_nothing_is_named(
    tmp_path: Path, target: np.ndarray, words: str
) -> None:
    with pytest.raises(ImageError, match=rf"target\.nii\.gz.*{words}"):
        read_pair(pair(tmp_path, target), unknown=-1)


def test_infinity_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"target\.nii\.gz: 1 of 4 values are infinite"):
        read_pair(pair(tmp_path, np.array([[[1, np.inf], [2.0, np.nan]]])), None)


def test_a_target_on_another_grid_is_named(tmp_path: Path) -> None:
    one = pair(tmp_path, np.arange(4.0).reshape(1, 2, 2))
    write_array(tmp_path / "target.nii.gz", np.arange(6.0).reshape(1, 2, 3))
    with pytest.raises(ImageError, match=r"target\.nii\.gz.*another grid.*\(2, 2\) and \(2, 3\)"):
        read_pair(one, None)
    write_array(tmp_path / "target.nii.gz", np.arange(4.0).reshape(1, 2, 2), (2, 1, 1))
    with pytest.raises(ImageError, match=r"another grid.*affine"):
        read_pair(one, None)
    write_array(tmp_path / "target.nii.gz", np.arange(8.0).reshape(1, 2, 2, 2))
    with pytest.raises(ImageError, match=r"another grid.*3 axes and 2"):
        read_pair(one, None)


def test_values_go_to_standard_ones_and_back() -> None:
    values = np.array([[[1.0, 2.5]]], np.float32)
    assert standardised(values, facts()).tolist() == [[[-2, 1]]]
    there = standardised(values, facts("log"))
    assert there[0, 0, 1] == pytest.approx((np.log(2.5) - 2) / 0.5)
    np.testing.assert_allclose(restored_values(there, facts("log")), values, rtol=1e-6)


def test_a_logarithm_out_of_all_bounds_does_not_become_infinite() -> None:
    found = restored_values(np.array([[[-1e6, 1e6]]], np.float32), facts("log"))
    assert found[0, 0] == pytest.approx([0.1, 40], rel=1e-5)


def test_the_sums_of_cases_are_those_of_all_their_voxels() -> None:
    parts = [np.array([[1.0, 2.0, np.nan]]), np.array([[8.0, 4.0, 4.0]])]
    sums = TargetSums("log")
    for part in parts:
        sums.add(part)
    (found,) = sums.facts(("t",))
    values = np.array([1, 2, 8, 4, 4.0])
    assert found.average == pytest.approx(values.mean())
    assert found.spread == pytest.approx(values.std())
    assert found.mean == pytest.approx(np.log(values).mean())
    assert found.sd == pytest.approx(np.log(values).std())
    assert (found.low, found.high) == (1, 8)


def test_between_voxels_only_what_is_known_is_mixed(tmp_path: Path) -> None:
    """Twice the spacing: a cell of two voxels, one unknown, takes the other one."""
    target = np.array([[[1, np.nan], [1, np.nan], [2, 3.0], [2, 3.0]]])
    read = read_pair(pair(tmp_path, target), None)
    image, found = prepare_pair(read, facts(spacing=(2.0, 1.0), normalise="none", clip=False))
    assert image.shape == (1, 2, 2)
    expected = np.array([[[-2, np.nan], [0, 2]]])
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_prepared_arrays_are_kept_and_made_again_if_damaged(tmp_path: Path) -> None:
    pairs = {p.id: p for p in open_pairs(write_pairs(tmp_path / "set", 1)).cases}
    store = PreparedPairs(tmp_path / "kept", pairs, facts(), "hash")
    first = store.load("c0")
    (file,) = (tmp_path / "kept").iterdir()
    content = file.read_bytes()
    file.write_bytes(content[:50])
    second = store.load("c0")
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert file.stat().st_size == len(content)
    PreparedPairs(tmp_path / "kept", pairs, facts(), "another").load("c0")
    assert len(list((tmp_path / "kept").iterdir())) == 2
