"""What clients send by mistake or on purpose gets a status and what to do; never 500."""

from __future__ import annotations

import gzip
import itertools
import json
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import nibabel as nib
import numpy as np
import pytest

from tests.io.dicom.build import classic, pixels, save, write
from tests.serving.running import Server, picture, volume, zipped

IDS = itertools.count()


@pytest.fixture(scope="module")
def server(rough: Server) -> Server:
    return rough


def said(answer: httpx.Response, status: int, *words: str) -> None:
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"detail", "hint"}
    for word in words:
        assert word in answer.json()["detail"]
    assert "/" not in answer.json()["detail"].replace("zip/", "")
    assert "Traceback" not in answer.text


def infer(server: Server, content: bytes, model: str = "tiny") -> httpx.Response:
    return server.post(f"/infer/{model}?output=json", files={"file": ("a", content)})


def everywhere(server: Server, content: bytes, status: int, *words: str) -> None:
    """All surfaces say the same: some at once, the others at the latest when it is computed."""
    said(infer(server, content), status, *words)
    answer = server.send(content, model="tiny")
    if answer.status_code == 202:
        job = server.wait(answer.json())
        assert job["state"] == "failed"
        assert job["error"]["status"] == status
        answer = server.get(f"/v1/jobs/{job['id']}/outputs/label_map")
    said(answer, status, *words)
    answer = server.put("/session/", files={"files": ("a", content)})
    if answer.status_code == 200:
        place = {"session_id": answer.json()["session_id"]}
        answer = server.post("/infer/tiny", params={**place, "output": "json"})
    said(answer, status, *words)
    place = {"image": f"image-{next(IDS)}"}
    answer = server.put("/datastore/", params=place, files={"file": ("a", content)})
    if answer.status_code == 200:
        answer = server.post("/infer/tiny", params={**place, "output": "json"})
    said(answer, status, *words)


def huge_header() -> bytes:
    header = bytearray(nib.Nifti1Image(np.zeros((2, 2, 2), np.float32), np.eye(4)).to_bytes())
    struct.pack_into("<8h", header, 40, 3, 30000, 30000, 30000, 1, 1, 1, 1)
    return gzip.compress(bytes(header))


def test_a_truncated_volume(server: Server) -> None:
    content = volume()
    everywhere(server, content[: len(content) // 2], 422, "file_00001.nii.gz", "truncated")


def test_nan_voxels_are_counted(server: Server) -> None:
    everywhere(server, volume(nan=7), 422, "7 of 1,680 values are NaN")


def test_a_header_that_claims_too_much(server: Server) -> None:
    everywhere(server, huge_header(), 413, "27,000,000,000,000 voxels")


def test_more_voxels_than_the_server_takes(server: Server) -> None:
    everywhere(server, volume((100, 100, 40)), 413, "400,000 voxels", "300,000")
    assert "--max-voxels" in infer(server, volume((100, 100, 40))).json()["hint"]
    said(server.send(picture(600), model="nuclei"), 413, "600 x 600")


def test_a_gzip_bomb(server: Server) -> None:
    """It is unpacked as far as the header says, and one volume further."""
    bomb = gzip.compress(volume(plain=True) + b"\1" * 6 * 10**7, 9)
    assert len(bomb) < 200_000
    everywhere(server, bomb, 422, "file_00001.nii.gz", "holds more than its header says")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (volume((10, 9, 8, 3)), "3 channels; the model takes 3 axes and 1 channel"),
        (volume((10, 9)), "2 axes (10 x 9)"),
        (b"", "empty"),
        (b"junk" * 100, "no known format"),
        (gzip.compress(b"junk" * 100), "gzip"),
        (zipped({"../x.nii.gz": volume()}), "leads out"),
        (zipped({"a.nii.gz": volume(), "b.nii.gz": volume(seed=2)}), "2 image files"),
    ],
    ids=["4D", "2D", "empty", "junk", "gzip of junk", "traversal", "two images"],
)
def test_what_the_model_cannot_take(server: Server, content: bytes, words: str) -> None:
    everywhere(server, content, 422, words)


def test_a_series_with_a_gap(server: Server, tmp_path: Path) -> None:
    series = classic(pixels((8, 12, 14)), modality="MR")
    del series[3]
    files = write(tmp_path, series)
    content = zipped({file.name: file.read_bytes() for file in files})
    everywhere(server, content, 422, "missing")


@pytest.mark.parametrize("name", ["slice_increment", "not_a_volume", "slice_orientation"])
def test_real_series_that_make_no_volume(
    server: Server, shared_data: Callable[[str], Path], name: str
) -> None:
    folder = shared_data("dicom") / "bad" / name
    content = zipped({file.name: file.read_bytes() for file in folder.rglob("*") if file.is_file()})
    answer = infer(server, content)
    assert answer.status_code in (413, 422), answer.text  # 413 where the archive is beyond 2 MB
    assert "Traceback" not in answer.text


def test_two_series_need_a_choice(server: Server, tmp_path: Path) -> None:
    members = {}
    for name in "ab":
        series = classic(pixels((6, 12, 14)), modality="MR", series=name, SeriesNumber=ord(name))
        files = write(tmp_path / name, series)
        members |= {f"{name}{file.name}": file.read_bytes() for file in files}
    everywhere(server, zipped(members), 422, "2 DICOM volumes")
    job = server.wait(server.send(zipped(members), model="tiny", select="SeriesNumber=98").json())
    assert job["state"] == "done", job


def test_a_dicom_bomb(server: Server, tmp_path: Path) -> None:
    (dataset,) = classic(pixels((1, 12, 14)), modality="MR")
    dataset.PixelData = bytes(10**8)
    dataset.Rows, dataset.Columns = 5_000, 10_000
    path = save(dataset, tmp_path / "a.dcm", "1.2.840.10008.1.2.1.99")
    assert path.stat().st_size < 10**6
    answer = infer(server, path.read_bytes())
    assert answer.status_code in (413, 422), answer.text


def test_a_body_beyond_the_limit_told_or_not(server: Server) -> None:
    content = bytes(3 * 10**6)
    said(server.send(content, model="tiny"), 413, "2,000,000 bytes")

    def pieces() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        for _ in range(30):
            yield bytes(10**5)

    kind = {"content-type": "multipart/form-data; boundary=x"}
    said(server.post("/v1/jobs", content=pieces(), headers=kind), 413, "2,000,000 bytes")


def test_forms_that_are_none(server: Server) -> None:
    said(server.post("/v1/jobs"), 422, "model: name one of nuclei, tiny")
    said(server.post("/v1/jobs", data={"model": "tiny"}), 422, "no file")
    said(server.post("/v1/jobs", data={"model": "tinny"}), 404, "tiny")
    said(server.send(volume(), model="tiny", uncertainty="99"), 422, "uncertainty")
    said(server.send(volume(), model="tiny", uncertainty="-1"), 422, "uncertainty")
    said(server.send(volume(), model="tiny", format="jpeg"), 422, "format")
    said(server.send(volume(), model="tiny", objects="seg"), 422, "objects")
    said(server.send(volume(), model="tiny", select="%%"), 422)
    broken = {"content-type": "multipart/form-data; boundary=x"}
    assert server.post("/v1/jobs", content=b"--y\r\n\r\n", headers=broken).status_code in (400, 422)
    parts = {f"file{n}": ("a", b"x") for n in range(40)}
    assert server.post("/v1/jobs", files=parts).status_code == 400
    job = server.send(volume(), model="tiny", objects="dicom-seg").json()
    assert server.wait(job)["error"]["status"] == 422


def test_ids_that_are_none(server: Server) -> None:
    for path in (
        "/v1/jobs/x",
        "/v1/jobs/..%2f..%2fetc%2fpasswd",
        "/v1/jobs/" + "a" * 22,
        "/v1/jobs/" + "a" * 22 + "/outputs/label_map",
        "/session/..%2fx",
        "/nowhere",
        "/datastore/image?image=../../etc/passwd",
        "/datastore/label?label=nobody",
    ):
        answer = server.get(path)
        assert answer.status_code == 404, path
        assert "passwd" not in answer.text


def test_pages_of_other_servers_may_not_send(server: Server) -> None:
    foreign = {"origin": "https://evil.example"}
    answer = server.post("/v1/jobs", files={"file": ("a", picture())}, headers=foreign)
    said(answer, 403, "other servers")
    own = {"origin": server.url}
    answer = server.post("/v1/jobs", data={"model": "tiny"}, headers=own)
    said(answer, 422, "no file")
    assert server.get("/health/live", headers={"host": "evil.example"}).status_code == 421


@pytest.mark.parametrize(
    "line",
    [
        b"Host: [",
        b"Host: localhost\r\nContent-Length: " + b"9" * 5000,
        b"Host: localhost\r\nContent-Length: -1",
        b"Host: localhost\r\nOrigin: [http://\r\nContent-Length: 0",
    ],
    ids=["host", "long length", "negative length", "origin"],
)
def test_headers_of_no_sense(server: Server, line: bytes) -> None:
    place = urlsplit(server.url)
    with socket.create_connection((str(place.hostname), int(place.port or 0)), 60) as connection:
        connection.sendall(b"POST /v1/jobs HTTP/1.1\r\n" + line + b"\r\n\r\n")
        status = int(connection.recv(100).split()[1])
    assert 400 <= status < 500


def test_no_file_of_the_server_is_named_by_a_client(server: Server) -> None:
    name = "../../../../tmp/Doe^Jane.png"
    job = server.wait(server.send(picture(), name, model="nuclei").json())
    assert job["state"] == "done"
    assert "Doe" not in json.dumps(job)
    assert not [path for path in server.state.rglob("*") if "Doe" in path.name]
    assert b"Doe" not in (server.state / "jobs.sqlite-wal").read_bytes()
    assert "Doe" not in server.log.read_text() + (server.state / "audit.log").read_text()
