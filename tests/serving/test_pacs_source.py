"""Copies of remote series: fetched once, bounded, removed; and what cannot be configured."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from medseg_nca.io.dicomweb.client import DicomWebClient
from medseg_nca.io.dicomweb.errors import DicomWebError
from medseg_nca.io.dicomweb.server import DicomWebServer
from medseg_nca.serving.errors import Refused, failure_of
from medseg_nca.serving.images.image import Image
from medseg_nca.serving.images.pacs import PacsSource
from medseg_nca.serving.settings import Limits
from tests.cli.runner import run
from tests.io.dicom.build import classic, pixels, uid, write
from tests.io.dicomweb.peer import PARTS, Peer, listed, parts, peer, reply

NAMES = ("a", "b", "c")


class Archive:
    """A peer that has some series."""

    def __init__(self, peer: Peer, folder: Path) -> None:
        self.files = {
            str(uid("a", name)): write(folder / name, classic(pixels((3, 8, 6)), series=name))
            for name in NAMES
        }
        self.pause = 0.0
        peer.answer = self.answer

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        found = {name: files for name, files in self.files.items() if name in handler.path}
        if "?" in handler.path:
            entries = [
                {"uid": name, "study": str(uid("a")), "modality": "CT", "count": len(files)}
                for name, files in (found or self.files).items()
            ]
            reply(handler, 200, listed(*entries))
            return
        time.sleep(self.pause)
        (files,) = found.values()
        reply(handler, 200, parts(files), Content_Type=PARTS)


@pytest.fixture
def server() -> Iterator[Peer]:
    with peer() as found:
        yield found


@pytest.fixture
def archive(server: Peer, tmp_path: Path) -> Archive:
    return Archive(server, tmp_path / "sent")


@pytest.fixture
def client(server: Peer) -> Iterator[DicomWebClient]:
    found = DicomWebClient(DicomWebServer(server.url, timeout=2.0))
    yield found
    found.close()


def image_of(source: PacsSource, name: str = "a") -> Image:
    found = source.find(str(uid("a", name)))
    assert found is not None
    return found


def test_a_series_that_many_want_is_fetched_once(
    server: Peer, archive: Archive, client: DicomWebClient, tmp_path: Path
) -> None:
    source, got = PacsSource(client, tmp_path / "copies", Limits()), []
    archive.pause = 0.3

    def use() -> None:
        with source.using(image_of(source)) as files:
            got.append([path.read_bytes() for path in files])

    threads = [threading.Thread(target=use) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wanted = [path.read_bytes() for path in archive.files[str(uid("a", "a"))]]
    assert got == [wanted] * 6
    assert server.fetches() == 1


def test_a_series_that_changed_is_fetched_again(
    server: Peer, archive: Archive, client: DicomWebClient, tmp_path: Path
) -> None:
    source = PacsSource(client, tmp_path / "copies", Limits())
    with source.using(image_of(source)) as files:
        assert len(files) == 3
    archive.files[str(uid("a", "a"))].pop()
    with source.using(image_of(source)) as files:
        assert len(files) == 2
    assert server.fetches() == 2


def test_a_copy_is_used_for_minutes_and_for_its_own_study_alone(
    server: Peer, archive: Archive, client: DicomWebClient, tmp_path: Path
) -> None:
    """An archive that corrects a patient keeps the number of instances."""
    source = PacsSource(client, tmp_path / "copies", Limits())
    image = image_of(source)
    assert image.remote is not None
    for _ in range(2):
        with source.using(image):
            pass
    assert server.fetches() == 1
    with source.using(replace(image, remote=replace(image.remote, study_uid="1.2.3"))):
        pass
    assert server.fetches() == 2
    long_ago = time.time() - 3600
    for path in (tmp_path / "copies").rglob("*.dcm"):
        os.utime(path, (long_ago, long_ago))
    with source.using(image):
        pass
    assert server.fetches() == 3


def test_an_archive_that_hangs_takes_some_threads_and_not_all(
    server: Peer, client: DicomWebClient, tmp_path: Path
) -> None:
    """The server answers all requests with 40 threads."""
    source = PacsSource(client, tmp_path / "copies", Limits())
    hangs, refused, troubles = threading.Event(), [], []
    server.answer = lambda handler: hangs.wait(20) and None

    def ask(number: int) -> None:
        try:
            source.all() if number % 2 else source.find("1.2.3")
        except Refused as error:
            refused.append(error.status)
        except DicomWebError as error:
            troubles.append(error.trouble)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    assert sum(thread.is_alive() for thread in threads) <= 24
    assert set(refused) == {503}
    for thread in threads:
        thread.join(30)
    hangs.set()
    assert not any(thread.is_alive() for thread in threads)
    assert set(troubles) == {"slow"}
    # The list was asked for once: who waited for it is told of the failure, too.
    assert sum("offset=" in path for _, path, _ in server.asked) == 1


def test_credentials_that_cannot_be_used_are_no_fault_of_the_client(
    server: Peer, tmp_path: Path
) -> None:
    auth = tmp_path / "auth.json"
    auth.write_text("{")
    client = DicomWebClient(DicomWebServer(server.url, auth))
    source = PacsSource(client, tmp_path / "copies", Limits())
    for ask in (source.all, lambda: source.find("1.2.3")):
        with pytest.raises(DicomWebError) as caught:
            ask()
        failure = failure_of(caught.value)
        assert failure.status == 502
        assert "auth" not in failure.detail
    client.close()


def test_copies_are_bounded_and_removed(
    archive: Archive, client: DicomWebClient, tmp_path: Path
) -> None:
    folder = tmp_path / "copies"
    size = sum(path.stat().st_size for path in archive.files[str(uid("a", "a"))])
    source = PacsSource(client, folder, Limits(cached_bytes=2 * size + 100))
    for name in NAMES:
        with source.using(image_of(source, name)) as files:
            assert files
        assert sum(p.stat().st_size for p in folder.rglob("*.dcm")) <= 2 * size + 100
        time.sleep(0.02)
    assert len(list(folder.iterdir())) == 2
    source.sweep()
    assert len(list(folder.iterdir())) == 2
    PacsSource(client, folder, Limits(session_age=-1.0)).sweep()
    assert not list(folder.iterdir())


def test_a_fetch_that_fails_leaves_nothing(
    server: Peer, archive: Archive, client: DicomWebClient, tmp_path: Path
) -> None:
    source = PacsSource(client, tmp_path / "copies", Limits(inflated_bytes=500))
    image = image_of(source)
    for trouble, status in (("too-large", 413), ("slow", 504)):
        archive.pause = 4.0 if trouble == "slow" else 0.0
        with pytest.raises(DicomWebError) as caught, source.using(image):
            pass
        failure = failure_of(caught.value)
        assert (caught.value.trouble, failure.status) == (trouble, status)
        assert server.url not in failure.detail
        assert failure.hint
        assert not list((tmp_path / "copies").iterdir())


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--studies", "https://ann:secret@pacs/dicom-web"), "holds a user or a password"),
        (("--studies", "http://pacs/dicom-web"), "--dicomweb-insecure"),
        (("--studies", "ftp://pacs"), "https://"),
        (("--studies", "https://pacs", "--dicomweb-auth", "nowhere.json"), "nowhere.json"),
        (("--studies", "https://pacs", "--dicomweb-ca", "nowhere.pem"), "nowhere.pem"),
        (("--store",), "no DICOMweb server"),
        (("--studies", "nowhere"), "/nowhere. Next: Name a folder"),
    ],
)
def test_what_cannot_be_configured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("serve", "--models", "zoo:nuclei", "--port", "0", *options)
    assert done.exit_code == 2
    said = " ".join(done.output.split())
    assert text in said
    assert "secret" not in said
