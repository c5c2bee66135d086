"""Sending an image, watching its job, fetching the results: against a running server."""

from __future__ import annotations

import io
import json
import re
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread

from medseg_nca.inference.bundle import load_bundle
from medseg_nca.inference.predictor import Predictor
from medseg_nca.io.read import read_volume
from medseg_nca.tracking.resolve import zoo_folder
from tests.io.dicom.build import classic, pixels, uid, write
from tests.serving.conftest import CANARY
from tests.serving.running import Server, picture, volume, zipped


def test_a_picture_gives_what_predict_gives(server: Server, tmp_path: Path) -> None:
    answer = server.send(picture(), model="nuclei", probabilities="true")
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/v1/jobs/{answer.json()['id']}"
    job = server.wait(answer.json())
    assert job["state"] == "done", job
    assert {output["kind"] for output in job["outputs"]} == {"label_map", "probabilities"}
    assert job["model"]["name"] == "nuclei"
    assert re.fullmatch("[0-9a-f]{64}", job["model"]["sha256"])
    assert job["model"]["version"] == job["model"]["sha256"][:12]
    label_map = server.get(f"/v1/jobs/{job['id']}/outputs/label_map")
    assert label_map.headers["content-type"] == "image/png"
    found = np.asarray(Image.open(io.BytesIO(label_map.content)))
    (tmp_path / "a.png").write_bytes(picture())
    loaded = load_bundle(zoo_folder() / "nuclei", "cpu")
    wanted = Predictor(loaded).predict(read_volume(tmp_path / "a.png")).label_map.array[0]
    assert found.any()
    np.testing.assert_array_equal(found, wanted.T)
    report = server.get(f"/v1/jobs/{job['id']}/outputs/report").json()
    assert report["labels"] == job["labels"]
    assert report["estimate"] == job["estimate"]
    assert job["labels"][0]["voxels"] == int((wanted == 255).sum())


def test_a_volume_keeps_its_grid_and_is_measured(server: Server) -> None:
    job = server.wait(server.send(volume(), model="tiny", uncertainty="2").json())
    assert job["state"] == "done", job
    content = server.get(f"/v1/jobs/{job['id']}/outputs/label_map").content
    found, sent = (nib.Nifti1Image.from_bytes(_unpacked(one)) for one in (content, volume()))
    np.testing.assert_array_equal(found.affine, sent.affine)
    assert found.shape == sent.shape
    voxel = abs(np.linalg.det(sent.affine[:3, :3])) / 1000
    for label in job["labels"]:
        voxels = int((np.asarray(found.dataobj) == label["value"]).sum())
        assert label["voxels"] == voxels
        assert label["ml"] == pytest.approx(voxels * voxel, rel=1e-3, abs=1e-4)
    assert "uncertainty" in {output["kind"] for output in job["outputs"]}


def test_a_zip_of_dicom_gives_a_seg_in_the_patients_study(server: Server, tmp_path: Path) -> None:
    tags = {"PatientName": CANARY, "PatientID": "CANARY-4711"}
    files = write(tmp_path, classic(pixels((8, 12, 14)), modality="MR", **tags))
    members = {f"../{CANARY}/x.dcm"[3:] + str(n): file.read_bytes() for n, file in enumerate(files)}
    job = server.wait(server.send(zipped(members), "x.zip", model="tiny").json())
    assert job["state"] == "done", job
    content = server.get(f"/v1/jobs/{job['id']}/outputs/dicom_seg").content
    seg, source = dcmread(io.BytesIO(content)), dcmread(files[0])
    assert seg.SOPClassUID == "1.2.840.10008.5.1.4.1.1.66.4"
    assert (seg.StudyInstanceUID, seg.PatientName) == (source.StudyInstanceUID, CANARY)
    assert job["model"]["version"] in seg.SegmentSequence[0].SegmentAlgorithmName
    assert "Canary" not in json.dumps(job)
    for path in server.state.glob("*"):
        if path.is_file():
            assert b"anary" not in path.read_bytes().replace(b"CANARY", b"Canary"), path.name


def test_a_series_of_the_folder_is_named_by_its_uid(server: Server) -> None:
    job = server.post("/v1/jobs", data={"series": str(uid("a", "a")), "model": "tiny"})
    assert job.status_code == 202, job.text
    done = server.wait(job.json())
    assert done["state"] == "done", done
    assert "dicom_seg" in {output["kind"] for output in done["outputs"]}
    assert "storing" not in done
    answer = server.post(f"/v1/jobs/{done['id']}/store")
    assert (answer.status_code, "no DICOMweb server" in answer.json()["detail"]) == (422, True)
    form = {"series": str(uid("a", "a")), "model": "tiny", "store": "true"}
    assert server.post("/v1/jobs", data=form).status_code == 422
    assert server.post("/v1/jobs", data={"series": "head", "model": "tiny"}).status_code == 422
    assert server.post("/v1/jobs", data={"series": "1.2.3", "model": "tiny"}).status_code == 404


def test_events_tell_of_a_job_until_its_end(server: Server) -> None:
    job = server.send(volume((60, 60, 60)), model="tiny", uncertainty="32").json()
    states, shares = [], []
    with server.client as client, client.stream("GET", f"/v1/jobs/{job['id']}/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        for line in stream.iter_lines():
            if line.startswith("data: "):
                now = json.loads(line[6:])
                states.append(now["state"])
                shares.append((now.get("progress") or {}).get("share"))
    assert states[-1] == "done"
    seen = [share for share in shares if share is not None and 0 < share < 1]
    assert len(seen) > 1
    assert seen == sorted(seen)
    assert states == sorted(states, key=["queued", "running", "done"].index)


def test_a_job_is_cancelled_and_then_removed(server: Server) -> None:
    jobs = [server.send(volume((60, 60, 60), seed=n), model="tiny").json() for n in range(2)]
    last = jobs[-1]
    cancelled = server.delete(f"/v1/jobs/{last['id']}").json()
    assert server.wait(cancelled)["state"] == "cancelled"
    answer = server.get(f"/v1/jobs/{last['id']}/outputs/label_map")
    assert (answer.status_code, answer.json()["detail"]) == (409, "The job was cancelled.")
    assert server.wait(jobs[0])["state"] == "done"
    assert server.delete(f"/v1/jobs/{last['id']}").json()["state"] == "removed"
    assert server.get(f"/v1/jobs/{last['id']}").status_code == 404
    assert not (server.state / "jobs" / last["id"]).exists()


def test_the_queue_is_bounded_and_health_answers_meanwhile(server: Server) -> None:
    image = volume((60, 60, 60))
    answers = [server.send(image, model="tiny", uncertainty="32") for _ in range(9)]
    statuses = [answer.status_code for answer in answers]
    started = time.monotonic()
    assert server.get("/health/live").json()["status"] == "live"
    assert time.monotonic() - started < 5  # seconds; under one on a machine that is not busy
    full = [answer for answer in answers if answer.status_code == 503]
    assert statuses.count(202) >= 6
    assert set(statuses) == {202, 503}
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in full)
    assert "queue is full" in full[0].json()["detail"]
    taken = [answer.json() for answer in answers if answer.status_code == 202]
    positions = [server.get(f"/v1/jobs/{job['id']}").json()["position"] for job in taken]
    assert positions == sorted(positions)
    for job in taken:
        server.delete(f"/v1/jobs/{job['id']}")
    assert {server.wait(job)["state"] for job in taken} <= {"done", "cancelled"}


def test_models_are_described(server: Server) -> None:
    models = server.get("/v1/models").json()["models"]
    assert [model["name"] for model in models] == ["nuclei", "tiny"]
    nuclei = server.get("/v1/models/nuclei").json()
    assert nuclei["labels"][0] == {
        "name": "nucleus",
        "value": 255,
        "code": {"scheme": "SCT", "value": "84640000", "meaning": "Nucleus"},
        "modifier": None,
    }
    assert nuclei["metrics"]["dice"] > 0.8
    assert "Results" in nuclei["card"]
    assert str(zoo_folder()) not in json.dumps(nuclei)


def test_the_api_describes_itself_without_another_server(server: Server) -> None:
    page = server.get("/docs")
    assert "POST /v1/jobs" in page.text
    assert "http" not in page.text.replace("/v1", "").replace("http</", "")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    tree = server.get("/openapi.json").json()
    assert {"/v1/jobs", "/infer/{model}", "/health/ready", "/metrics"} <= set(tree["paths"])


def test_metrics_are_readable_by_prometheus(server: Server) -> None:
    server.wait(server.send(picture(), model="nuclei").json())
    text = server.get("/metrics").text
    assert 'medseg_nca_jobs_total{model="nuclei",outcome="done"}' in text
    line = re.compile(r'(# (HELP|TYPE) .+|[a-z_]+(\{([a-z]+="[^"]*",?)*\})? [0-9.e+-]+)')
    assert all(line.fullmatch(each) for each in text.splitlines())


def test_the_audit_log_says_who_what_and_when(server: Server) -> None:
    job = server.wait(server.send(picture(), model="nuclei").json())
    lines = [json.loads(line) for line in server.get("/logs").text.splitlines()]
    (mine,) = [line for line in lines if line.get("job") == job["id"]]
    assert (mine["action"], mine["outcome"]) == ("job", "done")
    assert mine["model"] == f"nuclei@{job['model']['version']}"
    assert re.fullmatch("[0-9a-f]{32}", mine["series"])
    assert mine["seconds"] > 0


def test_who_takes_a_result_is_in_the_audit_log(server: Server) -> None:
    job = server.wait(server.send(picture(), model="nuclei").json())
    for kind in ("label_map", "report"):
        assert server.get(f"/v1/jobs/{job['id']}/outputs/{kind}").status_code == 200
    lines = [json.loads(line) for line in server.get("/logs").text.splitlines()]
    mine = [line for line in lines if line.get("job") == job["id"]]
    taken = [line for line in mine if line["action"] == "output"]
    assert [line["kind"] for line in taken] == ["label_map", "report"]
    assert {line["series"] for line in taken} == {mine[0]["series"]}


def test_a_result_that_was_removed_is_not_found(server: Server) -> None:
    job = server.wait(server.send(picture(), model="nuclei").json())
    (path,) = (server.state / "jobs" / job["id"] / "output").glob("*.png")
    path.unlink()
    assert server.get(f"/v1/jobs/{job['id']}/outputs/label_map").status_code == 404


def _unpacked(content: bytes) -> bytes:
    import gzip

    return gzip.decompress(content)
