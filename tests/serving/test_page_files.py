"""The page's files and the routes beneath it, without a browser."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from tests.io.dicom.build import classic, pixels, write
from tests.serving.running import Server, picture, volume, zipped

STATIC = Path(__file__).parents[2] / "medseg_nca" / "serving" / "page" / "static"
OURS = sorted(
    path for path in STATIC.rglob("*") if path.is_file() and "vendor" not in path.parts
)  # fmt: skip
TEXTS = {path.stem: json.loads(path.read_text("utf-8")) for path in STATIC.glob("texts/*.json")}
SCRIPTS = {path.name: path.read_text("utf-8") for path in STATIC.glob("js/*.js")}
HTML = (STATIC / "index.html").read_text("utf-8")
UNSAFE = (
    "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function",
    "DOMParser", "srcdoc",
)  # fmt: skip


def test_languages_have_the_same_texts() -> None:
    assert set(TEXTS) == {"de", "en"}
    assert list(TEXTS["de"]) == list(TEXTS["en"])
    for key, text in TEXTS["en"].items():
        other = TEXTS["de"][key]
        assert text.strip(), key
        assert other.strip(), key
        assert set(re.findall(r"\{\w+\}", text)) == set(re.findall(r"\{\w+\}", other)), key


def test_every_text_is_there_and_is_used() -> None:
    named = set(re.findall(r'data-t(?:-label)?="(\w+)"', HTML))
    code = "\n".join(SCRIPTS.values())
    named |= set(re.findall(r'"([a-z0-9_]+)"', code)) & set(TEXTS["en"])
    called = set(re.findall(r'\bt\("(\w+)"', code))
    built = ("output_", "state_", "storing_", "kinds_", "model_takes_", "verdict_")
    assert called | set(re.findall(r'data-t(?:-label)?="(\w+)"', HTML)) <= set(TEXTS["en"])
    left = {key for key in set(TEXTS["en"]) - named if not key.startswith(built)}
    # States of a job and of the server are keys as they are.
    assert left <= {"ready", "not_ready", "unreachable", "done", "failed", "cancelled"}, left


def test_what_a_server_says_never_becomes_markup() -> None:
    for name, script in SCRIPTS.items():
        assert not [word for word in UNSAFE if word in script], name
    assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=", HTML)


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_a_file_names_no_other_server(path: Path) -> None:
    text = path.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"(?:https?:)?//\w", re.sub(r"(?m)//\s.*$", "", text))
    assert len(text) < 20_000, "perhaps two files"
    if path.suffix == ".js":
        assert len(text.splitlines()) <= 400


def test_the_viewer_is_the_one_that_its_licence_names() -> None:
    vendor = STATIC / "vendor" / "niivue"
    digest = hashlib.sha256((vendor / "niivue.umd.js").read_bytes()).hexdigest()
    licence = (vendor / "LICENSE.txt").read_text("utf-8")
    assert f"sha256 {digest}" in licence
    assert "BSD 2-Clause License" in licence


def test_the_page_loads_from_its_server_alone(server: Server) -> None:
    answer = server.get("/")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(
        part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; ")
    )
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert "unsafe" not in answer.headers["content-security-policy"]
    for name in re.findall(r'(?:src|href)="(/page/[^"]+)"', answer.text):
        assert server.get(name).status_code == 200, name
    for name in SCRIPTS:
        for other in re.findall(r'from "\./([^"]+)"', SCRIPTS[name]):
            assert server.get(f"/page/js/{other}").headers["content-type"].startswith("text/java")


def test_files_are_packed_and_asked_for_once(server: Server) -> None:
    path = "/page/vendor/niivue/niivue.umd.js"
    packed = server.get(path, headers={"accept-encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert int(packed.headers["content-length"]) < 900_000
    assert packed.content == (STATIC / "vendor/niivue/niivue.umd.js").read_bytes()
    plain = server.get(path, headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.content == packed.content
    again = server.get(path, headers={"if-none-match": packed.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    "name",
    ["", "nothing.js", "../files.py", "%2e%2e/files.py", "js", "..%2ffiles.py", "/etc/passwd"],
)
def test_nothing_else_is_handed_out(server: Server, name: str) -> None:
    assert server.get(f"/page/{name}").status_code == 404


def test_what_the_page_is_told(server: Server) -> None:
    about = server.get("/page/about").json()
    assert about["users"] is False
    assert about["user"] is None
    assert about["may_send"] is True
    assert about["body_bytes"] == 2_000_000
    assert server.get("/page/ready").json() == {"ready": True}


@pytest.mark.parametrize("model", ["nuclei", "tiny"])
def test_each_model_can_take_its_made_up_image(server: Server, model: str) -> None:
    made = server.get(f"/page/sample/{model}")
    assert made.status_code == 200
    assert made.content == server.get(f"/page/sample/{model}").content
    job = server.wait(server.send(made.content, model=model).json())
    assert job["state"] == "done", job
    assert server.get("/page/sample/none").status_code == 404


def test_an_image_is_kept_for_the_viewer_as_it_was_sent(server: Server) -> None:
    for content, model, name in (
        (volume(), "tiny", "image.nii.gz"),
        (picture(), "nuclei", "image.png"),
    ):
        job = server.wait(server.send(content, model=model, image="true").json())
        outputs = {output["kind"]: output for output in job["outputs"]}
        assert outputs["image"]["name"] == name
        assert server.get(outputs["image"]["href"]).content == content
    job = server.wait(server.send(volume(), model="tiny").json())
    assert "image" not in {output["kind"] for output in job["outputs"]}
    assert server.send(volume(), model="tiny", image="maybe").status_code == 422


def test_dicom_is_kept_as_a_volume_on_the_grid_of_its_label_map(
    server: Server, tmp_path: Path
) -> None:
    array = pixels((8, 12, 14))
    files = write(tmp_path, classic(array, modality="MR"))
    members = {file.name: file.read_bytes() for file in files}
    job = server.wait(server.send(zipped(members), model="tiny", image="true").json())
    assert job["state"] == "done", job
    found = {
        kind: nib.Nifti1Image.from_bytes(
            gzip.decompress(server.get(f"/v1/jobs/{job['id']}/outputs/{kind}").content)
        )
        for kind in ("image", "label_map")
    }
    np.testing.assert_allclose(found["image"].affine, found["label_map"].affine, atol=1e-5)
    assert sorted(found["image"].get_fdata().ravel()) == sorted(array.ravel())


def test_a_picture_of_16_bit_is_shown_in_8(server: Server) -> None:
    grey = np.asarray(Image.open(io.BytesIO(picture())).convert("L")).astype(np.uint16) * 200
    stream = io.BytesIO()
    Image.fromarray(np.stack([grey >> 8] * 3, axis=-1).astype(np.uint8)).save(stream, "TIFF")
    job = server.wait(
        server.send(stream.getvalue(), model="nuclei", image="true", format="png").json()
    )
    assert job["state"] == "done", job
    shown = Image.open(io.BytesIO(server.get(f"/v1/jobs/{job['id']}/outputs/image").content))
    labels = Image.open(io.BytesIO(server.get(f"/v1/jobs/{job['id']}/outputs/label_map").content))
    assert shown.format == "PNG"
    assert shown.size == labels.size
