"""What becomes of objects that are sent, whatever the other side does."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.uid import CTImageStorage, JPEG2000Lossless
from pynetdicom import AllStoragePresentationContexts, evt

from medseg_nca.io.dicom.problems import DicomError
from medseg_nca.io.dimse.address import DimseAddress
from medseg_nca.io.dimse.errors import DimseError
from medseg_nca.io.dimse.store import DimseStorage
from medseg_nca.io.dimse.tls import DimseTls
from tests.io.dicom.build import classic, pixels, save, write
from tests.io.dimse.peers import node, storescp
from tests.orthanc import Orthanc
from tests.serving.certificates import write_pair


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert not [one for one in threading.enumerate() if one not in before and one.is_alive()]


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """A CT of five slices."""
    return write(tmp_path / "ct", classic(pixels()))


class Taker:
    """Answers with statuses in their order, then with success; keeps what it was sent."""

    def __init__(self, *statuses: int) -> None:
        self.statuses, self.got = list(statuses), list[bytes]()

    def __call__(self, event: evt.Event) -> int:
        self.got.append(event.encoded_dataset())
        return self.statuses.pop(0) if self.statuses else 0


def storage(peer: DimseAddress, timeout: float = 30, tls: DimseTls | None = None) -> DimseStorage:
    return DimseStorage(peer, "ME", tls, timeout)


def instance(path: Path) -> str:
    return str(dcmread(path, stop_before_pixels=True).SOPInstanceUID)


def body(path: Path) -> bytes:
    """The data set of a file as it lies there."""
    data = path.read_bytes()
    return data[data.index(b"\x08\x00\x05\x00") :]


def test_statuses_are_told_and_files_arrive_as_they_are(files: list[Path]) -> None:
    taker = Taker(0x0000, 0xB007, 0xA900, 0x0111, 0xC000)
    with node((evt.EVT_C_STORE, taker)) as peer:
        report = storage(peer).store(files)
    assert report.refused == {instance(files[2]): 0xA900, instance(files[4]): 0xC000}
    assert "CT Image Storage" in report.notes[0]
    assert all(got.endswith(body(file)) for got, file in zip(taker.got, files, strict=True))


def test_an_archive_without_room_is_asked_again_later(files: list[Path]) -> None:
    with node((evt.EVT_C_STORE, Taker(0, 0xA702))) as peer:
        error = _fault(storage(peer), files)
    assert "no room" in error.message
    assert error.passes


def test_what_is_not_offered_is_refused_and_the_rest_is_sent(
    tmp_path: Path, files: list[Path]
) -> None:
    other = write(tmp_path / "mr", classic(pixels(), modality="MR", series="b"))[:2]
    packed = save(classic(pixels((1, 40, 40)), series="c")[0], tmp_path / "j2k", JPEG2000Lossless)
    taker = Taker()
    with node((evt.EVT_C_STORE, taker), classes=[str(CTImageStorage)]) as peer:
        report = storage(peer).store([other[0], *files, other[1], packed])
        assert report.refused == {instance(path): 0x0122 for path in other}
        assert "MR Image Storage" in report.notes[0]
        assert len(taker.got) == 6
        none = storage(peer).store(other)
    assert none.refused == {instance(path): 0x0122 for path in other}


def test_an_archive_that_aborts_once_gets_it_again_and_twice_has_refused(files: list[Path]) -> None:
    bad, times = instance(files[2]), []

    def take(event: evt.Event) -> int:
        times.append(str(event.request.AffectedSOPInstanceUID))
        if times[-1] == bad or times.count(times[-1]) == len(times) == 1:
            event.assoc.abort()
        return 0

    with node((evt.EVT_C_STORE, take)) as peer:
        report = storage(peer).store(files)
    assert report.refused == {bad: None}
    assert [times.count(instance(path)) for path in files] == [2, 1, 2, 1, 1]


def test_an_archive_that_aborts_at_everything_is_given_up(tmp_path: Path) -> None:
    paths = write(tmp_path / "ct", classic(pixels((9, 4, 4))))
    with node((evt.EVT_C_STORE, lambda event: int(bool(event.assoc.abort())))) as peer:
        assert _fault(storage(peer), paths).trouble == "refused"


def test_an_archive_that_stalls_is_given_up_and_closing_ends_at_once(files: list[Path]) -> None:
    over, began = threading.Event(), threading.Event()

    def stall(_: evt.Event) -> int:
        began.set()
        over.wait(60)
        return 0

    with node((evt.EVT_C_STORE, stall)) as peer:
        with pytest.raises(DimseError, match="did nothing for 5 s during C-STORE"):
            storage(peer, 5).store(files)
        began.clear()
        sender, told = storage(peer, 600), list[Any]()
        thread = threading.Thread(target=lambda: told.append(_fault(sender, files)))
        thread.start()
        assert began.wait(60)
        sender.close()
        thread.join(60)
        assert not thread.is_alive()
        over.set()
        assert "this side ends" in told[0].message


def _fault(sender: DimseStorage, files: list[Path]) -> DimseError:
    with pytest.raises(DimseError) as caught:
        sender.store(files)
    return caught.value


def test_more_kinds_than_one_association_can_propose(tmp_path: Path) -> None:
    kinds = [str(one.abstract_syntax) for one in AllStoragePresentationContexts[:130]]
    paths = []
    for kind, dataset in zip(kinds, classic(pixels((130, 4, 4))), strict=True):
        dataset.SOPClassUID = kind
        paths.append(save(dataset, tmp_path / kind))
    opened = list[int]()
    taker = Taker()
    with node(
        (evt.EVT_C_STORE, taker), (evt.EVT_ACCEPTED, lambda _: opened.append(1)), classes=kinds
    ) as peer:
        report = storage(peer).store(paths)
    assert (len(opened), len(taker.got), report.refused) == (2, 130, {})


def test_files_that_change_go_or_are_none(tmp_path: Path, files: list[Path]) -> None:
    def change(_: evt.Event) -> int:
        new = save(classic(pixels())[1], tmp_path / "new")
        new.replace(files[1])
        return 0

    def remove(_: evt.Event) -> int:
        files[1].unlink()
        return 0

    with node((evt.EVT_C_STORE, change)) as peer:
        assert "was changed" in _fault(storage(peer), files).message
    with node((evt.EVT_C_STORE, remove)) as peer, pytest.raises(FileNotFoundError):
        storage(peer).store(files)
    (tmp_path / "text").write_text("no DICOM")
    with pytest.raises(DicomError, match="no DICOM file"):
        storage(DimseAddress("X", "127.0.0.1", 1)).store([tmp_path / "text"])


@pytest.mark.peer
def test_dcmtk_over_tls(tmp_path: Path, files: list[Path]) -> None:
    (cert, key), (mine, secret) = write_pair(tmp_path / "it"), write_pair(tmp_path / "me")
    got = tmp_path / "got"
    with storescp(got, "+xa", "+tls", str(key), str(cert), "+cf", str(mine)) as peer:
        assert not storage(peer, tls=DimseTls(cert, mine, secret)).store(files).refused
    assert {instance(path) for path in got.iterdir()} == {instance(path) for path in files}


@pytest.mark.peer
@pytest.mark.slow
def test_orthanc_takes_a_series_and_refuses_what_it_does_not_know(
    tmp_path: Path, files: list[Path]
) -> None:
    strange = classic(pixels(), series="b")[0]
    strange.SOPClassUID = "1.2.840.10008.5.1.4.1.1.66.7"  # Label Map Segmentation, of 2024
    path = save(strange, tmp_path / "labelmap.dcm")
    archive = Orthanc(tmp_path / "orthanc").start()
    try:
        peer = DimseAddress("ORTHANC", "127.0.0.1", archive.dicom)
        report = storage(peer).store([path, *files])
        assert list(report.refused) == [str(strange.SOPInstanceUID)]
        assert len(archive.files("CT")) == 5
        assert not storage(peer).store(files).refused
    finally:
        archive.stop()
