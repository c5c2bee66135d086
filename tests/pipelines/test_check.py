"""The check of a data set finds each fault, and says whether it is an error or a warning."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from medseg_nca.config import Label, LabelTable
from medseg_nca.config.loading import load_settings
from medseg_nca.datasets.adapters.phantom import write_phantom
from medseg_nca.errors import DataError, Interrupted, MedsegError
from medseg_nca.job import Job, Progress
from medseg_nca.pipelines import check, preprocess
from medseg_nca.pipelines.check_report import CheckReport

SHAPE = (6, 5, 4)
TABLE = LabelTable(labels=(Label(name="organ", values=(1,)),))


def save(path: Path, array: NDArray[np.generic], affine: NDArray[np.float64] | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.Nifti1Image(array, np.eye(4) if affine is None else affine).to_filename(path)


def image(seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=SHAPE).astype(np.float32)


def label(seed: int) -> NDArray[np.uint8]:
    array = np.zeros(SHAPE, np.uint8)
    array[1 : 3 + seed % 3, 1 : 2 + seed // 3, 1:3] = 1
    return array


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four good cases; each test spoils one thing."""
    root = tmp_path / "set"
    for number in range(4):
        save(root / "images" / f"c{number}.nii.gz", image(number))
        save(root / "labels" / f"c{number}.nii.gz", label(number))
    return root


def found(report: CheckReport) -> set[tuple[str, str, str | None]]:
    return {(finding.level, finding.code, finding.case) for finding in report.findings}


def message(report: CheckReport, code: str) -> str:
    return next(finding.message for finding in report.findings if finding.code == code)


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


def named(folder: Path, text: str = '{"organ": 1}') -> None:
    (folder / "labels.json").write_text(text)


def put_labels(folder: Path, array: NDArray[np.generic], *numbers: int) -> None:
    for number in numbers:
        save(folder / "labels" / f"c{number}.nii.gz", array)


def put_images(folder: Path, array: NDArray[np.generic], *numbers: int) -> None:
    for number in numbers:
        save(folder / "images" / f"c{number}.nii.gz", array + np.float32(number))


def put_far(folder: Path) -> None:
    far = np.diag([1e4, 1e4, 1e4, 1])
    save(folder / "images" / "c0.nii.gz", image(0), far)
    save(folder / "labels" / "c0.nii.gz", label(0), far)


EMPTY = np.zeros(SHAPE, np.uint8)
SERIES = np.random.default_rng(5).normal(size=(*SHAPE, 30)).astype(np.float32)
MANY = np.arange(120, dtype=np.uint8).reshape(SHAPE)
# What is done to a good data set: the findings of a check, and what preprocess says to it.
SPOILT: dict[str, tuple[Callable[[Path], None], set[str], str]] = {
    "nothing": (lambda f: None, set(), ""),
    "all labels empty": (
        lambda f: put_labels(f, EMPTY, 0, 1, 2, 3), {"nothing_to_learn"}, "every label map is empty"
    ),
    "all labels empty, and named": (
        lambda f: (named(f), put_labels(f, EMPTY, 0, 1, 2, 3))[0],
        {"nothing_to_learn"}, "every label map is empty",
    ),
    "one label empty": (lambda f: put_labels(f, EMPTY, 0), set(), ""),
    "labels of other numbers": (
        lambda f: named(f, '{"organ": 5}'),
        {"nothing_to_learn", "unknown_label_value"}, "hold 1, the labels mean 5",
    ),
    "numbers of objects": (
        lambda f: put_labels(f, MANY, 0), {"not_a_label_map", "unnamed_labels"}, "119 different"
    ),
    "a number below zero": (
        lambda f: put_labels(f, label(0).astype(np.int16) - 1, 0),
        {"unnamed_labels", "unknown_label_value"}, "hold -1",
    ),
    "time series": (
        lambda f: put_images(f, SERIES, 0, 1, 2, 3), {"unnamed_channels"}, "30 volumes that have no"
    ),
    "one time series, the first": (
        lambda f: put_images(f, SERIES, 0), {"wrong_channels"}, "c0.nii.gz: is 4D with 30 volumes"
    ),
    "a slice, the first": (
        lambda f: (save(f / "images" / "c0.nii.gz", image(0)[..., 0]),
                   save(f / "labels" / "c0.nii.gz", label(0)[..., 1]))[0],
        {"wrong_dims"}, "c0.nii.gz: has 2 axes",
    ),
    "a spacing out of all reason": (put_far, {"absurd_spacing"}, "makes 1.2e+14 voxels"),
    "no label maps": (
        lambda f: shutil.rmtree(f / "labels"), {"no_labels"}, "no case has a label map"
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", SPOILT)
def test_what_preprocess_refuses_the_check_reports_as_an_error(
    folder: Path, tmp_path: Path, how: str
) -> None:
    spoil, codes, refusal = SPOILT[how]
    spoil(folder)
    report = check.run(folder)
    assert {finding.code for finding in report.errors} == codes
    with pytest.raises(MedsegError) if refusal else nullcontext() as refused:
        preprocess.run(
            preprocess.PreprocessRequest(folder, tmp_path / "out", load_settings(None), workers=0)
        )
    if refusal:
        failures = getattr(refused.value, "failures", {})
        assert refusal in " ".join([refused.value.message, *failures.values()])
    if "the first" in how:
        assert {finding.case for finding in report.errors} == {"c0"}


def test_many_channels_that_have_names_are_channels(folder: Path, tmp_path: Path) -> None:
    put_images(folder, SERIES, 0, 1, 2, 3)
    names = ", ".join(f"echo{number}" for number in range(30))
    (folder / "dataset.yaml").write_text(f"channels: [{names}]")
    assert not check.run(folder).errors
    store = preprocess.run(
        preprocess.PreprocessRequest(folder, tmp_path / "out", load_settings(None), workers=0)
    )
    assert store.plan.in_channels == 30


def test_other_channels_than_the_data_set_names(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put_images(folder, SERIES[..., :2], 0, 1, 2, 3)
    (folder / "dataset.yaml").write_text("channels: [T1, T2, FLAIR]")
    report = check.run(folder)
    assert found(report) == {("warning", "other_channels", None)}
    text = "names 3 channel(s) (T1, T2, FLAIR), and most images have 2: they are called channel_0"
    assert text in message(report, "other_channels")
    preprocess.run(
        preprocess.PreprocessRequest(folder, tmp_path / "out", load_settings(None), workers=0)
    )
    assert text in caplog.text


def test_files_in_sub_folders_are_not_passed_over_in_silence(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for part in ("images", "labels"):
        save(folder / part / "site" / "p7" / "c9.nii.gz", label(0))
    save(folder / "images" / ".hidden" / "c9.nii.gz", label(0))
    report = check.run(folder)
    assert found(report) == {("warning", "sub_folder", None)}
    shown = message(report, "sub_folder")
    assert shown.startswith(
        f"{folder / 'images'}: 1 file(s) in sub-folders are passed over: site/p7."
    )
    assert "datalist.csv" in shown
    preprocess.run(
        preprocess.PreprocessRequest(folder, tmp_path / "out", load_settings(None), workers=0)
    )
    assert f"{folder / 'labels'}: 1 file(s) in sub-folders are passed over" in caplog.text


def test_a_datalist_takes_files_of_sub_folders(folder: Path) -> None:
    (folder / "images" / "p7").mkdir()
    (folder / "images" / "c0.nii.gz").rename(folder / "images" / "p7" / "c0.nii.gz")
    rows = [f"images/{'p7/' * (n == 0)}c{n}.nii.gz,labels/c{n}.nii.gz" for n in range(4)]
    (folder / "datalist.csv").write_text("\n".join(["image,label", *rows]))
    assert check.run(folder).findings == ()


def test_images_in_nothing_but_sub_folders(folder: Path) -> None:
    (folder / "images").rename(folder / "patients")
    (folder / "images").mkdir()
    (folder / "patients").rename(folder / "images" / "patients")
    with pytest.raises(DataError, match=r"images: its images lie in sub-folders \(patients\)") as e:
        check.run(folder)
    assert "datalist.csv" in str(e.value.hint)
