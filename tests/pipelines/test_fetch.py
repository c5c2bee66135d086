"""Fetching, against a server on this machine: resumed, checked, unpacked safely."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from medseg_nca.datasets import decathlon
from medseg_nca.errors import DataError, DownloadError, OutputError
from medseg_nca.job import Job, Progress
from medseg_nca.pipelines import download as downloading
from medseg_nca.pipelines import fetch

NAME = "Task09_Spleen"
LISTING = json.dumps({"training": [{"image": "imagesTr/a.nii.gz"}]}).encode()
CONTENT = bytes(range(256)) * 2000


@dataclass
class Served:
    """What the server sends, and how badly."""

    content: bytes
    ranges: bool = True
    break_after: int | None = None  # bytes of the next answer, then the connection ends
    status: int | None = None
    claim: int | None = None  # bytes that the answer says it has, if that is not the truth
    asked: list[str | None] = field(default_factory=list)
    url: str = ""


class Handler(BaseHTTPRequestHandler):
    served: Served

    def do_GET(self) -> None:
        served, wanted = self.served, self.headers.get("Range")
        served.asked.append(wanted)
        if served.status:
            self.send_error(served.status)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and served.ranges else 0
        size = len(served.content)
        if start >= size > 0:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{size}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        self.send_header("Content-Length", str(served.claim or size - start))
        self.end_headers()
        end = size if served.break_after is None else start + served.break_after
        served.break_after = None
        self.wfile.write(served.content[start:end])
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def served() -> Iterator[Served]:
    state = Served(b"")
    handler = type("Bound", (Handler,), {"served": state})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.01))
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}/{NAME}.tar"
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


def pack(files: dict[str, bytes | tarfile.TarInfo]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in files.items():
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
                continue
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


GOOD = pack(
    {
        f"{NAME}/dataset.json": LISTING,
        f"./{NAME}/imagesTr/a.nii.gz": CONTENT,
        f"{NAME}/imagesTr/._a.nii.gz": b"litter",
    }
)


@pytest.fixture
def checksum(monkeypatch: pytest.MonkeyPatch) -> None:
    """The spleen's archive is GOOD."""
    known = replace(decathlon.SOURCES[NAME], md5=hashlib.md5(GOOD).hexdigest())
    monkeypatch.setitem(decathlon.SOURCES, NAME, known)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    file = tmp_path / "mirror.tar"
    file.write_bytes(GOOD)
    return file


@pytest.mark.usefixtures("checksum")
def test_downloaded_checked_and_unpacked(served: Served, tmp_path: Path) -> None:
    served.content = GOOD
    stages: dict[str, tuple[int, int | None]] = {}

    def note(progress: Progress) -> None:
        stages[progress.phase] = (progress.done, progress.total)

    folder = fetch.run("spleen", tmp_path / "data", served.url, job=Job(note))
    assert folder == tmp_path / "data" / NAME
    assert (folder / "dataset.json").read_bytes() == LISTING
    assert (folder / "imagesTr" / "a.nii.gz").read_bytes() == CONTENT
    assert sorted(path.name for path in folder.rglob("*")) == [
        "a.nii.gz", "dataset.json", "imagesTr",
    ]  # fmt: skip
    assert [path.name for path in (tmp_path / "data").iterdir()] == [NAME]
    assert list(stages) == ["downloading", "verifying", "unpacking"]
    assert stages["downloading"] == (len(GOOD), len(GOOD))


@pytest.mark.usefixtures("checksum")
def test_what_is_there_is_left_alone(served: Served, archive: Path, tmp_path: Path) -> None:
    fetch.run(NAME, tmp_path, str(archive))
    fetch.run(NAME, tmp_path, served.url)
    assert served.asked == []
    assert archive.is_file()


@pytest.mark.usefixtures("checksum")
def test_a_download_can_be_kept_and_is_used_again(served: Served, tmp_path: Path) -> None:
    served.content = GOOD
    folder = fetch.run(NAME, tmp_path, served.url, keep=True)
    assert (tmp_path / f"{NAME}.tar").read_bytes() == GOOD
    folder.rename(tmp_path / "moved")
    fetch.run(NAME, tmp_path, served.url)
    assert len(served.asked) == 1


def test_a_wrong_checksum_removes_the_download_but_no_file_of_the_user(
    served: Served, archive: Path, tmp_path: Path
) -> None:
    served.content = GOOD
    with pytest.raises(DownloadError, match=r"the checksum is .* has been removed"):
        fetch.run(NAME, tmp_path / "out", served.url)
    assert not list((tmp_path / "out").iterdir())
    with pytest.raises(DownloadError, match="checksum"):
        fetch.run(NAME, tmp_path / "out", str(archive))
    assert archive.is_file()
    assert fetch.run(NAME, tmp_path / "out", str(archive), verify=False).is_dir()


def link(name: str, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info


@pytest.mark.parametrize(
    "files",
    [
        {f"{NAME}/dataset.json": LISTING, f"{NAME}/../../evil": b"x"},
        {f"{NAME}/dataset.json": LISTING, f"{NAME}/l": link(f"{NAME}/l", "/etc/passwd")},
    ],
)
def test_an_archive_that_reaches_outside_is_refused(
    tmp_path: Path, files: dict[str, bytes | tarfile.TarInfo]
) -> None:
    file = tmp_path / "x.tar"
    file.write_bytes(pack(files))
    with pytest.raises(DownloadError, match="no plain file inside"):
        fetch.run(NAME, tmp_path / "out", str(file), verify=False)
    assert not list((tmp_path / "out").iterdir())
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"no archive", "not a complete tar"),
        (GOOD[: len(GOOD) // 2], "not a complete tar"),
        (pack({"x/readme.txt": b"x"}), r"holds no dataset\.json"),
    ],
)
def test_an_archive_that_is_something_else(tmp_path: Path, content: bytes, complaint: str) -> None:
    file = tmp_path / "x.tar"
    file.write_bytes(content)
    with pytest.raises(DownloadError, match=complaint):
        fetch.run(NAME, tmp_path / "out", str(file), verify=False)
    assert not (tmp_path / "out" / NAME).exists()


def test_something_in_the_way(archive: Path, tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    with pytest.raises(OutputError, match="is in the way"):
        fetch.run(NAME, tmp_path, str(archive))


def test_a_missing_file_and_an_unknown_name(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"gone\.tar: there is no such file"):
        fetch.run(NAME, tmp_path, str(tmp_path / "gone.tar"))
    with pytest.raises(DataError, match="Unknown data set to fetch 'kidney'"):
        fetch.run("kidney", tmp_path)


def test_a_broken_connection_goes_on_where_it_stopped(served: Served, tmp_path: Path) -> None:
    served.content, served.break_after = CONTENT, 300_000
    downloading.download(served.url, tmp_path / "f", waits=[0.0])
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert served.asked == [None, "bytes=300000-"]


def test_an_earlier_attempt_is_gone_on_with(served: Served, tmp_path: Path) -> None:
    served.content = CONTENT
    (tmp_path / "f.part").write_bytes(CONTENT[:1000])
    seen: list[tuple[int, int | None]] = []
    job = Job(lambda progress: seen.append((progress.done, progress.total)))
    downloading.download(served.url, tmp_path / "f", job)
    assert served.asked == ["bytes=1000-"]
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert seen[0][0] > 1000
    assert seen[-1] == (len(CONTENT), len(CONTENT))


def test_a_server_without_ranges_starts_again(served: Served, tmp_path: Path) -> None:
    served.content, served.ranges = CONTENT, False
    (tmp_path / "f.part").write_bytes(b"something else")
    downloading.download(served.url, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == CONTENT


@pytest.mark.parametrize("extra", [b"", b"too much"])
def test_a_part_that_is_already_complete_or_too_long(
    served: Served, tmp_path: Path, extra: bytes
) -> None:
    served.content = CONTENT
    (tmp_path / "f.part").write_bytes(CONTENT + extra)
    downloading.download(served.url, tmp_path / "f", waits=[0.0])
    assert (tmp_path / "f").read_bytes() == CONTENT


def test_a_connection_that_keeps_breaking(served: Served, tmp_path: Path) -> None:
    served.content, served.break_after = CONTENT, 100
    with pytest.raises(DownloadError, match=r"keeps breaking off \(100 of .* goes on with"):
        downloading.download(served.url, tmp_path / "f", waits=[])
    assert (tmp_path / "f.part").stat().st_size == 100


def test_a_server_that_refuses(served: Served, tmp_path: Path) -> None:
    served.status = 404
    with pytest.raises(DownloadError, match=r"the server says 404 .*--from"):
        downloading.download(served.url, tmp_path / "f")
    served.status = 503
    with pytest.raises(DownloadError, match=r"the server says 503"):
        downloading.download(served.url, tmp_path / "f", waits=[0.0])
    assert len(served.asked) == 3


def test_offline_says_so(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"127\.0\.0\.1 cannot be reached.*offline.*--from"):
        downloading.download("http://127.0.0.1:9/x.tar", tmp_path / "f", waits=[])


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/x", "http:///x"])
def test_other_addresses_are_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(DownloadError, match="not an http or https address"):
        downloading.download(url, tmp_path / "f")


def test_a_folder_that_cannot_be_written(served: Served, tmp_path: Path) -> None:
    served.content = CONTENT
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        downloading.download(served.url, tmp_path / "file" / "f")


def test_a_full_disk_is_seen_beforehand(served: Served, tmp_path: Path) -> None:
    served.content, served.claim = CONTENT, 2**60  # bytes, more than any disk has free
    with pytest.raises(OutputError, match="the download needs"):
        downloading.download(served.url, tmp_path / "f")
