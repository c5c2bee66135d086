"""De-identified copies are made again by the content of their files, and by nothing else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from medseg_nca.errors import Interrupted
from medseg_nca.io.dicom.deid.deidentify import Deidentifier
from medseg_nca.io.dicom.deid.pseudonyms import Pseudonyms
from medseg_nca.job import Job, Progress
from medseg_nca.pipelines.dicom_deidentify import DeidentifyReport, DeidentifyRequest, run
from tests.io.dicom import build

KEY = Pseudonyms(b"a key for tests, not a secret")


def request(source: Path, out: Path, **more: Any) -> DeidentifyRequest:
    return DeidentifyRequest(source, out, key=KEY, **more)


def in_another_process(source: Path, out: Path) -> dict[str, Any]:
    """The command as people start it: this process has seen files of their place, size and date."""
    done = subprocess.run(
        [sys.executable, "-m", "medseg_nca", "dicom", "deidentify", source, "--out", out, "--json"],
        env={**os.environ, "MEDSEG_NCA_DEID_KEY": KEY.key.decode()}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    tree: dict[str, Any] = json.loads(done.stdout)
    return tree


def states(out: Path) -> dict[Path, int]:
    """When each copy was written."""
    return {path: path.stat().st_mtime_ns for path in out.rglob("2.25.*.dcm")}


def last_voxels(out: Path) -> set[int]:
    return {int(dcmread(path).pixel_array.flat[-1]) for path in out.rglob("*.dcm")}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    build.write(tmp_path / "in", build.classic(build.pixels()))
    return tmp_path / "in"


def test_a_file_that_was_touched_is_not_done_again(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = run(request(source, out))
    before, report = states(out), (out / "report.json").read_bytes()
    later = time.time_ns() + 10**12
    for number, path in enumerate(sorted(source.iterdir())):
        os.utime(path, ns=(later, later) if number else (1, 1))
    again = run(request(source, out))
    assert (first.cached, again.cached, len(again.files)) == (0, 5, 5)
    assert states(out) == before
    assert (out / "report.json").read_bytes() == report
    assert in_another_process(source, out)["cached"] == 5


def test_a_file_that_changed_under_the_same_size_and_date_is_done_again(
    source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(request(source, out))
    before = states(out)
    changed = min(source.iterdir())
    old = changed.stat()
    content = bytearray(changed.read_bytes())
    content[-2] ^= 5  # the last voxel
    changed.write_bytes(content)
    os.utime(changed, ns=(old.st_atime_ns, old.st_mtime_ns))
    wanted = {int(dcmread(path).pixel_array.flat[-1]) for path in source.iterdir()}
    assert changed.stat().st_size == old.st_size
    assert last_voxels(out) != wanted
    assert in_another_process(source, out)["cached"] == 4
    assert last_voxels(out) == wanted
    after = states(out)
    assert after.keys() == before.keys()
    assert sum(after[path] != before[path] for path in after) == 1


@pytest.mark.parametrize("harm", ["gone", "cut"])
def test_a_copy_that_is_not_whole_is_made_again(harm: str, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(request(source, out))
    victim, *others = sorted(states(out))
    content = victim.read_bytes()
    if harm == "gone":
        victim.unlink()
    else:
        victim.write_bytes(content[:-10])
    before = states(out)
    assert run(request(source, out)).cached == 4
    assert victim.read_bytes() == content
    assert all(states(out)[path] == before[path] for path in others)


def test_a_cancelled_run_goes_on(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def stop(progress: Progress) -> None:
        if progress.phase == "files" and progress.done == 2:
            job.cancel()

    job = Job(stop)
    with pytest.raises(Interrupted):
        run(request(source, out), job)
    before = states(out)
    assert 2 <= len(before) < 5
    assert not (out / "report.json").exists()
    report = run(request(source, out))
    assert report.cached == len(before)
    assert len(report.files) == 5
    assert states(out).items() >= before.items()


def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    build.write(source, build.classic(build.pixels((400, 8, 6))))
    command = [sys.executable, "-m", "medseg_nca", "dicom", "deidentify", source, "--out", out,
               "--workers", "1"]  # fmt: skip
    environment = {**os.environ, "MEDSEG_NCA_DEID_KEY": KEY.key.decode()}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        while len(states(out)) < 20 and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    before = states(out)
    assert 20 <= len(before) < 400
    assert not (out / "report.json").exists()
    half = next(iter(before)).with_name(".0a1b2c3d.part.x.dcm")
    half.write_bytes(b"half a copy of a process that was killed")
    report = run(request(source, out))
    # Of the last copy the record may be missing.
    assert len(before) - 1 <= report.cached <= len(before)
    assert len(report.files) == len(states(out)) == 400
    kept = sum(states(out)[path] == date for path, date in before.items())
    assert kept == report.cached
    assert not list(out.rglob("*.part.*"))
    assert run(request(source, out)).cached == 400


def test_files_of_one_instance_that_differ_are_told_of_and_not_made_again(tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    for number in (1, 2):
        build.write(source / str(number), build.classic(build.pixels((1, 8, 6), seed=number)))
    assert [problem.kind for problem in run(request(source, out)).refused] == [
        "conflicting-instances"
    ]
    before = states(out)
    again = run(request(source, out))
    assert [problem.kind for problem in again.refused] == ["conflicting-instances"]
    assert again.cached == 1
    assert states(out) == before


def burned_in(source: Path, value: str) -> None:
    build.write(source, build.classic(build.pixels((1, 8, 6)), BurnedInAnnotation=value))


def test_a_second_file_of_an_instance_is_taken_where_the_first_is_refused(tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    burned_in(source / "1", "YES")
    burned_in(source / "2", "NO")
    report: DeidentifyReport = run(request(source, out))
    assert "burned-in-annotation" in {problem.kind for problem in report.refused}
    assert len(report.files) == len(states(out)) == 1


def test_no_copy_stays_of_a_file_that_is_refused_by_now(tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    burned_in(source, "NO")
    assert len(run(request(source, out)).files) == 1
    burned_in(source, "YES")
    report = run(request(source, out))
    assert [problem.kind for problem in report.refused] == ["burned-in-annotation"]
    assert not states(out)


def test_records_name_nobody_and_no_file(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(request(source, out, how=Deidentifier(dates="shift")))
    records = sorted((out / ".medseg-nca" / "copies").rglob("*.json"))
    assert len(records) == 5
    for record in records:
        tree = json.loads(record.read_text(encoding="utf-8"))
        assert set(tree) == {"key", "file"}
        assert (out / tree["file"]["name"]).stat().st_size == tree["file"]["bytes"]
