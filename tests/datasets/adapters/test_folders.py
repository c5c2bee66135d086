"""Two folders matched by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medseg_nca.datasets.find import open_dataset
from medseg_nca.errors import ConfigError, DataError, ImageError

Put = Callable[..., Path]
RGB = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)


@pytest.mark.parametrize("labels", ["labels", "masks"])
def test_files_are_matched_by_name_whatever_the_format(
    tmp_path: Path, put: Put, labels: str
) -> None:
    put(tmp_path / "images" / "a.nii.gz")
    put(tmp_path / "images" / "b.nii")
    put(tmp_path / labels / "a.nii")
    dataset = open_dataset(tmp_path)
    assert (dataset.format, dataset.dims, dataset.channels) == ("folders", 3, ("image",))
    assert [case.label for case in dataset.cases] == [tmp_path / labels / "a.nii", None]
    assert [case.id for case in dataset.labelled] == ["a"]


def test_pictures_grey_and_in_colour(tmp_path: Path, put: Put) -> None:
    put(tmp_path / "rgb" / "images" / "a.png", RGB)
    put(tmp_path / "grey" / "images" / "a.tif", (4, 4))
    assert open_dataset(tmp_path / "rgb").channels == ("red", "green", "blue")
    assert open_dataset(tmp_path / "grey").channels == ("image",)
    assert open_dataset(tmp_path / "grey").dims == 2


def test_usual_endings_of_label_files_are_understood(tmp_path: Path, put: Put) -> None:
    put(tmp_path / "images" / "p1_image.nii.gz")
    put(tmp_path / "images" / "p2.nii.gz")
    put(tmp_path / "labels" / "p1_seg.nii.gz")
    put(tmp_path / "labels" / "p2_mask.nii.gz")
    assert len(open_dataset(tmp_path).labelled) == 2


def test_no_name_in_common_is_refused_with_an_example(tmp_path: Path, put: Put) -> None:
    put(tmp_path / "images" / "a.nii.gz")
    put(tmp_path / "labels" / "other.nii.gz")
    with pytest.raises(DataError, match=r"like a\.nii\.gz, label maps like other\.nii\.gz"):
        open_dataset(tmp_path)


def test_notes_say_what_the_numbers_mean_and_who_the_patients_are(tmp_path: Path, put: Put) -> None:
    for name in ("p1_left", "p1_right"):
        put(tmp_path / "images" / f"{name}.png", (4, 4))
        put(tmp_path / "labels" / f"{name}.png", (4, 4))
    notes = "name: eyes\nlabels: {vessel: 255}\npatient: '^([^_]+)'\nlicence: CC0-1.0\n"
    put(tmp_path / "dataset.yaml", notes)
    dataset = open_dataset(tmp_path)
    assert (dataset.name, dataset.licence) == ("eyes", "CC0-1.0")
    assert {case.patient for case in dataset.cases} == {"p1"}
    assert dataset.labels is not None
    assert dataset.labels.labels[0].values == (255,)


def test_labels_json_may_be_just_the_table(tmp_path: Path, put: Put) -> None:
    put(tmp_path / "images" / "a.nii.gz")
    put(tmp_path / "labels.json", {"0": "background", "1": "liver"})
    table = open_dataset(tmp_path).labels
    assert table is not None
    assert table.names == ("liver",)


@pytest.mark.parametrize(
    ("notes", "complaint"),
    [("labls: {a: 1}", "did you mean 'labels'"), ("patient: '('", "no regular expression"),
     ("patient: abc", "must have one group")],
)  # fmt: skip
def test_notes_that_make_no_sense(tmp_path: Path, put: Put, notes: str, complaint: str) -> None:
    put(tmp_path / "images" / "a.nii.gz")
    put(tmp_path / "dataset.yaml", notes)
    with pytest.raises((ConfigError, DataError), match=complaint):
        open_dataset(tmp_path)


def test_two_files_of_one_name(tmp_path: Path, put: Put) -> None:
    put(tmp_path / "images" / "a.nii.gz")
    put(tmp_path / "images" / "a.nii")
    with pytest.raises(DataError, match=r"a\.nii and a\.nii\.gz have the same name"):
        open_dataset(tmp_path)


def test_one_bad_file_does_not_hide_the_others(tmp_path: Path, put: Put) -> None:
    put(tmp_path / "images" / "a.nii.gz", "not an image")
    with pytest.raises(ImageError, match=r"a\.nii\.gz"):
        open_dataset(tmp_path)
    put(tmp_path / "images" / "b.nii.gz")
    assert len(open_dataset(tmp_path).cases) == 2


def test_the_real_nuclei(shared_data: Callable[[str], Path]) -> None:
    dataset = open_dataset(shared_data("dsb2018_nuclei"))
    assert (dataset.format, dataset.dims, len(dataset.labelled)) == ("folders", 2, 240)
    assert dataset.channels == ("red", "green", "blue")
