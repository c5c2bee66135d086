"""Searching and fetching by DIMSE, from archives that do it right, wrong, slowly or not at all."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from medseg_nca.errors import ConfigError, Interrupted
from medseg_nca.io.dicom.query import query_of
from medseg_nca.io.dicom.remote import FetchLimits, RemoteSeries
from medseg_nca.io.dicom.select import parse_selection
from medseg_nca.io.dimse.address import DimseAddress
from medseg_nca.io.dimse.errors import DimseError
from medseg_nca.io.dimse.retrieve import DimseArchive
from tests.io.dicom.build import classic, pixels, uid, write
from tests.io.dimse.archive import Archive, running

ONE = RemoteSeries(str(uid("a", "one")), str(uid("a")), "MR", 3)


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    """An MR of three slices, and a CT of another study."""
    mr = [
        path
        for name, count in (("one", 3), ("two", 2))
        for path in write(
            tmp_path / name, classic(pixels((count, 8, 6)), modality="MR", series=name)
        )
    ]
    ct = classic(pixels((2, 8, 6)), series="ct", study="b", PatientID="OTHER")
    return Archive([*mr, *write(tmp_path / "ct", ct)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "got").mkdir()
    return tmp_path / "got"


@pytest.fixture
def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = int(one.getsockname()[1])
    return port


def client(archive: Archive, **how: Any) -> DimseArchive:
    address = DimseAddress("ARCHIVE", "127.0.0.1", archive.port)
    return DimseArchive(address, "MEDSEG_NCA", **{"timeout": 30.0, **how})


def fetch(
    found: DimseArchive, folder: Path, series: RemoteSeries = ONE, arrived: Any = lambda count: None
) -> tuple[Path, ...]:
    return found.fetch(series, folder, FetchLimits(), arrived)


def trouble(found: DimseArchive, folder: Path, limits: FetchLimits | None = None) -> DimseError:
    with pytest.raises(DimseError) as caught:
        found.fetch(ONE, folder, limits or FetchLimits(), lambda count: None)
    assert ONE.uid not in str(caught.value)
    return caught.value


def series_found(found: DimseArchive, select: str) -> list[tuple[str, int | None]]:
    told = found.search(query_of(parse_selection(select)))
    return [(one.modality, one.instances) for one in told]


def test_series_are_searched_by_study(archive: Archive) -> None:
    with running(archive):
        found = client(archive)
        assert series_found(found, "PatientID=OTHER,SeriesDescription~x") == [("CT", 2)]
        levels = [one.QueryRetrieveLevel for one in archive.asked]
        assert levels == ["STUDY", "SERIES"]
        assert archive.asked[0].PatientID == "OTHER"
        assert "SeriesDescription" in archive.asked[1]
        assert series_found(found, "PatientID=NOBODY") == []
        told = found.search(query_of(parse_selection("Modality=MR")))
        assert [one.uid for one in told] == [ONE.uid, str(uid("a", "two"))]
        assert told[0].tags["PatientID"] == "FAKEID-0815-XQ"


@pytest.mark.parametrize("strict", [False, True])
def test_a_series_can_be_named_alone(archive: Archive, strict: bool) -> None:
    archive.strict, archive.counts = strict, False
    with running(archive):
        assert series_found(client(archive), f"SeriesInstanceUID={ONE.uid}") == [("MR", None)]
    assert len(archive.asked) == (4 if strict else 1)


@pytest.mark.parametrize("method", ["get", "move"])
def test_a_series_comes_whole(archive: Archive, folder: Path, method: str, free_port: int) -> None:
    archive.destinations["MEDSEG_NCA"] = free_port
    told: list[int] = []
    with running(archive):
        found = client(archive, method=method, move_port=free_port)
        paths = fetch(found, folder, arrived=told.append)
    assert len(paths) == len(list(folder.iterdir())) == 3
    assert told[-1] == 3
    assert archive.fetched == [f"C-{method.upper()}"]


def test_c_move_is_taken_where_there_is_no_c_get(
    archive: Archive, folder: Path, free_port: int
) -> None:
    archive.destinations["MEDSEG_NCA"] = free_port
    with running(archive, "Find", "Move"):
        lacking = trouble(client(archive), folder)
        assert (lacking.trouble, "--move-port" in str(lacking)) == ("unsupported", True)
        assert trouble(client(archive, method="get"), folder).trouble == "unsupported"
        assert len(fetch(client(archive, move_port=free_port), folder)) == 3
    assert archive.fetched == ["C-MOVE"]
    with pytest.raises(ConfigError, match="needs a port"):
        client(archive, method="move")


def test_an_archive_that_does_not_know_us_says_what_to_register(
    archive: Archive, folder: Path, free_port: int
) -> None:
    with running(archive):
        found = trouble(client(archive, method="move", move_port=free_port), folder)
    assert found.trouble == "refused"
    assert "0xA801" in str(found)
    assert f"MEDSEG_NCA there with 127.0.0.1, port {free_port}" in str(found)


def test_a_port_that_is_taken_is_named(archive: Archive, folder: Path) -> None:
    with running(archive), pytest.raises(ConfigError, match=f"port {archive.port} of 127.0.0.1"):
        fetch(client(archive, method="move", move_port=archive.port), folder)


@pytest.mark.parametrize("method", ["get", "move"])
def test_what_is_not_the_series_is_refused(
    archive: Archive, folder: Path, method: str, free_port: int
) -> None:
    archive.destinations["MEDSEG_NCA"] = free_port
    with running(archive):
        found = client(archive, method=method, move_port=free_port)
        archive.sends = archive.files[1:5]
        assert trouble(found, folder).trouble == "wrong"
        archive.sends = archive.files[:2]
        lacking = trouble(found, folder)
        assert lacking.trouble == "incomplete"
        assert "2 instances of a series that has 3" in str(lacking)
        archive.sends = []
        assert trouble(found, folder).trouble == "missing"


def test_a_missing_count_is_taken_from_the_instances(archive: Archive, folder: Path) -> None:
    archive.sends = archive.files[:2]
    with running(archive), pytest.raises(DimseError, match="2 instances of a series that has 3"):
        fetch(client(archive), folder, RemoteSeries(ONE.uid, ONE.study_uid))


@pytest.mark.parametrize("method", ["get", "move"])
def test_an_archive_that_stalls_is_given_up(
    archive: Archive, folder: Path, method: str, free_port: int
) -> None:
    archive.destinations["MEDSEG_NCA"] = free_port
    archive.waits = threading.Event()
    with running(archive):
        found = client(archive, method=method, move_port=free_port, timeout=2.0)
        assert trouble(found, folder).trouble == "slow"


@pytest.mark.parametrize("method", ["get", "move"])
def test_a_fetch_can_be_cancelled(
    archive: Archive, folder: Path, method: str, free_port: int
) -> None:
    archive.destinations["MEDSEG_NCA"] = free_port
    archive.waits = threading.Event()

    def stop(count: int) -> None:
        raise Interrupted("Enough.")

    with running(archive), pytest.raises(Interrupted):
        fetch(client(archive, method=method, move_port=free_port), folder, arrived=stop)


def test_no_more_is_taken_than_allowed(archive: Archive, folder: Path) -> None:
    with running(archive):
        found = client(archive)
        assert trouble(found, folder, FetchLimits(bytes=2000)).trouble == "too-large"
        assert trouble(found, folder, FetchLimits(instances=2)).trouble == "too-large"


def test_an_archive_that_is_not_there_or_refuses(
    archive: Archive, folder: Path, free_port: int
) -> None:
    archive.port = free_port
    assert trouble(client(archive), folder).trouble == "unreachable"
    for status, kind in ((0xA700, "busy"), (0x0124, "unauthorised"), (0xC001, "faulty")):
        archive.status = status
        with running(archive):
            assert trouble(client(archive), folder).trouble == kind
