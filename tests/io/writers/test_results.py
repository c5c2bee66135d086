"""Results in any format, found by name; whole or not at all."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pydicom
import pytest

from medseg_nca.errors import OutputError
from medseg_nca.io.read import read_label
from medseg_nca.io.segmentation import Algorithm
from medseg_nca.io.volume import Volume
from medseg_nca.io.write import (
    needs_dicom,
    result_formats,
    write_result,
    write_results,
    write_volume,
)
from tests.cli.runner import full_disk
from tests.io.writers import results


def test_every_format_is_found_by_name() -> None:
    assert result_formats() == (
        "dicom-seg", "mha", "nifti", "nrrd", "png", "rtstruct", "sc", "sr", "tiff",
    )  # fmt: skip
    assert [name for name in result_formats() if needs_dicom(name)] == [
        "dicom-seg", "rtstruct", "sc", "sr",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "suffix"), [("nifti", ".nii.gz"), ("nrrd", ".nrrd"), ("mha", ".mha")]
)
def test_volume_formats_hold_the_label_map(tmp_path: Path, name: str, suffix: str) -> None:
    image = Volume(np.zeros((1, 5, 6, 4), np.float32), np.diag([2.0, 3.0, 4.0, 1.0]))
    segmentation = results.result(image)
    path = write_result(segmentation, tmp_path / "new" / "case.1", name)
    assert path == tmp_path / "new" / f"case.1{suffix}"
    back = read_label(path)
    assert (back.array == segmentation.label_map.array).all()
    np.testing.assert_allclose(back.affine, image.affine)


def test_several_at_once(tmp_path: Path) -> None:
    segmentation = results.result(results.series(tmp_path / "series"))
    formats = ["sr", "nifti", "dicom-seg", "sc", "rtstruct", "sr"]
    written = write_results(segmentation, tmp_path / "case", formats)
    assert sorted(path.name for path in tmp_path.glob("case*")) == [
        "case.nii.gz", "case.rtstruct.dcm", "case.sc.dcm", "case.seg.dcm", "case.sr.dcm",
    ]  # fmt: skip
    assert list(written) == ["sr", "nifti", "dicom-seg", "sc", "rtstruct"]


def test_unknown_names_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    segmentation = results.result(results.series(tmp_path / "series"))
    with pytest.raises(OutputError, match="dicom-seg"):
        write_results(segmentation, tmp_path / "case", ["nifti", "dicomseg"])
    with pytest.raises(OutputError, match="no option seg_type"):
        write_result(segmentation, tmp_path / "case", "nifti", seg_type="binary")
    with pytest.raises(OutputError, match="no option colour"):
        write_result(segmentation, tmp_path / "case", "dicom-seg", colour="red")
    with pytest.raises(OutputError):
        write_volume(segmentation.label_map, tmp_path / "case.sr")
    assert not list(tmp_path.glob("case*"))


@pytest.mark.parametrize("name", result_formats())
def test_a_disk_that_fills_up_leaves_nothing(tmp_path: Path, name: str) -> None:
    segmentation = results.result(results.series(tmp_path / "series"))
    with full_disk(20), pytest.raises(OutputError):
        write_result(segmentation, tmp_path / "out" / "case", name)
    assert not list((tmp_path / "out").glob("*"))


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".nii.gz"])
@pytest.mark.parametrize("missing", [1, 5])
def test_a_disk_that_lacks_room_for_the_last_bytes_leaves_nothing(
    tmp_path: Path, suffix: str, missing: int
) -> None:
    values = np.random.default_rng(0).integers(0, 9, (1, 40, 40, 40)).astype(np.uint8)
    volume = Volume(values, np.diag([2.0, 3.0, 4.0, 1.0]))
    first, second = tmp_path / f"first{suffix}", tmp_path / f"second{suffix}"
    write_volume(volume, first)
    with full_disk(first.stat().st_size - missing), pytest.raises(OutputError):
        write_volume(volume, second)
    assert list(tmp_path.iterdir()) == [first]


@pytest.mark.parametrize("seg_type", ["binary", "fractional"])
def test_uids_are_those_of_the_result(tmp_path: Path, seg_type: str) -> None:
    """The same result again is the same object; another voxel, model or image is another one."""
    image = results.series(tmp_path / "series", "oblique")
    first = results.result(image)
    first = dataclasses.replace(first, probabilities=results.probabilities(first))
    labels = first.label_map.array.copy()
    labels[0, 3, 3, 3] = 2 if labels[0, 3, 3, 3] != 2 else 1
    other = dataclasses.replace(first, label_map=first.label_map.with_array(labels))
    newer = dataclasses.replace(first, algorithm=Algorithm("hippocampus", "4", "0.1.0"))
    formats = ["dicom-seg", "rtstruct", "sr", "sc"]
    found = []
    for number, segmentation in enumerate((first, first, other, newer)):
        out = tmp_path / str(number)
        written = write_results(segmentation, out / "result", formats, seg_type=seg_type)
        heads = [pydicom.dcmread(path, stop_before_pixels=True) for path in written.values()]
        assert len({head.SOPInstanceUID for head in heads}) == len(formats)
        found.append([(head.SeriesInstanceUID, head.SOPInstanceUID) for head in heads])
    assert found[0] == found[1]
    assert not {uid for pair in found[0] for uid in pair} & {
        uid for kind in (*found[2], *found[3]) for uid in kind
    }
