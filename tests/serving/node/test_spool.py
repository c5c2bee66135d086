"""The spool: what it has said to keep is there, whole, once, and under no name of a peer."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pydicom
import pytest

from medseg_nca.errors import OutputError
from medseg_nca.serving.node.spool import Spool, SpoolFull, instance_key, series_key
from tests.io.dicom.build import AXIAL, classic, pixels, write

STUDY, SERIES = "1.2.3", "1.2.3.4"
KEY = series_key(STUDY, SERIES)


def keep(spool: Spool, sop: str, content: bytes = b"x" * 100) -> tuple[bool, bool]:
    kept = spool.keep(io.BytesIO(content), STUDY, SERIES, sop)
    assert kept.key == KEY
    return kept.is_new, kept.replaced


def listing(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_instances_lie_by_series_under_names_that_say_nothing(tmp_path: Path) -> None:
    spool, before = Spool(tmp_path / "spool"), time.time()
    assert keep(spool, "1.2.3.4.5") == (True, False)
    assert keep(spool, "1.2.3.4.6") == (True, False)
    other = spool.keep(io.BytesIO(b"yy"), STUDY, "../../x", "/etc/passwd")
    first, second = sorted(spool.series(), key=lambda one: -one.files)
    assert (first.key, first.study_uid, first.series_uid) == (KEY, STUDY, SERIES)
    assert (first.files, first.bytes) == (2, 200)
    assert before - 2 <= first.last <= time.time() + 2
    assert (second.key, second.series_uid) == (other.key, "../../x")
    names = {path.name for path in spool.files(KEY)}
    assert names == {f"{instance_key(sop)}.dcm" for sop in ("1.2.3.4.5", "1.2.3.4.6")}
    assert [path.name for path in tmp_path.iterdir()] == ["spool"]
    for path in (tmp_path / "spool").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_another_spool_of_the_folder_sees_the_same(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    keep(spool, "1")
    again = Spool(tmp_path)
    assert again.remove_leftovers() == 0
    assert again.series() == spool.series()
    assert again.digest(KEY) == spool.digest(KEY)
    assert again.held("12") == {"1"}


def test_what_comes_again_changes_nothing(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    keep(spool, "1")
    os.utime(spool.files(KEY)[0], (1000, 1000))
    digest, series = spool.digest(KEY), spool.series()
    assert keep(spool, "1") == (False, False)
    assert spool.series() == series
    assert series[0].last == 1000
    assert spool.digest(KEY) == digest
    assert keep(spool, "1", b"z") == (False, True)
    assert spool.digest(KEY) != digest
    assert spool.series()[0].last > 1000
    assert (spool.series()[0].files, spool.series()[0].bytes) == (1, 1)


def test_the_sender_in_the_file_meta_information_makes_no_other_instance(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    path = write(tmp_path / "in", classic(pixels((1, 4, 4)), AXIAL))[0]
    dataset = pydicom.dcmread(path)
    digests = set()
    for sender in ("ONE", "TWO"):
        dataset.file_meta.SourceApplicationEntityTitle = sender
        buffer = io.BytesIO()
        dataset.save_as(buffer)
        keep(spool, "1", buffer.getvalue())
        digests.add(spool.digest(KEY))
    assert len(digests) == 1
    assert pydicom.dcmread(spool.files(KEY)[0]).file_meta.SourceApplicationEntityTitle == "ONE"
    dataset.PatientID = "another"
    buffer = io.BytesIO()
    dataset.save_as(buffer)
    assert keep(spool, "1", buffer.getvalue()) == (False, True)


def test_the_order_of_arrival_makes_no_other_digest(tmp_path: Path) -> None:
    one, two = Spool(tmp_path / "1"), Spool(tmp_path / "2")
    for spool, order in ((one, "abc"), (two, "cab")):
        for sop in order:
            keep(spool, sop, sop.encode())
    assert one.digest(KEY) == two.digest(KEY)
    keep(two, "d")
    assert one.digest(KEY) != two.digest(KEY)


def test_a_copy_is_one_moment_of_a_series(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    for sop in "ab":
        keep(spool, sop, sop.encode())
    digest = spool.copy_to(KEY, tmp_path / "job")
    assert digest == spool.digest(KEY)
    keep(spool, "a", b"other")
    keep(spool, "c")
    content = sorted(path.read_bytes() for path in (tmp_path / "job").iterdir())
    assert content == [b"a", b"b"]
    assert not spool.remove(KEY, digest), "it is no longer what was computed"
    assert len(spool.files(KEY)) == 3
    assert spool.remove(KEY, spool.digest(KEY))
    assert (spool.series(), spool.files(KEY)) == ([], ())
    assert not spool.remove(KEY, digest)
    assert not spool.held("abc"), "nobody may rely on what is gone"
    assert len(list((tmp_path / "job").iterdir())) == 2
    with pytest.raises(OutputError, match="File exists"):
        spool.copy_to(KEY, tmp_path / "job")


def test_a_copy_to_another_disk_is_a_copy(tmp_path: Path) -> None:
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second disk here")
    spool = Spool(tmp_path)
    keep(spool, "a")
    target = other / f"medseg-{os.getpid()}"
    try:
        assert spool.copy_to(KEY, target) == spool.digest(KEY)
        assert [path.read_bytes() for path in target.iterdir()] == [b"x" * 100]
    finally:
        shutil.rmtree(target, ignore_errors=True)


def test_many_instances_are_looked_for_at_once(tmp_path: Path) -> None:
    spool, stream = Spool(tmp_path / "spool"), io.BytesIO
    for one in (0, 2):
        spool.keep(stream(b"x"), "1.1", f"1.2.{one}", f"1.3.{one}")
    assert spool.held(["1.3.0", "1.3.2", "1.3.9"]) == {"1.3.0", "1.3.2"}


def test_below_the_reserve_nothing_is_taken_and_nothing_is_left(tmp_path: Path) -> None:
    Spool(tmp_path)
    before = listing(tmp_path)
    with pytest.raises(SpoolFull, match="are to stay free"):
        keep(Spool(tmp_path, reserve_bytes=2**60), "a")
    assert listing(tmp_path) == before


def test_a_full_disk_refuses_whole_instances_until_it_has_room(small_disk: Path) -> None:
    spool = Spool(small_disk / "spool")
    keep(spool, "a", b"a" * 300_000)
    before = listing(small_disk)
    for size in (900_000, 3_000_000):
        with pytest.raises(SpoolFull, match="its disk is full"):
            keep(spool, "b", b"b" * size)
        assert listing(small_disk) == before
    keep(spool, "b", b"b" * 300_000)
    with pytest.raises(SpoolFull):
        keep(spool, "a", b"c" * 900_000)
    assert listing(small_disk).keys() > before.keys()
    assert spool.remove(KEY, spool.digest(KEY))
    assert keep(spool, "c", b"c" * 900_000) == (True, False)


def test_a_series_that_lost_its_uids_is_made_whole_by_the_next_instance(tmp_path: Path) -> None:
    keep(Spool(tmp_path), "a")
    (tmp_path / KEY / "series.json").write_text("{")
    spool = Spool(tmp_path)
    assert spool.series() == []
    keep(spool, "b")
    assert [(one.series_uid, one.files) for one in spool.series()] == [(SERIES, 2)]


def test_threads_that_bring_the_same_series_lose_nothing(tmp_path: Path) -> None:
    spool = Spool(tmp_path)

    def bring(number: int) -> None:
        for other in range(10):
            keep(spool, f"{(number + other) % 12}", b"x" * 10)

    threads = [threading.Thread(target=bring, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one.files for one in spool.series()] == [12]
    assert not any((tmp_path / ".arriving").iterdir())


KEEPER = """
import io, sys
from pathlib import Path
from medseg_nca.serving.node.spool import Spool
spool = Spool(Path(sys.argv[1]))
for number in range(10**6):
    spool.keep(io.BytesIO(b"%d " % number * 50_000), "1", str(number // 5), str(number))
    print(number, flush=True)
"""


def test_what_a_killed_process_has_kept_is_whole(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KEEPER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = [int(process.stdout.readline()) for _ in range(23)]
        process.kill()
        told += [int(line) for line in process.stdout.read().split("\n")[:-1]]
    spool = Spool(tmp_path)
    spool.remove_leftovers()
    assert not any((tmp_path / ".arriving").iterdir())
    files = {path.stem: path for one in spool.series() for path in spool.files(one.key)}
    for number in told:
        assert files.pop(instance_key(str(number))).read_bytes() == b"%d " % number * 50_000
    assert set(files) <= {instance_key(str(told[-1] + 1))}
