"""What preprocessing refuses or passes over, the check says beforehand."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from medseg_nca.config.loading import load_settings
from medseg_nca.errors import DataError, MedsegError
from medseg_nca.pipelines import check, preprocess
from tests.pipelines.check.volumes import SHAPE, found, image, label, message, save


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
