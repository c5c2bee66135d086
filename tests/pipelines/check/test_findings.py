"""What `data check` finds in a data set."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medseg_nca.config import Label, LabelTable
from medseg_nca.datasets.adapters.phantom import write_phantom
from medseg_nca.errors import DataError, Interrupted
from medseg_nca.job import Job, Progress
from medseg_nca.pipelines import check
from tests.pipelines.check.volumes import SHAPE, found, image, label, message, save

TABLE = LabelTable(labels=(Label(name="organ", values=(1,)),))


def test_a_good_data_set_has_no_findings(folder: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    job = Job(lambda progress: seen.append((progress.done, progress.total)))
    report = check.run(folder, labels=TABLE, workers=2, job=job)
    assert report.findings == ()
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    row = report.rows[0]
    assert (row.id, row.shape, row.spacing, row.orientation) == ("c0", SHAPE, (1, 1, 1), "RAS")
    assert row.voxels == {0: 120 - 4, 1: 4}
    assert report.label_statistics() == {1: (4, sum(int(label(n).sum()) for n in range(4)))}


def test_a_phantom_passes(tmp_path: Path) -> None:
    report = check.run(write_phantom(tmp_path / "p", cases=3, dims=2))
    assert report.findings == ()
    assert [row.shape is not None for row in report.rows] == [True] * 3


def test_a_missing_label_and_a_label_without_image(folder: Path) -> None:
    (folder / "labels" / "c0.nii.gz").rename(folder / "labels" / "other.nii.gz")
    report = check.run(folder)
    assert found(report) == {
        ("warning", "no_label", "c0"),
        ("error", "label_without_image", None),
    }
    assert "other.nii.gz" in message(report, "label_without_image")


def test_a_file_that_the_list_names_and_that_is_not_there(folder: Path) -> None:
    text = "image,label\n" + "".join(f"images/c{n}.nii.gz,labels/c{n}.nii.gz\n" for n in (0, 1, 9))
    (folder / "datalist.csv").write_text(text)
    report = check.run(folder)
    assert found(report) == {
        ("error", "missing_file", "c9"),
        ("warning", "file_not_used", None),
    }


def test_another_shape(folder: Path) -> None:
    save(folder / "labels" / "c1.nii.gz", label(1)[:-1])
    report = check.run(folder)
    assert found(report) == {("error", "shape_differs", "c1")}
    assert "(6, 5, 4) and (5, 5, 4)" in message(report, "shape_differs")


def test_another_affine(folder: Path) -> None:
    moved = np.eye(4)
    moved[0, 3] = 0.5
    save(folder / "labels" / "c1.nii.gz", label(1), moved)
    report = check.run(folder)
    assert found(report) == {("error", "affine_differs", "c1")}
    assert "0.5 mm" in message(report, "affine_differs")


def test_rounding_in_a_header_is_no_fault(folder: Path) -> None:
    save(folder / "labels" / "c1.nii.gz", label(1), np.eye(4) + 1e-4 * np.eye(4, k=3))
    assert check.run(folder).findings == ()


def test_values_outside_the_table(folder: Path) -> None:
    array = label(2)
    array[0, 0, :2] = 7
    save(folder / "labels" / "c2.nii.gz", array)
    report = check.run(folder, labels=TABLE)
    assert found(report) == {("error", "unknown_label_value", "c2")}
    assert "7 (2 voxels). Allowed: [0, 1]" in message(report, "unknown_label_value")
    assert check.run(folder).findings == ()


def test_negative_values_are_never_labels(folder: Path) -> None:
    save(folder / "labels" / "c2.nii.gz", label(2).astype(np.int16) - 1)
    assert ("error", "unknown_label_value", "c2") in found(check.run(folder))


def test_a_label_that_is_an_image(folder: Path) -> None:
    many = np.arange(1000, dtype=np.int16).reshape(10, 10, 10)
    save(folder / "images" / "c0.nii.gz", many)
    save(folder / "labels" / "c0.nii.gz", many)
    save(folder / "labels" / "c1.nii.gz", image(1))
    report = check.run(folder)
    assert found(report) == {
        ("error", "not_a_label_map", "c0"),
        ("error", "unnamed_labels", None),
        ("error", "label_unusable", "c1"),
    }


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_no_numbers(folder: Path, value: float) -> None:
    array = image(1)
    array[0, 0, :3] = value
    save(folder / "images" / "c1.nii.gz", array)
    report = check.run(folder)
    assert found(report) == {("error", "image_unusable", "c1")}
    assert "3 of 120 values are NaN or infinite" in message(report, "image_unusable")


def test_four_axes_where_three_are_expected(folder: Path) -> None:
    save(folder / "images" / "c1.nii.gz", np.stack([image(1), image(9)], axis=-1))
    save(folder / "labels" / "c2.nii.gz", np.stack([label(1), label(2)], axis=-1))
    report = check.run(folder)
    assert found(report) == {
        ("error", "wrong_channels", "c1"),
        ("error", "label_unusable", "c2"),
    }
    assert "4D, with 2 channel(s), where 1 (image)" in message(report, "wrong_channels")


def test_a_picture_among_volumes(folder: Path) -> None:
    save(folder / "images" / "c1.nii.gz", image(1)[:, :, 0])
    save(folder / "labels" / "c1.nii.gz", label(1)[:, :, 1])
    assert found(check.run(folder)) == {("error", "wrong_dims", "c1")}


def test_unreadable_and_truncated_files(folder: Path) -> None:
    (folder / "images" / "c0.nii.gz").write_text("not an image")
    whole = (folder / "labels" / "c3.nii.gz").read_bytes()
    (folder / "labels" / "c3.nii.gz").write_bytes(whole[: len(whole) // 2])
    report = check.run(folder)
    assert found(report) == {
        ("error", "image_unusable", "c0"),
        ("error", "label_unusable", "c3"),
    }


def test_empty_labels_and_constant_images(folder: Path) -> None:
    save(folder / "labels" / "c0.nii.gz", np.zeros(SHAPE, np.uint8))
    save(folder / "images" / "c1.nii.gz", np.full(SHAPE, 3, np.int16))
    report = check.run(folder)
    assert found(report) == {
        ("warning", "empty_label", "c0"),
        ("error", "constant_image", "c1"),
    }
    assert "every value is 3" in message(report, "constant_image")


def test_duplicates_are_found_whatever_the_file_format(folder: Path) -> None:
    (folder / "images" / "c1.nii.gz").unlink()
    save(folder / "images" / "c1.nii", image(0).astype(np.float64))
    save(folder / "labels" / "c3.nii.gz", label(2).astype(np.int16))
    report = check.run(folder)
    assert found(report) == {
        ("warning", "duplicate_image", None),
        ("warning", "duplicate_label", None),
    }
    assert "c0, c1" in message(report, "duplicate_image")
    assert "c2, c3" in message(report, "duplicate_label")


def test_patients_and_duplicates_on_two_sides(folder: Path) -> None:
    rows = [(0, "p1", "train"), (1, "p1", "test"), (2, "p2", "train"), (3, "p3", "test")]
    text = "".join(f"images/c{n}.nii.gz,labels/c{n}.nii.gz,{p},{s}\n" for n, p, s in rows)
    (folder / "datalist.csv").write_text("image,label,patient,split\n" + text)
    save(folder / "images" / "c3.nii.gz", image(2))
    report = check.run(folder)
    assert found(report) == {
        ("error", "patient_across_split", None),
        ("error", "duplicate_across_split", None),
    }
    assert "c0, c1 of one patient lie on the sides test, train" in message(
        report, "patient_across_split"
    )


def test_what_shows_only_in_the_whole(folder: Path) -> None:
    save(folder / "images" / "c0.nii.gz", image(0), np.diag([10.0, 10, 10, 1]))
    save(folder / "labels" / "c0.nii.gz", label(0), np.diag([10.0, 10, 10, 1]))
    table = LabelTable(labels=(*TABLE.labels, Label(name="rare", values=(2,))))
    report = check.run(folder, labels=table)
    assert found(report) == {
        ("warning", "odd_spacing", "c0"),
        ("warning", "unused_label", None),
    }


def test_few_patients_and_none_labelled(folder: Path) -> None:
    for number in (1, 2, 3):
        (folder / "images" / f"c{number}.nii.gz").unlink()
        (folder / "labels" / f"c{number}.nii.gz").unlink()
    assert found(check.run(folder)) == {("error", "few_patients", None)}
    (folder / "labels" / "c0.nii.gz").unlink()
    assert ("error", "no_labels", None) in found(check.run(folder))


def test_a_folder_that_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="empty"):
        check.run(tmp_path)


def test_the_report_as_json_and_as_a_table(folder: Path, tmp_path: Path) -> None:
    save(folder / "labels" / "c1.nii.gz", label(1)[:-1])
    report = check.run(folder)
    report.write_json(tmp_path / "r.json")
    report.write_table(tmp_path / "r.csv")
    tree = json.loads((tmp_path / "r.json").read_text())
    assert tree["ok"] is False
    assert tree["counts"] == {"cases": 4, "labelled": 4, "errors": 1, "warnings": 0}
    assert tree["findings"][0]["code"] == "shape_differs"
    assert tree["cases"][1]["shape"] == list(SHAPE)
    lines = list(csv.DictReader((tmp_path / "r.csv").read_text().splitlines()))
    assert [line["id"] for line in lines] == ["c0", "c1", "c2", "c3"]
    assert lines[1]["errors"] == "shape_differs"
    assert (lines[0]["shape"], lines[0]["labels"]) == ("6x5x4", "1:4")


def test_an_interruption_stops_at_once(folder: Path) -> None:
    seen = []

    def stop(progress: Progress) -> None:
        seen.append(progress.done)
        job.cancel()

    job = Job(stop)
    with pytest.raises(Interrupted):
        check.run(folder, workers=1, job=job)
    assert seen == [1]


def test_the_real_nuclei_have_no_errors(shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    source = shared_data("dsb2018_nuclei")
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
        for file in sorted((source / part).iterdir())[:6]:
            (tmp_path / part / file.name).symlink_to(file)
    report = check.run(tmp_path)
    assert not report.errors
    assert set(report.label_statistics()) == {255}
