"""What a client sends cannot make the server or its worker take much memory: measured."""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest

from tests.io.dicom.build import classic, pixels, save
from tests.serving.running import Server, start, volume, zipped
from tests.serving.test_bad_input import huge_header
from tests.serving.test_ends import workers_of
from tests.tracking.tiny import save_tiny

MEGABYTE = 10**6
# Of each process, above what it had before; the inputs below become 300 MB and more if unpacked.
MOST = 100 * MEGABYTE

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not Path("/proc/self/clear_refs").exists(), reason="only Linux tells the peak of a process"
    ),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """With the limits that a server has if nobody says otherwise, but for bodies and archives."""
    folder = tmp_path_factory.mktemp("memory")
    save_tiny(folder / "tiny")
    options = ("--max-body", "20", "--max-inflated", "100")
    found = start(folder, "--models", f"tiny={folder / 'tiny'}", *options).ready()
    # What is loaded at the first use is no growth: SimpleITK, for NRRD, has some 100 MB.
    for content in (volume(), small_nrrd()):
        assert {answer.status_code for answer in everywhere(found, content)} == {200}
    yield found
    assert found.stop() == 0, found.log.read_text()


def everywhere(server: Server, content: bytes) -> list[httpx.Response]:
    """Send it in each way; the answers that say at last what became of it."""
    answers = [server.post("/infer/tiny?output=json", files={"file": ("a", content)})]
    answer = server.send(content, model="tiny")
    if answer.status_code == 202:
        job = server.wait(answer.json())
        answer = server.get(f"/v1/jobs/{job['id']}/outputs/label_map")
    answers.append(answer)
    for put, part, name in (("/session/", "files", "session_id"), ("/datastore/", "file", "image")):
        place = {"image": f"image-{zlib.crc32(content)}"} if name == "image" else {}
        answer = server.put(put, params=place, files={part: ("a", content)})
        if answer.status_code == 200:
            place = {name: answer.json()[name], "output": "json"}
            answer = server.post("/infer/tiny", params=place)
        answers.append(answer)
    return answers


def growth(server: Server, work: Callable[[], object]) -> dict[str, int]:
    """By how many bytes the peak of the server and of its worker lies above what they had."""
    processes = {"server": psutil.Process(server.process.pid)}
    (processes["worker"],) = workers_of(server)
    before = {}
    for name, process in processes.items():
        Path(f"/proc/{process.pid}/clear_refs").write_text("5")  # forget the peak: proc(5)
        before[name] = _peak(process.pid)
    work()
    return {name: _peak(process.pid) - before[name] for name, process in processes.items()}


def _peak(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def zeros(size: int, kind: int) -> bytes:
    """So many zero bytes, packed, without holding them."""
    packer = zlib.compressobj(1, zlib.DEFLATED, kind)
    pieces = [packer.compress(bytes(MEGABYTE)) for _ in range(size // MEGABYTE)]
    return b"".join([*pieces, packer.flush()])


def gzip_bomb() -> bytes:
    """A small volume with 300 MB behind it, in one stream; zeros there would be passed over."""
    packer = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    pieces = [packer.compress(volume(plain=True))]
    pieces += [packer.compress(b"\1" * MEGABYTE) for _ in range(300)]
    return b"".join([*pieces, packer.flush()])


def small_nrrd(packed: bytes | None = None) -> bytes:
    """A volume of 10 x 10 x 10 voxels, of noise where nothing else is given."""
    if packed is None:
        packed = gzip.compress(np.random.default_rng(0).integers(0, 999, 1000, "<i2").tobytes())
    head = (
        "NRRD0004\ntype: short\nendian: little\ndimension: 3\nsizes: 10 10 10\nencoding: gzip\n"
        "space: left-posterior-superior\nspace origin: (0,0,0)\n"
        "space directions: (1,0,0) (0,1,0) (0,0,1)\n\n"
    )
    return head.encode() + packed


def nrrd_bomb() -> bytes:
    """A small header, and 300 MB behind it."""
    return small_nrrd(zeros(300 * MEGABYTE, zlib.MAX_WBITS | 16))


def zip_bomb() -> bytes:
    """A member that is larger than all members together may be."""
    return zipped({"a.nii": volume(plain=True) + bytes(300 * MEGABYTE)})


def picture_bomb() -> bytes:
    """A PNG of 17000 x 17000 grey pixels (W3C PNG 11.2)."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)

    head = struct.pack(">IIBBBBB", 17000, 17000, 8, 0, 0, 0, 0)
    content = chunk(b"IDAT", zeros(289 * MEGABYTE, zlib.MAX_WBITS))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + content + chunk(b"IEND", b"")


def deflated_dicom(folder: Path) -> bytes:
    """An instance of 0.4 MB whose data set has 400 MB."""
    (dataset,) = classic(pixels((1, 12, 14)), modality="MR")
    dataset.Rows, dataset.Columns = 20_000, 10_000
    dataset.PixelData = bytes(2 * dataset.Rows * dataset.Columns)
    return save(dataset, folder / "a.dcm", "1.2.840.10008.1.2.1.99").read_bytes()


def test_what_is_small_only_as_long_as_it_is_packed(server: Server, tmp_path: Path) -> None:
    bombs = {
        "header of 30000^3": huge_header(),
        "gzip": gzip_bomb(),
        "nrrd": nrrd_bomb(),
        "zip": zip_bomb(),
        "png": picture_bomb(),
        "deflated DICOM": deflated_dicom(tmp_path),
    }
    wrong = {}
    for name, bomb in bombs.items():
        assert len(bomb) < 2 * MEGABYTE, name
        answers: list[httpx.Response] = []
        grown = growth(server, lambda bomb=bomb, to=answers: to.extend(everywhere(server, bomb)))
        print(name, len(bomb), grown, [(a.status_code, a.text[:150]) for a in answers])
        if max(grown.values()) > MOST or {a.status_code for a in answers} - {413, 422}:
            wrong[name] = (grown, [(a.status_code, a.text) for a in answers])
    assert wrong == {}


@pytest.mark.parametrize("told", [True, False], ids=["with its length", "chunked"])
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v1/jobs"), ("POST", "/infer/tiny"), ("PUT", "/session/"),
     ("PUT", "/datastore/?image=a")],
)  # fmt: skip
def test_a_body_beyond_the_limit(server: Server, method: str, path: str, told: bool) -> None:
    """400 MB to a server that takes 20; it reads no more than it takes, and keeps none of it."""
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    kind = {"content-type": "multipart/form-data; boundary=x"}
    if told:
        kind["content-length"] = str(len(head) + 400 * MEGABYTE)
    answers: list[httpx.Response] = []

    def pieces() -> Iterator[bytes]:
        yield head
        for _ in range(400):
            yield bytes(MEGABYTE)

    def send() -> None:
        with server.client as client:
            answers.append(client.request(method, path, content=pieces(), headers=kind))

    grown = growth(server, send)
    assert max(grown.values()) < 30 * MEGABYTE, grown
    assert answers[0].status_code == 413, answers[0].text
    assert "20,000,000 bytes" in answers[0].json()["detail"]
    assert not list((server.state / "incoming").iterdir())


def test_many_parts(server: Server) -> None:
    """Texts of a form are held in memory, so that their number and size are bounded."""
    text = "x" * 3 * MEGABYTE
    grown = growth(server, lambda: server.post("/v1/jobs", data={"model": text}))
    assert max(grown.values()) < 30 * MEGABYTE, grown
