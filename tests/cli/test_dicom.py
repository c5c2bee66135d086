"""``medseg-nca dicom`` from the outside: tables, JSON, exit codes, and what is not shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from click.testing import CliRunner, Result
from pydicom import dcmread

from medseg_nca.cli.main import cli
from tests.io.dicom import build, referring
from tests.io.dicom.leaks import leaks, original_uids, tree_leaks


def run(*args: object, **environment: str) -> Result:
    # Wide enough that no table cuts a word.
    columns = {"COLUMNS": "300", **environment}
    return CliRunner(env=columns).invoke(cli, ["dicom", *map(str, args)])


def box() -> np.ndarray[Any, Any]:
    mask = np.zeros((5, 8, 6, 1), bool)
    mask[1:4, 2:5, 1:4] = True
    return mask


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A CT with a SEG."""
    planes = build.classic(build.pixels(), SeriesNumber=4)
    build.write(tmp_path / "in" / "ct", planes)
    build.write(tmp_path / "in" / "seg", [referring.seg(planes, box())])
    (tmp_path / "in" / "notes.txt").write_text("no DICOM")
    return tmp_path / "in"


def add_gap(folder: Path) -> None:
    gap = build.classic(build.pixels(), series="gap", SeriesNumber=5)
    build.write(folder / "gap", [*gap[:2], *gap[3:]])


def test_scan_shows_series_volumes_and_problems(folder: Path) -> None:
    add_gap(folder)
    result = run("scan", folder)
    assert result.exit_code == 0
    for text in (build.PATIENT["PatientID"], "6x8x5, 0.9x0.9x2.5 mm, LAS", "missing-slices", "seg"):
        assert text in result.stdout
    assert "1 patient(s), 1 studies, 3 series, 1 volumes, 1 problem(s)." in result.stdout
    assert "Passed over: 1 not-dicom" in result.stdout


def test_scan_as_json(folder: Path) -> None:
    add_gap(folder)
    tree = json.loads(run("scan", folder, "--json").stdout)
    assert tree["counts"] == {
        "patients": 1, "studies": 1, "series": 3, "volumes": 1, "problems": 1,
    }  # fmt: skip
    series = tree["patients"][0]["studies"][0]["series"]
    assert [(one["number"], one["kind"], one["files"]) for one in series] == [
        ("4", "image", 5), ("5", "image", 4), ("100", "seg", 1),
    ]  # fmt: skip
    stack = series[0]["stacks"][0]
    assert (stack["shape"], stack["orientation"], stack["spacing"]) == (
        [6, 8, 5],
        "LAS",
        [0.9, 0.9, 2.5],
    )
    assert np.shape(stack["affine"]) == (4, 4)
    assert series[1]["problems"][0]["kind"] == "missing-slices"
    assert series[0]["uid"] == build.uid("a", "a")


def test_scan_shows_no_control_characters_of_a_header(tmp_path: Path) -> None:
    build.write(tmp_path, build.classic(build.pixels(), SeriesDescription="head\x1b[2J\x07"))
    result = run("scan", tmp_path)
    assert "head?[2J?" in result.stdout
    assert "\x1b[2J" not in result.stdout


def test_scan_can_hide_who_it_is(folder: Path) -> None:
    add_gap(folder)
    damaged = folder / "ct" / "0000.dcm"
    secrets = {*build.SECRETS, "Synthetic", str(folder)} | original_uids(
        dcmread(path) for path in folder.rglob("*.dcm")
    )
    damaged.with_name("cut.dcm").write_bytes(damaged.read_bytes()[:900])
    for options in ((), ("--json",)):
        result = run("scan", folder, "--hash-ids", *options)
        assert result.exit_code == 0
        assert leaks(result.output.encode(), secrets) == []
    secret = {"MEDSEG_NCA_DEID_KEY": "a key that stays the same"}
    first, second = (run("scan", folder, "--hash-ids", "--json", **secret).stdout for _ in "ab")
    assert first == second


def test_scan_without_dicom(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("nothing")
    result = run("scan", tmp_path)
    assert result.exit_code == 2
    assert "holds no DICOM file" in result.stderr
    assert run("scan", tmp_path / "absent").exit_code == 2


def test_import_and_import_again(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run("import", folder, "--out", out)
    assert result.exit_code == 0, result.output
    assert "1 cases of 1 patient(s), 1 with a label map." in result.stdout
    assert "Labels: Liver." in result.stdout
    again = run("import", folder, "--out", out, "--json")
    tree = json.loads(again.stdout)
    assert (again.exit_code, tree["cached"], tree["refused"]) == (0, 1, [])
    assert tree["cases"] == tree["labelled"] == ["FAKEID-0815-XQ_4"]
    assert tree["labels"]["labels"][0]["code"]["value"] == referring.LIVER[1]


def test_import_with_refusals(folder: Path, tmp_path: Path) -> None:
    add_gap(folder)
    result = run("import", folder, "--out", tmp_path / "out", "--json")
    assert result.exit_code == 3
    refused = json.loads(result.stdout)["refused"]
    assert [(one["kind"], one["what"]) for one in refused] == [("missing-slices", "series")]
    assert "1 refused (missing-slices)" in result.stderr
    chosen = run("import", folder, "--out", tmp_path / "chosen", "--select", "SeriesNumber=4")
    assert chosen.exit_code == 0
    assert "Left out: 1 file-not-dicom, 1 not-selected." in chosen.stdout
    none = run("import", folder, "--out", tmp_path / "none", "--select", "SeriesNumber=5")
    assert none.exit_code == 2
    assert "nothing could be taken: 1 refused (missing-slices)" in none.stderr


@pytest.mark.parametrize(
    "options",
    [
        ("--select", "Modality"),
        ("--select", "Nonsense=1"),
        ("--keep-key",),
        ("--labels", "PDF"),
        ("--workers", 2, "--scheduler", "tcp://127.0.0.1:1"),
    ],
)
def test_options_that_make_no_sense(
    options: tuple[object, ...], folder: Path, tmp_path: Path
) -> None:
    result = run("import", folder, "--out", tmp_path / "out", *options)
    assert result.exit_code == 2
    assert "Traceback" not in result.output
    assert not (tmp_path / "out").exists()


def test_import_deidentified(folder: Path, tmp_path: Path) -> None:
    add_gap(folder)
    secrets = {*build.SECRETS, "Synthetic"} | original_uids(
        dcmread(path) for path in folder.rglob("*.dcm")
    )
    out, key = tmp_path / "out", tmp_path / "key"
    result = run("import", folder, "--out", out, "--deidentify", "--key-file", key)
    assert result.exit_code == 3
    assert key.stat().st_mode & 0o777 == 0o600
    assert tree_leaks(out, secrets) == {}
    shown = result.output.replace(str(folder), "").replace(str(out), "")
    assert leaks(shown.encode(), secrets) == []
    again = run("import", folder, "--out", out, "--deidentify", "--key-file", key, "--json")
    assert json.loads(again.stdout)["cached"] == 1


def test_deidentified_copies(folder: Path, tmp_path: Path) -> None:
    secrets = set(build.SECRETS) | original_uids(dcmread(path) for path in folder.rglob("*.dcm"))
    (folder / "ct" / "copy").write_bytes((folder / "ct" / "0000.dcm").read_bytes())
    out = tmp_path / "out"
    result = run("deidentify", folder, "--out", out, "--keep-key", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["files"] == 6
    assert tree_leaks(out, secrets) == {}
    files = sorted(out.rglob("*.dcm"))
    assert len(files) == 6
    before = {file: file.stat().st_mtime_ns for file in files}
    assert run("deidentify", folder, "--out", out, "--keep-key").exit_code == 0
    assert {file: file.stat().st_mtime_ns for file in files} == before
    # What refers to each other still does.
    imported = run("import", out, "--out", tmp_path / "data", "--json")
    assert len(json.loads(imported.stdout)["labelled"]) == 1
    label: Any = nib.load(next((tmp_path / "data" / "labelsTr").iterdir()))
    assert np.count_nonzero(label.dataobj) == box().sum()


def test_copies_keep_long_values(tmp_path: Path) -> None:
    spectrum = build.classic(build.pixels(), modality="MR")[0]
    del spectrum.PixelData, spectrum.Rows, spectrum.Columns
    spectrum.SOPClassUID = "1.2.840.10008.5.1.4.1.1.4.2"
    spectrum.SpectroscopyData = bytes(range(256)) * 2000
    build.write(tmp_path / "in", [spectrum])
    assert run("deidentify", tmp_path / "in", "--out", tmp_path / "out").exit_code == 0
    copy = dcmread(next((tmp_path / "out").rglob("*.dcm")))
    assert copy.SpectroscopyData == spectrum.SpectroscopyData


def test_copies_of_other_options_are_not_mixed(folder: Path, tmp_path: Path) -> None:
    key, out = tmp_path / "key", tmp_path / "out"
    command = ("deidentify", folder, "--out", out, "--key-file", key)
    assert run(*command, "--dates", "shift").exit_code == 0
    before = sorted(out.rglob("*.dcm"))
    result = run(*command)
    assert result.exit_code == 2
    assert "other options" in result.stderr
    assert run(*command, "--dates", "shift").exit_code == 0
    assert sorted(out.rglob("*.dcm")) == before


def test_deidentify_names_what_it_refuses(folder: Path, tmp_path: Path) -> None:
    writing = build.classic(build.pixels((1, 8, 6)), series="w", BurnedInAnnotation="YES")
    build.write(folder / "Zorrofake", writing)
    result = run("deidentify", folder, "--out", tmp_path / "out")
    assert result.exit_code == 3
    assert "burned-in-annotation" in result.stderr
    assert "6 files, 1 refused" in result.stdout
    assert "Zorrofake" not in result.output
    allowed = run("deidentify", folder, "--out", tmp_path / "all", "--allow-burned-in")
    assert allowed.exit_code == 0
    inside = run("deidentify", folder, "--out", folder / "out")
    assert inside.exit_code == 2
    assert "outside" in inside.stderr


def test_conflicting_files_are_told_of(tmp_path: Path) -> None:
    for number in (1, 2):
        plane = build.classic(build.pixels((1, 8, 6), seed=number))
        build.write(tmp_path / "in" / str(number), plane)
    result = run("deidentify", tmp_path / "in", "--out", tmp_path / "out")
    assert result.exit_code == 3
    assert "2 files have the same SOPInstanceUID and differ" in result.stderr
    copy = dcmread(next((tmp_path / "out").rglob("*.dcm")))
    np.testing.assert_array_equal(copy.pixel_array, build.pixels((1, 8, 6), seed=1)[0])


def test_an_image_is_written_checked_and_imported(tmp_path: Path) -> None:
    image = tmp_path / "image.nii.gz"
    array = build.pixels((6, 8, 5)).astype(np.int16)
    nib.Nifti1Image(array, np.diag([0.8, 0.9, 2.0, 1.0])).to_filename(image)
    written = run("write", image, "--out", tmp_path / "series", "--modality", "CT", "--json")
    assert written.exit_code == 0, written.output
    assert len(json.loads(written.stdout)["files"]) == 5
    checked = run("check", tmp_path / "series", "--json")
    assert checked.exit_code == 0, checked.output
    assert [one["errors"] for one in json.loads(checked.stdout)["files"]] == [[]] * 5
    assert run("import", tmp_path / "series", "--out", tmp_path / "out").exit_code == 0
    back: Any = nib.load(next((tmp_path / "out" / "imagesTr").iterdir()))
    assert sorted(np.unique(back.dataobj)) == sorted(np.unique(array))


def test_check_of_nothing_is_no_success(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no DICOM")
    result = run("check", tmp_path)
    assert result.exit_code == 2
    assert "holds no DICOM file" in result.stderr


def test_check_says_once_what_the_slices_of_a_series_share(tmp_path: Path) -> None:
    planes = build.classic(build.pixels((5, 8, 6)), modality="OT", BurnedInAnnotation=None)
    build.write(tmp_path / "in", planes)
    result = run("check", tmp_path / "in")
    assert result.exit_code in (0, 3)
    assert "and 4 more" in result.stdout
    assert result.stdout.count("(BurnedInAnnotation)") == 1


def test_check_finds_errors(tmp_path: Path) -> None:
    (tmp_path / "no.dcm").write_text("this is not DICOM")
    result = run("check", tmp_path / "no.dcm")
    assert result.exit_code == 3
    assert "1 file(s), 1 error(s)" in result.stdout
    assert json.loads(run("check", tmp_path / "no.dcm", "--json").stdout)["files"][0]["errors"]
