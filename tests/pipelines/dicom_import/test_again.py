"""An import that is run again makes what is missing, and nothing else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medseg_nca.datasets.find import open_dataset
from medseg_nca.errors import ConfigError, OutputError
from medseg_nca.io.read import read_label, read_volume
from medseg_nca.pipelines import dicom_case
from medseg_nca.pipelines.dicom_import import ImportRequest, ImportSettings, run
from medseg_nca.work import finished
from tests.io.dicom import build
from tests.pipelines.dicom_import.clinic import HIDE, clinic, ct


def test_a_killed_run_loses_nothing(tmp_path: Path) -> None:
    source, out = clinic(tmp_path / "in"), tmp_path / "out"
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from medseg_nca.work import finished\n"
        "from medseg_nca.pipelines.dicom_import import ImportRequest, ImportSettings, run\n"
        "write = finished.write_json\n"
        "def die(path, tree):\n"
        "    write(path, tree)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "finished.write_json = die\n"
        "settings = ImportSettings(deidentify=True)\n"
        "run(ImportRequest(Path(sys.argv[1]), Path(sys.argv[2]), settings))\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(source), str(out)], check=False)
    assert done.returncode == -signal.SIGKILL
    report = run(ImportRequest(source, out, ImportSettings(deidentify=True)))
    assert (report.cached, len(report.records)) == (1, 3)
    assert not (out / ".medseg-nca" / "key").exists()


def test_selection_and_what_an_earlier_one_left(tmp_path: Path) -> None:
    source = clinic(tmp_path / "in")
    run(ImportRequest(source, tmp_path / "out"))
    report = run(ImportRequest(source, tmp_path / "out", ImportSettings(select="Modality=MR")))
    assert [one.id for _, one in report.maps] == ["FAKEID-0815-XQ_2"]
    assert report.refused == ()
    assert report.left_out == {"file-not-dicom": 1, "not-selected": 3}
    images = [path.name for path in (tmp_path / "out" / "imagesTr").iterdir()]
    labels = [path.name for path in (tmp_path / "out" / "labelsTr").iterdir()]
    assert images == labels == ["FAKEID-0815-XQ_2.nii.gz"]
    # The labels are numbered anew: the liver is gone.
    assert set(np.unique(read_label(tmp_path / "out" / "labelsTr" / labels[0]).array)) == {0, 1, 2}
    with pytest.raises(ConfigError, match="did you mean"):
        run(ImportRequest(source, tmp_path / "out", ImportSettings(select="Modallity=MR")))


def test_a_second_run_makes_only_what_is_missing(tmp_path: Path) -> None:
    source, out = clinic(tmp_path / "in"), tmp_path / "out"
    first = run(ImportRequest(source, out))
    label = out / "labelsTr" / "FAKEID-0815-XQ_1.nii.gz"
    before = label.stat().st_mtime_ns
    (out / "imagesTr" / "FAKEID-0815-XQ_2.nii.gz").unlink()
    second = run(ImportRequest(source, out))
    assert second.cached == 2
    assert second.maps == first.maps
    assert label.stat().st_mtime_ns == before
    build.write(source / "new", ct(series="n", study="n", PatientID="A-NEW-ONE"))
    third = run(ImportRequest(source, out))
    assert third.cached == 3
    assert len(third.records) == 4


def test_content_decides_what_is_made_again(tmp_path: Path) -> None:
    source, out = clinic(tmp_path / "in"), tmp_path / "out"
    first = run(ImportRequest(source, out))
    files = sorted(path for path in source.rglob("*") if path.is_file())
    for path in files:  # a copy of the folder on another day
        os.utime(path, ns=(1, 1))
    assert run(ImportRequest(source, out)).cached == len(first.records) == 3
    changed = next((source / "a" / "mr").iterdir())
    before = changed.stat()
    content = bytearray(changed.read_bytes())
    content[-1] ^= 1  # the last voxel
    changed.write_bytes(content)
    os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert changed.stat().st_size == before.st_size
    # Another process: this one has seen a file of that place, size and time.
    program = (
        "import sys; from pathlib import Path\n"
        "from medseg_nca.pipelines.dicom_import import ImportRequest, run\n"
        "print(run(ImportRequest(*map(Path, sys.argv[1:]))).cached)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, source, out], capture_output=True, text=True, check=True
    )
    assert done.stdout == "2\n"


def test_records_of_an_earlier_version_are_made_again(tmp_path: Path) -> None:
    source, out = clinic(tmp_path / "in"), tmp_path / "out"
    first = run(ImportRequest(source, out))
    for path in (out / ".medseg-nca" / "cases").glob("*.json"):
        tree = json.loads(path.read_text())
        path.write_text(json.dumps({**tree, "key": "0" * 32}))
    again = run(ImportRequest(source, out))
    assert again.cached == 0
    assert again.maps == first.maps


def test_a_record_does_not_outlive_the_volume_that_it_describes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files change, the disk is full once the new image is written, and they change back."""
    source, out = tmp_path / "in", tmp_path / "out"
    build.write(source, ct())
    file = next(source.iterdir())
    run(ImportRequest(source, out))
    image = next((out / "imagesTr").iterdir())
    content, voxels = file.read_bytes(), read_volume(image).array
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))

    def full(path: Path, tree: Any) -> None:
        raise OutputError(f"{path}: cannot be written (No space left on device).")

    # A limit on the size of files cannot let the image pass and stop its smaller record.
    with monkeypatch.context() as patch:
        patch.setattr(finished, "write_json", full)
        with pytest.raises(OutputError, match="No space"):
            run(ImportRequest(source, out))
    assert not np.array_equal(read_volume(image).array, voxels)
    file.write_bytes(content)
    assert run(ImportRequest(source, out)).cached == 0
    np.testing.assert_array_equal(read_volume(image).array, voxels)


def test_a_full_disk_stops_it_and_the_same_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = clinic(tmp_path / "in"), tmp_path / "out"
    written: list[Path] = []

    def filling(write: Callable[[Any, Path], None]) -> Callable[[Any, Path], None]:
        def fill(volume: Any, path: Path) -> None:
            if len(written) == 2:
                raise OutputError(f"{path}: cannot be written (No space left on device).")
            written.append(path)
            write(volume, path)

        return fill

    # A limit on the size of files would stop the first volume, not the third.
    with monkeypatch.context() as patch:
        for name in ("write_volume", "write_slices"):
            patch.setattr(dicom_case, name, filling(getattr(dicom_case, name)))
        with pytest.raises(OutputError, match="No space"):
            run(ImportRequest(source, out, ImportSettings(deidentify=True)))
    assert not (out / "dataset.json").exists()
    report = run(ImportRequest(source, out, ImportSettings(deidentify=True)))
    assert report.cached == 1
    assert len(report.records) == 3
    assert len(open_dataset(out).cases) == 3
    assert not list(out.rglob("*.part*"))


def test_folders_that_are_in_use_are_refused(tmp_path: Path) -> None:
    source = clinic(tmp_path / "in")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    with pytest.raises(OutputError, match="is not empty"):
        run(ImportRequest(source, tmp_path / "full"))
    with pytest.raises(OutputError, match="cannot be the new data set"):
        run(ImportRequest(source, source))
    run(ImportRequest(source, tmp_path / "out"))
    with pytest.raises(OutputError, match="not de-identified"):
        run(ImportRequest(source, tmp_path / "out", HIDE))
    with pytest.raises(OutputError, match="another folder"):
        run(ImportRequest(source / "b", tmp_path / "out"))


def test_a_folder_that_has_become_empty_removes_nothing(tmp_path: Path) -> None:
    build.write(tmp_path / "in", ct())
    run(ImportRequest(tmp_path / "in", tmp_path / "out", HIDE))
    (tmp_path / "in").rename(tmp_path / "away")
    (tmp_path / "in").mkdir()
    assert run(ImportRequest(tmp_path / "in", tmp_path / "out", HIDE)).records == ()
    (tmp_path / "in").rmdir()
    (tmp_path / "away").rename(tmp_path / "in")
    assert run(ImportRequest(tmp_path / "in", tmp_path / "out", HIDE)).cached == 1


@pytest.mark.slow
def test_two_workers_make_the_same(tmp_path: Path) -> None:
    source = clinic(tmp_path / "in")
    here, there = (run(ImportRequest(source, tmp_path / str(n), HIDE, workers=n)) for n in (0, 2))
    assert here.maps == there.maps
    for _, one in here.maps:
        first, second = (read_volume(tmp_path / n / one.image) for n in ("0", "2"))
        np.testing.assert_array_equal(first.array, second.array)
