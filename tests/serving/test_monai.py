"""MONAI Label's surface, as its tables say."""

from __future__ import annotations

import email
import gzip
import io
import json
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from tests.serving.running import Server, picture, volume


def parts_of(server: Server, path: str, **how: object) -> tuple[dict[str, object], str, bytes]:
    """The parameters, the name of the file and its content."""
    answer = server.post(path, **how)
    assert answer.status_code == 200, answer.text
    head = f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode()
    params, image = email.message_from_bytes(head + answer.content).get_payload()
    content = image.get_payload(decode=True)
    # The standard library takes the line's end before the boundary for content.
    return json.loads(params.get_payload()), image.get_filename(), content


def test_info_is_what_slicer_reads(server: Server) -> None:
    info = server.get("/info/").json()
    assert "config" not in info
    assert info["labels"] == ["nucleus", "anterior", "post"]
    assert info["models"]["tiny"]["labels"] == {"anterior": 1, "post": 2}
    assert info["models"]["tiny"]["type"] == "segmentation"
    assert info["models"]["nuclei"]["dimension"] == 2
    assert set(info["strategies"]) == {"random"}
    assert info["trainers"] == {}
    assert info["datastore"]["total"] >= 3


def test_without_users_nobody_logs_in(server: Server) -> None:
    assert server.get("/auth/").json()["enabled"] is False
    assert server.get("/auth/token/valid").status_code == 200
    assert server.post("/auth/token", data={"username": "a", "password": "b"}).status_code == 404


@pytest.mark.parametrize("extension", [".nrrd", ".nii.gz", ".nii", ".seg.nrrd"])
def test_the_label_map_lies_on_the_grid_of_the_image(
    server: Server, extension: str, tmp_path: Path
) -> None:
    params = {"result_extension": extension, "result_dtype": "uint16", "result_compress": False,
              "client_id": "x", "unknown": {"a": 1}}  # fmt: skip
    path = "/infer/tiny?image=head"
    said, name, content = parts_of(server, path, data={"params": json.dumps(params)})
    assert name == f"label{extension}"
    assert said["label_names"] == {"anterior": 1, "post": 2}
    assert said["model"] == "tiny"
    assert len(str(said["version"])) == 12
    (tmp_path / name).write_bytes(content)
    (tmp_path / "image.nii.gz").write_bytes(volume(seed=1))
    label, image = (sitk.ReadImage(str(tmp_path / file)) for file in (name, "image.nii.gz"))
    assert label.GetSize() == image.GetSize()
    for get in ("GetOrigin", "GetSpacing", "GetDirection"):
        np.testing.assert_allclose(getattr(label, get)(), getattr(image, get)(), atol=1e-5)
    if extension == ".seg.nrrd":
        assert label.GetMetaData("Segment1_Name") == "post"
        assert label.GetMetaData("Segment1_LabelValue") == "2"
        assert b"encoding: raw" in content[:1000]


def test_each_output_of_infer(server: Server) -> None:
    _, _, content = parts_of(server, "/infer/tiny?image=head&output=all")
    image = server.post("/infer/tiny?image=head&output=image")
    assert gzip.decompress(image.content) == gzip.decompress(content)
    assert "label_file.nii.gz" in image.headers["content-disposition"]
    said = server.post("/infer/tiny?image=head&output=json").json()
    estimate = said["estimate"]
    assert (estimate["verdict"], estimate["dice"], estimate["labels"]) == ("unknown", None, {})
    array = np.asarray(nib.Nifti1Image.from_bytes(gzip.decompress(content)).dataobj)
    assert [label["voxels"] for label in said["labels"]] == [(array == n).sum() for n in (1, 2)]
    refused = server.post("/infer/tiny?image=head&output=dicom_seg")
    assert (refused.status_code, "no DICOM" in refused.json()["detail"]) == (422, True)
    series = next(name for name in server.get("/datastore/").json()["objects"] if "." in name)
    seg = server.post(f"/infer/tiny?image={series}&output=dicom_seg")
    assert seg.headers["content-type"] == "application/dicom"
    assert seg.content[128:132] == b"DICM"


def test_what_infer_refuses(server: Server) -> None:
    for path, status in (
        ("/infer/tinny?image=head", 404),
        ("/infer/tiny?image=nobody", 404),
        ("/infer/tiny?session_id=nobody", 404),
        ("/infer/tiny?image=/etc/passwd", 404),
        ("/infer/tiny", 422),
        ("/infer/tiny?image=head&output=all2", 422),
        ("/infer/nuclei?image=head", 422),
    ):
        assert server.post(path).status_code == status, path
    for params in ("{", "[]", '{"result_extension": ".exe"}', '{"result_dtype": "object"}'):
        answer = server.post("/infer/tiny?image=head", data={"params": params})
        assert answer.status_code == 422, params


def test_a_session_keeps_an_image(server: Server) -> None:
    made = server.put("/session/", files={"files": ("Doe.nii.gz", volume(seed=3))}).json()
    assert "Doe" not in json.dumps(made)
    name = made["session_id"]
    info = server.get(f"/session/{name}").json()
    assert {"name", "path", "image", "meta", "create_ts", "last_access_ts", "expiry"} == set(info)
    for _ in range(2):
        answer = server.post(f"/infer/tiny?session_id={name}&output=json")
        assert answer.status_code == 200
    assert server.delete(f"/session/{name}").status_code == 200
    assert server.get(f"/session/{name}").status_code == 404


def test_labels_are_saved_under_tags_and_versions_are_kept(server: Server) -> None:
    packed = gzip.compress(
        nib.Nifti1Image(np.ones((14, 12, 10), np.uint8), np.eye(4)).to_bytes(), 1
    )
    for version in (1, 2):
        answer = server.put(
            "/datastore/label?image=head&tag=final", files={"label": ("x.nii.gz", packed)}
        )
        assert answer.json()["version"] == version
    objects = server.get("/datastore/?output=all").json()["objects"]
    assert objects["head"]["labels"]["final"]["ext"] == ".nii.gz"
    assert server.get("/datastore/?output=stats").json()["label_tags"] == {"final": 1}
    found = server.get("/datastore/label?label=head&tag=final")
    assert found.content == packed
    assert 'filename="label.nii.gz"' in found.headers["content-disposition"]
    assert server.get("/datastore/image?image=head").content == volume(seed=1)
    other = gzip.compress(nib.Nifti1Image(np.ones((3, 3, 3), np.uint8), np.eye(4)).to_bytes())
    for tag, content, status in (
        ("final", other, 422),
        ("final", b"x", 422),
        ("../x", packed, 422),
    ):
        files = {"label": ("x.nii.gz", content)}
        path = f"/datastore/label?image=head&tag={tag}"
        assert server.put(path, files=files).status_code == status


@pytest.mark.parametrize("wanted", [None, "bytes=0-9", "bytes=x", "bytes=99999999-"])
def test_a_series_is_fetched_and_nothing_of_it_stays(server: Server, wanted: str | None) -> None:
    series = next(name for name in server.get("/datastore/").json()["objects"] if "." in name)
    headers = {} if wanted is None else {"Range": wanted}
    answer = server.get(f"/datastore/image?image={series}", headers=headers)
    assert answer.status_code == 200
    with zipfile.ZipFile(io.BytesIO(answer.content)) as packed:
        assert len(packed.namelist()) == 8
        assert packed.testzip() is None
    assert not [path for path in (server.state / "incoming").iterdir() if path.is_file()]


def test_images_are_kept_under_ids_that_are_no_paths(server: Server) -> None:
    files = {"file": ("a.png", picture(seed=5))}
    assert server.put("/datastore/?image=../../new", files=files).status_code == 200
    assert server.put("/datastore/?image=../../new", files=files).status_code == 409
    assert server.get("/datastore/image?image=../../new").content == picture(seed=5)
    assert server.post("/infer/nuclei?image=../../new&output=json").status_code == 200
    assert not [path for path in server.state.parent.rglob("*") if path.name == "new"]


def test_the_next_image_has_no_final_label(server: Server) -> None:
    labelled = {
        name
        for name, entry in server.get("/datastore/").json()["objects"].items()
        if "final" in entry["labels"]
    }
    for _ in range(5):
        sample = server.post("/activelearning/random", json={}).json()
        assert sample["id"] not in labelled
        assert {"id", "name", "path"} <= set(sample)
    assert server.post("/activelearning/first", json={}).status_code == 404


def test_there_is_no_training(server: Server) -> None:
    assert server.get("/train/?check_if_running=true").status_code == 404
    assert server.post("/train/tiny", json={}).status_code == 501
    assert server.delete("/train/").status_code == 404
