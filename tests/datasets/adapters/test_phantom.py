"""Procedural anatomy: repeatable, never twice the same, with everything a scanner adds."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from medseg_nca.datasets.adapters.phantom import write_phantom
from medseg_nca.datasets.anatomy import LABELS, Phantom, make_phantom
from medseg_nca.datasets.find import open_dataset
from medseg_nca.errors import DataError, Interrupted, OutputError
from medseg_nca.job import Job

SMALL = (24, 20, 14)


@pytest.fixture(scope="module")
def volumes() -> list[Phantom]:
    return [make_phantom(0, index) for index in range(4)]


def test_a_case_depends_on_seed_and_number_alone(volumes: list[Phantom]) -> None:
    again = make_phantom(0, 2)
    np.testing.assert_array_equal(again.image, volumes[2].image)
    np.testing.assert_array_equal(again.label, volumes[2].label)
    np.testing.assert_array_equal(again.affine, volumes[2].affine)
    assert not np.array_equal(make_phantom(1, 2).affine, again.affine)


def test_no_case_comes_twice(volumes: list[Phantom]) -> None:
    assert len({volume.image.tobytes() for volume in volumes}) == len(volumes)
    assert len({volume.affine.tobytes() for volume in volumes}) == len(volumes)


def test_every_label_is_there_and_lies_where_it_should(volumes: list[Phantom]) -> None:
    assert LABELS == {1: "anterior", 2: "posterior", 3: "lesion"}
    for volume in volumes:
        assert set(np.unique(volume.label)) == {0, 1, 2, 3}
        front, back, lesion = (volume.label == value for value in (1, 2, 3))
        # Anterior is at +y of the patient, whichever way the grid lies.
        centres = [nib.affines.apply_affine(volume.affine, np.argwhere(m).mean(0))
                   for m in (front, back)]  # fmt: skip
        assert centres[0][1] > centres[1][1]
        assert (ndimage.binary_dilation(front) & back).any(), "they touch"
        ring = ndimage.binary_dilation(lesion) & ~lesion
        assert ((volume.label[ring] > 0).mean()) > 0.5, "it is nested"


def test_the_grid_is_anisotropic_and_oblique(volumes: list[Phantom]) -> None:
    for volume in volumes:
        steps = np.linalg.norm(volume.affine[:3, :3], axis=0)
        assert steps[2] / steps[:2].max() > 1.5
        directions = np.abs(volume.affine[:3, :3] / steps)
        assert (directions.max(axis=0) < 0.9999).any()
        turn = volume.affine[:3, :3] / steps
        np.testing.assert_allclose(turn.T @ turn, np.eye(3), atol=1e-9)


def test_intensities_of_the_labels_differ_and_overlap(volumes: list[Phantom]) -> None:
    for volume in volumes:
        front, back = (volume.image[volume.label == value] for value in (1, 2))
        assert front.mean() < back.mean()
        assert np.quantile(front, 0.95) > np.quantile(back, 0.05)
    means = [volume.image[volume.label == 1].mean() for volume in volumes]
    assert max(means) / min(means) > 1.1


def test_air_has_rician_noise(volumes: list[Phantom]) -> None:
    for volume in volumes:
        corner = volume.image[:3, :3, :].astype(float)
        assert corner.min() >= 0
        assert corner.std() > 0
        assert corner.mean() > corner.std()  # of a Rayleigh distribution: 1.9 times


def test_borders_have_partial_volume() -> None:
    volume = make_phantom(3, 0, dims=2)
    inside = ndimage.binary_erosion(volume.label == 2, iterations=2)
    edge = (volume.label == 2) & ~ndimage.binary_erosion(volume.label == 2)
    assert volume.image[edge].mean() < volume.image[inside].mean()


def test_two_dimensions() -> None:
    picture = make_phantom(0, 0, dims=2)
    assert picture.image.ndim == 2
    assert picture.affine[2].tolist() == [0, 0, 1, 0]
    assert set(np.unique(picture.label)) == {0, 1, 2, 3}


def test_size_and_spacing_are_followed_roughly() -> None:
    volume = make_phantom(0, 0, size=(30, 32, 20), spacing=(2, 2, 3))
    assert np.allclose(volume.image.shape, (30, 32, 20), rtol=0.12)
    assert np.allclose(np.linalg.norm(volume.affine[:3, :3], axis=0), (2, 2, 3), rtol=0.11)


@pytest.mark.parametrize(
    ("size", "spacing"),
    [((48, 40), None), ((4, 40, 24), None), ((9999, 40, 24), None), (None, (1.0, 0.0, 1.0)),
     (None, (1.0, float("nan"), 1.0))],
)  # fmt: skip
def test_sizes_that_make_no_sense(
    size: tuple[int, ...] | None, spacing: tuple[float, ...] | None
) -> None:
    with pytest.raises(DataError, match="of a 3D phantom must be 3 numbers"):
        make_phantom(0, 0, 3, size, spacing)


def test_written_and_opened(tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    job = Job(lambda progress: seen.append((progress.done, progress.total)))
    out = write_phantom(tmp_path / "set", 2, seed=5, size=SMALL, job=job)
    dataset = open_dataset(out)
    assert seen == [(1, 2), (2, 2)]
    assert (dataset.format, dataset.dims, dataset.channels) == ("phantom", 3, ("MRI",))
    assert dataset.labels is not None
    assert dataset.labels.names == tuple(LABELS.values())
    expected = make_phantom(5, 1, size=SMALL)
    assert dataset.cases[1].label is not None
    stored, label = (nib.load(f) for f in (dataset.cases[1].images[0], dataset.cases[1].label))
    np.testing.assert_array_equal(np.asanyarray(stored.dataobj), expected.image)
    np.testing.assert_array_equal(np.asanyarray(label.dataobj), expected.label)
    np.testing.assert_allclose(stored.affine, expected.affine, atol=1e-5)


def test_pictures_are_written_as_2d_nifti(tmp_path: Path) -> None:
    dataset = open_dataset(write_phantom(tmp_path / "set", cases=1, dims=2))
    assert dataset.dims == 2


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").write_text("x")
    with pytest.raises(OutputError, match="is in use"):
        write_phantom(tmp_path, cases=1)
    assert [file.name for file in tmp_path.iterdir()] == ["precious.txt"]


def test_nothing_is_left_of_a_broken_run(tmp_path: Path) -> None:
    job = Job(lambda progress: job.cancel())
    with pytest.raises(Interrupted):
        write_phantom(tmp_path / "set", cases=2, dims=2, job=job)
    assert not list(tmp_path.iterdir())


def test_no_cases() -> None:
    with pytest.raises(DataError, match="at least 1 case"):
        write_phantom(Path("never"), cases=0)
