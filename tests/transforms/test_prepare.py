"""What a model sees, and the way back to the source grid."""

from __future__ import annotations

import itertools
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg_nca.config import Label, LabelTable
from medseg_nca.errors import ConfigError, ImageError
from medseg_nca.io.volume import Volume
from medseg_nca.transforms.prepare import prepare, restore
from tests.transforms.volumes import TABLE, affine, blobs, center, plan

CODES = [
    "".join(signs)
    for order in itertools.permutations(("RL", "AP", "SI"))
    for signs in itertools.product(*order)
]


def random(*shape: int) -> Any:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def test_an_unchanged_grid_is_restored_bit_by_bit() -> None:
    volume, label = blobs(matrix=affine())
    made = prepare(volume, plan(orientation="RAS", spacing=(1, 1, 1)), label, TABLE)
    np.testing.assert_array_equal(made.image, volume.array)
    values = random(3, *volume.shape)
    np.testing.assert_array_equal(restore(values, made.trace), values)
    expected = np.select([label.array == 1, label.array == 4], [1, 2])
    np.testing.assert_array_equal(made.label, expected)


@given(st.sampled_from(CODES), st.sampled_from(CODES))
def test_every_orientation_is_undone_exactly(stored: str, wanted: str) -> None:
    volume, label = blobs((5, 6, 7), affine(stored, (1, 2, 3)), channels=2)
    made = prepare(volume, plan(channels=("a", "b"), orientation=wanted), label, TABLE)
    np.testing.assert_array_equal(restore(made.image, made.trace), volume.array)
    assert made.label is not None
    back = restore(made.label.astype(np.float32), made.trace)
    np.testing.assert_array_equal(np.array([0, 1, 4])[back.astype(int)], label.array)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SLP", "AIR"])
def test_places_in_millimetres_are_kept(codes: str) -> None:
    volume, label = blobs((20, 24, 16), affine(codes, (1.1, 0.8, 2.0)))
    made = prepare(volume, plan(orientation="RAS", spacing=(1, 1, 1)), label, TABLE)
    grid = made.trace.prepared
    np.testing.assert_allclose(grid.spacing, (1, 1, 1), rtol=1e-6)
    assert (np.diag(grid.matrix)[:3] > 0).all()
    for number, value in enumerate((1, 4), start=1):
        before = center(label.array[0] == value, volume.affine)
        after = center(made.label[0] == number, grid.matrix)
        np.testing.assert_allclose(after, before, atol=0.25)
        volumes = (label.array == value).sum() * 1.1 * 0.8 * 2.0, (made.label == number).sum()
        assert volumes[1] == pytest.approx(volumes[0], rel=0.1)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "ASL"])
def test_a_voxel_shows_what_is_at_its_place(codes: str) -> None:
    matrix = affine(codes, (1.1, 0.8, 2.0))
    index = np.stack(np.meshgrid(*(np.arange(n) for n in (18, 20, 12)), indexing="ij"))
    places = np.tensordot(matrix[:3, :3], index, 1) + matrix[:3, 3].reshape(3, 1, 1, 1)
    volume = Volume(places.astype(np.float32), matrix)
    wanted = plan(channels=("x", "y", "z"), orientation="RAS", spacing=(1.5, 1.5, 1.5))
    made = prepare(volume, wanted)
    grid = made.trace.prepared
    index = np.stack(np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij"))
    expected = np.tensordot(grid.matrix[:3, :3], index, 1) + grid.matrix[:3, 3].reshape(3, 1, 1, 1)
    inside = (slice(None), *(slice(2, -2),) * 3)
    np.testing.assert_allclose(made.image[inside], expected[inside], atol=1e-3)
    back = restore(made.image, made.trace)
    np.testing.assert_allclose(back[:, 4:-4, 4:-4, 4:-4], places[:, 4:-4, 4:-4, 4:-4], atol=1e-3)


def test_an_oblique_volume_comes_back() -> None:
    angle = np.deg2rad(20)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    volume, label = blobs((24, 24, 20), turn @ affine("LPS", (1, 1.2, 1.6)))
    made = prepare(volume, plan(orientation="RAS", spacing=(1, 1, 1)), label, TABLE)
    back = restore(made.image, made.trace)
    assert back.shape == volume.array.shape
    # Twice interpolated: what is lost of a smooth image is small.
    inside = (slice(None), *(slice(2, -2),) * 3)
    assert np.abs(back - volume.array)[inside].max() < 2
    one_hot = np.eye(3, dtype=np.float32)[made.label[0]].transpose(3, 0, 1, 2).copy()
    found = restore(one_hot, made.trace).argmax(0)
    truth = np.select([label.array[0] == 1, label.array[0] == 4], [1, 2])
    assert (found == truth).mean() > 0.99


def test_the_crop_is_pasted_back_and_filled_outside() -> None:
    array = np.zeros((1, 12, 10, 8), np.float32)
    array[0, 4:7, 5, 2:4] = random(3, 2) + 5
    volume = Volume(array, affine("LPS"))
    made = prepare(volume, plan(orientation="RAS", crop="nonzero", crop_margin=1))
    assert made.image.shape == (1, 5, 3, 4)
    np.testing.assert_array_equal(restore(made.image, made.trace), array)
    filled = restore(np.ones((2, 5, 3, 4), np.float32), made.trace, fill=(1, 0))
    assert (filled[0] == 1).all()
    assert filled[1].sum() == 5 * 3 * 4


def test_crop_then_spacing() -> None:
    volume, label = blobs((20, 20, 20), affine("RAS", (1, 1, 2)))
    volume.array[:, :5] = 0
    made = prepare(volume, plan(crop="nonzero", crop_margin=0, spacing=(1, 1, 1)), label, TABLE)
    assert made.image.shape == (1, 15, 20, 40)
    assert restore(made.image, made.trace).shape == volume.array.shape


def test_2d() -> None:
    volume, label = blobs((20, 30), np.diag([0.5, 1.0, 1.0, 1.0]), channels=3)
    made = prepare(volume, plan(2, ("r", "g", "b"), spacing=(1, 1)), label, TABLE)
    assert made.image.shape == (3, 10, 30)
    assert set(np.unique(made.label)) == {0, 1, 2}
    assert restore(made.image, made.trace).shape == (3, 20, 30)
    same = prepare(volume, plan(2, ("r", "g", "b"), orientation="RAS"), label, TABLE)
    np.testing.assert_array_equal(same.image, volume.array)


def test_a_2d_image_is_turned_in_its_plane_only() -> None:
    volume, _ = blobs((6, 8), np.diag([-1.0, -1.0, 1.0, 1.0]))
    made = prepare(volume, plan(2, orientation="RAS"))
    np.testing.assert_array_equal(made.image, volume.array[:, ::-1, ::-1])
    np.testing.assert_array_equal(restore(made.image, made.trace), volume.array)
    sagittal = Volume(volume.array, affine("ASR"))
    np.testing.assert_array_equal(prepare(sagittal, plan(2, orientation="RAS")).image, volume.array)


def test_regions_are_interpolated_one_by_one() -> None:
    table = LabelTable(
        labels=(Label(name="whole", values=(1, 4)), Label(name="core", values=(4,))),
        multi_label=True,
    )
    volume, label = blobs(matrix=affine(spacing=(1, 1, 2)))
    made = prepare(volume, plan(spacing=(1, 1, 1)), label, table)
    assert made.label.shape[0] == 2
    assert (made.label[0] >= made.label[1]).all()
    assert made.label.dtype == np.uint8


def test_a_volume_without_label() -> None:
    volume, _ = blobs()
    assert prepare(volume, plan()).label is None


def test_the_trace_can_be_stored() -> None:
    volume, _ = blobs(matrix=affine("LPI"))
    trace = prepare(volume, plan(orientation="RAS", spacing=(2, 2, 2))).trace
    assert json.loads(json.dumps(asdict(trace)))["source"]["shape"] == [20, 24, 16]


def test_zscore_with_clipping() -> None:
    volume = Volume(np.arange(1000, dtype=np.int16).reshape(1, 10, 10, 10), np.eye(4))
    image = prepare(volume, plan(normalise="zscore", percentiles=(10, 90))).image
    clipped = np.clip(np.arange(1000), 99.9, 899.1)
    np.testing.assert_allclose(
        image.ravel(), (clipped - clipped.mean()) / clipped.std(), rtol=1e-4, atol=1e-5
    )
    plain = prepare(volume, plan(normalise="zscore", clip=False)).image
    assert plain.mean() == pytest.approx(0, abs=1e-5)
    assert plain.std() == pytest.approx(1, abs=1e-5)


def test_zscore_of_a_cropped_image_leaves_the_outside_at_zero() -> None:
    array = np.zeros((1, 6, 6, 6), np.float32)
    array[0, 1:5, 1:5, 1:5] = random(4, 4, 4) + 50
    image = prepare(
        Volume(array, np.eye(4)), plan(normalise="zscore", crop="nonzero", clip=False)
    ).image
    inside = image[array != 0]
    assert (image[array == 0] == 0).all()
    assert inside.mean() == pytest.approx(0, abs=1e-4)
    assert inside.std() == pytest.approx(1, abs=1e-4)


def test_percentiles_become_0_and_1() -> None:
    volume = Volume(np.arange(101, dtype=np.float32).reshape(1, 101, 1, 1), np.eye(4))
    image = prepare(volume, plan(normalise="percentile", percentiles=(10, 60))).image.ravel()
    assert image[[0, 10, 35, 60, 100]].tolist() == pytest.approx([0, 0, 0.5, 1, 1])
    free = prepare(volume, plan(normalise="percentile", percentiles=(10, 60), clip=False)).image
    assert free.ravel()[[0, 100]].tolist() == pytest.approx([-0.2, 1.8])


def test_a_sparse_image_is_not_lost_when_its_percentiles_fall_together() -> None:
    array = np.zeros((1, 50, 50), np.float32)
    array[0, 3, 3] = 8
    image = prepare(Volume(array, np.eye(4)), plan(2, normalise="percentile")).image
    assert image.max() == 1


def test_ct_uses_the_training_foreground() -> None:
    known = {"mean": 100.0, "sd": 50.0, "low": 0.0, "high": 300.0}
    volume = Volume(np.array([-1000, 0, 100, 250, 3000], np.int16).reshape(1, 5, 1, 1), np.eye(4))
    image = prepare(volume, plan(normalise="ct", statistics=(known,))).image
    assert image.ravel().tolist() == [-2, -2, 0, 3, 4]
    with pytest.raises(ConfigError, match="needs the statistics"):
        prepare(volume, plan(normalise="ct"))


def test_grey_takes_colour_and_grey_pictures() -> None:
    grey_plan = plan(2, ("r", "g", "b"), colour="grey")
    colour = Volume(np.array([[[100, 0]], [[0, 100]], [[0, 0]]], np.uint8), np.eye(4))
    np.testing.assert_allclose(prepare(colour, grey_plan).image, [[[21.25, 71.54]]], rtol=1e-5)
    grey = Volume(np.array([[[100, 0]]], np.uint8), np.eye(4))
    np.testing.assert_array_equal(prepare(grey, grey_plan).image, grey.array)


def test_a_constant_channel_among_others_becomes_zero() -> None:
    volume, _ = blobs(channels=2)
    volume.array[1] = 7
    image = prepare(volume, plan(channels=("a", "b"), normalise="zscore")).image
    assert (image[1] == 0).all()
    assert np.isfinite(image).all()


SOURCE = Path("case.nii.gz")


def named(volume: Volume, name: str = "case.nii.gz") -> Volume:
    return Volume(volume.array, volume.affine, (Path(name),))


@pytest.mark.parametrize("normalise", ["none", "zscore", "percentile"])
def test_a_constant_image_is_refused(normalise: str) -> None:
    volume = named(Volume(np.full((1, 4, 4, 4), 7, np.int16), np.eye(4)))
    with pytest.raises(ImageError, match=r"case\.nii\.gz: is constant \(every value is 7\)"):
        prepare(volume, plan(normalise=normalise))


def test_other_axes_or_channels_are_refused() -> None:
    flat, _ = blobs((8, 8))
    with pytest.raises(ImageError, match=r"case\.nii\.gz: has 2 axes \(8, 8\); 3 are needed"):
        prepare(named(flat), plan())
    two, _ = blobs(channels=2)
    with pytest.raises(ImageError, match=r"is 4D with 2 volumes; needed: 1 \(MRI\)"):
        prepare(named(two), plan())
    with pytest.raises(ImageError, match=r"channels: 1; needed: 3 \(r, g, b\).*colour=grey"):
        prepare(named(flat), plan(2, ("r", "g", "b")))


def test_a_spacing_that_makes_too_many_voxels_is_refused() -> None:
    volume, _ = blobs()
    with pytest.raises(ImageError, match=r"makes 7\.68e\+12 voxels; at most") as caught:
        prepare(volume, plan(spacing=(1e-3, 1e-3, 1e-3)))
    assert "unit" in str(caught.value.hint)


def test_a_label_map_of_another_grid_is_refused() -> None:
    volume, label = blobs()
    small = Volume(label.array[:, 1:], label.affine, (Path("label.nii.gz"),))
    with pytest.raises(ImageError, match=r"label\.nii\.gz: .*another grid.*case\.nii\.gz: shape"):
        prepare(named(volume), plan(), small, TABLE)
    moved = Volume(label.array, affine(), (Path("label.nii.gz"),))
    with pytest.raises(ImageError, match=r"label\.nii\.gz: .*affine, by"):
        prepare(named(volume), plan(), moved, TABLE)


def test_unknown_label_values_are_refused_with_the_file() -> None:
    volume, label = blobs()
    label.array[0, 0, 0, 0] = 9
    with pytest.raises(ImageError, match=r"label\.nii\.gz: label values 9 are not in the label"):
        prepare(volume, plan(), named(label, "label.nii.gz"), TABLE)
