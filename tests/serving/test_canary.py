"""A patient's name and id stay in the images and results of the patient, whatever happens.

A server with users, an audit log and a registry gets images of one patient in all ways, and faults
of all kinds; then whatever it wrote is searched. test_pacs.py does the same for DICOMweb.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from medseg_nca.serving.security.users import UserFile
from medseg_nca.tracking.registry import register
from medseg_nca.tracking.resolve import load_model
from medseg_nca.tracking.store import connect
from tests.serving import canary
from tests.serving.running import Server, start
from tests.serving.test_ends import workers_of
from tests.serving.test_login import PASSWORD, log_in
from tests.tracking.tiny import make_run, new_store

pytestmark = pytest.mark.slow
# Where patients' images, and results that have to name them, lie; nothing else may hold a trace.
ALLOWED = (
    r"state/(jobs/[\w-]+/(input|attempt-\d|output)/.*|sessions/[\w-]+/files/.*"
    r"|images/\w+/files/.*|incoming/.*)"
)
OBJECTS = "dicom-seg,rtstruct,sr,sc"


class Visit:
    """A server, who uses it, and everything that was said to others than the sender."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = folder / "of_the_client"
        self.server_folder = folder / "server"
        (self.server_folder / "tmp").mkdir(parents=True)
        users = UserFile(self.server_folder / "users.json")
        for name, role in (("ann", "user"), ("bob", "user"), ("adm", "admin")):
            users.add(name, PASSWORD, role)  # type: ignore[arg-type]
        store = new_store(self.server_folder / "store")
        make_run(folder / "run", seed=10)  # it finds both of its labels in these series
        register(load_model(str(folder / "run"), "cpu"), "hippo", tracking=store)
        client = connect(str(store.uri))
        client.set_registered_model_alias("hippo", "champion", "1")
        self._options = (
            "--models", "hippo@champion", "--tracking-uri", str(store.uri),
            "--users", str(users.path), "--queue", "30",
        )  # fmt: skip
        self.answers: list[httpx.Response] = []
        self.asked: set[str] = set()  # jobs that bob asked for

    def start(self) -> Server:
        """Start it, or start it again; ann is logged in."""
        tmp = str(self.server_folder / "tmp")
        self.server = start(self.server_folder, *self._options, env={"TMPDIR": tmp}).ready()
        self.ann = log_in(self.server, "ann")
        self.bob, self.admin = log_in(self.server, "bob"), log_in(self.server, "adm")
        return self.ann

    def series(self, name: str = "a", **how: Any) -> list[Path]:
        return canary.series(self.files / name, name=name, **how)

    def send(self, content: bytes, **form: str) -> dict[str, Any]:
        """A job of ann's."""
        name = f"{canary.FILE_NAME}.zip"
        answer = self.ann.send(content, name, **{"model": "hippo", **form})
        assert answer.status_code in (202, 422), answer.text
        tree: dict[str, Any] = answer.json()
        return tree

    def overhear(self) -> None:
        """Ask for everything as somebody else, and as the admin for lists and logs."""
        with self.bob.client as bob, self.admin.client as admin:
            for path in ("/metrics", "/health/ready", "/health/live", "/auth/", "/info/",
                         "/v1/models", "/v1/jobs", "/datastore/?output=stats"):  # fmt: skip
                self.answers.append(bob.get(path))
            self.answers += [admin.get("/logs"), admin.get("/v1/jobs")]
            for job in self.jobs_of_ann() - self.asked:
                for rest in ("", "/events", "/outputs/label_map", "/outputs/dicom_seg"):
                    answer = bob.get(f"/v1/jobs/{job}{rest}")
                    assert answer.status_code == 404
                    self.answers.append(answer)
                self.asked.add(job)

    def jobs_of_ann(self) -> set[str]:
        return {job["id"] for job in self.ann.get("/v1/jobs").json()["jobs"]}

    def leaks(self) -> dict[str, set[str]]:
        """Traces beside the images and their results."""
        return canary.traces_in(self.server_folder, but=ALLOWED)


@pytest.fixture(scope="module")
def visit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visit]:
    canary.control()
    visit = Visit(tmp_path_factory.mktemp("visit"))
    visit.start()
    yield visit
    visit.server.stop()


@pytest.fixture(autouse=True)
def _nothing_leaked(visit: Visit) -> Iterator[None]:
    """After each test: all files, and what others were told."""
    yield
    if visit.server.process.poll() is None:
        visit.overhear()
    assert visit.leaks() == {}
    for answer in visit.answers:
        told = canary.traces(answer.content + str(answer.headers).encode())
        assert not told, (answer.url, told)
    visit.answers.clear()


def test_results_of_dicom_name_the_patient_and_nothing_else_does(visit: Visit) -> None:
    content = canary.archive(visit.series())
    job = visit.ann.wait(visit.send(content, objects=OBJECTS, image="true", uncertainty="2"))
    assert job["state"] == "done", job
    kinds = {output["kind"] for output in job["outputs"]}
    assert {"dicom_seg", "rtstruct", "sr", "label_map", "image"} <= kinds
    for kind in kinds:
        answer = visit.ann.get(f"/v1/jobs/{job['id']}/outputs/{kind}")
        named = canary.traces(answer.content)
        assert bool(named) == (kind in ("dicom_seg", "rtstruct", "sr", "sc")), (kind, named)
        assert not canary.traces(str(answer.headers).encode())
    report = visit.ann.get(f"/v1/jobs/{job['id']}/outputs/report")
    assert not canary.traces(report.content + str(job).encode())
    found = canary.traces_in(visit.server_folder)  # the search can find them
    assert any(path.endswith(".dcm") for path in found)
    assert visit.ann.delete(f"/v1/jobs/{job['id']}").status_code in (200, 204)
    assert not [path for path in canary.traces_in(visit.server_folder) if job["id"] in path]


def test_sessions_and_images_under_an_id(visit: Visit) -> None:
    files = {"files": (f"{canary.FILE_NAME}.zip", canary.archive(visit.series("session")))}
    session = visit.ann.put("/session/", files=files).json()
    assert not canary.traces(str(session).encode())
    place = {"session_id": session["session_id"]}
    answer = visit.ann.post("/infer/hippo", params={**place, "output": "dicom_seg"})
    assert answer.status_code == 200, answer.text
    visit.answers += [
        visit.bob.get(f"/session/{session['session_id']}"),
        visit.bob.post("/infer/hippo", params=place),
    ]
    image = {"image": "case-1"}
    files = {"file": (f"{canary.FILE_NAME}.zip", canary.archive(visit.series("datastore")))}
    assert visit.ann.put("/datastore/", params=image, files=files).status_code == 200
    visit.answers += [
        visit.bob.get("/datastore/"), visit.bob.get("/datastore/image/info", params=image),
        visit.bob.post("/activelearning/random", json={}),
        visit.bob.post("/infer/hippo", params={**image, "output": "all"}),
    ]  # fmt: skip
    visit.answers[-1].raise_for_status()
    held = canary.traces_in(visit.server_folder)
    assert {"sessions", "images"} <= {path.split("/")[1] for path in held}
    assert visit.ann.delete(f"/session/{session['session_id']}").status_code == 200


@pytest.mark.parametrize("way", ["job", "infer", "session", "datastore"])
def test_images_that_are_refused(visit: Visit, way: str) -> None:
    for name, content in _refused(visit).items():
        packed = (f"{canary.FILE_NAME}.zip", content)
        if way == "job":
            job = visit.send(content)
            if "id" in job:
                visit.ann.wait(job)
        elif way == "infer":
            visit.ann.post("/infer/hippo", files={"file": packed})
        elif way == "session":
            session = visit.ann.put("/session/", files={"files": packed}).json()
            if "session_id" in session:  # its image is looked at when it is computed
                place = {"session_id": session["session_id"]}
                visit.ann.post("/infer/hippo", params=place)
                visit.ann.delete(f"/session/{session['session_id']}")
        else:
            visit.ann.put("/datastore/", params={"image": f"bad-{name}"}, files={"file": packed})


def _refused(visit: Visit) -> dict[str, bytes]:
    gap = visit.series("gap")
    damaged = visit.series("damaged")
    damaged[2].write_bytes(damaged[2].read_bytes()[:-150])
    beheaded = visit.series("beheaded")
    for path in beheaded:
        path.write_bytes(path.read_bytes()[:700])
    patients = [*visit.series("one"), *visit.series("two", PatientID="ZYXPID-90417b")]
    photo = visit.series("photo", ImageType=["DERIVED", "SECONDARY"])[:1]
    return {
        "gap": canary.archive([*gap[:3], *gap[5:]]),
        "damaged": canary.archive(damaged),
        "beheaded": canary.archive(beheaded),
        "two": canary.archive(patients),
        "photo": canary.archive(photo),
        "ct": canary.archive(visit.series("ct", modality="CT")),
        "broken zip": canary.archive(gap)[:-300],
        "text": "\n".join(canary.SECRETS).encode(),
    }


def test_texts_that_choose_a_series(visit: Visit) -> None:
    """Such a text may hold a name; it is kept no longer than the job is at work."""
    content = canary.archive([*visit.series("one"), *visit.series("two", SeriesNumber=7)])
    for select, state in (
        (f"PatientID={canary.TAGS['PatientID']},SeriesNumber=7", "done"),
        (f"PatientID={canary.TAGS['PatientID']},Rows>10000", "failed"),
        (f"PatientName={canary.TAGS['PatientName']}", "refused"),
        (f"SeriesDescription={canary.TAGS['SeriesDescription']}*,SeriesNumber=9", "failed"),
        (f"AccessionNumber={canary.TAGS['AccessionNumber']},Zyxhospital=1", "refused"),
    ):
        job = visit.send(content, select=select)
        found = visit.ann.wait(job)["state"] if "id" in job else "refused"
        assert found == state, (select, job)


def test_jobs_that_end_early(visit: Visit) -> None:
    """Cancelled while they wait and at work, left by their client, and with a worker that dies."""
    content = canary.archive(visit.series("large", shape=(40, 120, 120)))
    select = f"PatientID={canary.TAGS['PatientID']}"
    jobs = [visit.send(content, select=select) for _ in range(4)]
    _until_running(visit, jobs[0])
    visit.ann.delete(f"/v1/jobs/{jobs[0]['id']}")
    visit.ann.delete(f"/v1/jobs/{jobs[3]['id']}")
    _until_running(visit, jobs[1])
    (worker,) = workers_of(visit.server)
    with suppress(psutil.NoSuchProcess):
        worker.kill()
    client = threading.Thread(target=_leave, args=(visit, content))
    client.start()
    for job in jobs:
        visit.ann.wait(job)
    client.join()
    for job in visit.ann.get("/v1/jobs").json()["jobs"]:
        visit.ann.wait(job)


def _until_running(visit: Visit, job: dict[str, Any]) -> None:
    while visit.ann.get(f"/v1/jobs/{job['id']}").json()["state"] == "queued":
        time.sleep(0.02)


def _leave(visit: Visit, content: bytes) -> None:
    files = {"file": (f"{canary.FILE_NAME}.zip", content)}
    with visit.ann.client as client, suppress(httpx.TimeoutException):
        client.post("/infer/hippo", files=files, timeout=httpx.Timeout(60, read=0.3))


@pytest.mark.parametrize("end", ["SIGTERM", "SIGKILL"])
def test_a_server_that_ends_with_jobs_at_work(visit: Visit, end: str) -> None:
    content = canary.archive(visit.series("large", shape=(40, 120, 120)))
    select = f"PatientID={canary.TAGS['PatientID']}"
    jobs = [visit.send(content) for _ in range(2)]
    _until_running(visit, jobs[0])
    visit.send(content, select=select)
    if end == "SIGTERM":
        assert visit.server.stop() == 0
        assert not list((visit.server_folder / "tmp").iterdir())
    else:
        visit.server.kill()
    for job in (visit.start()).get("/v1/jobs").json()["jobs"]:
        visit.ann.wait(job)


def test_when_all_is_deleted_nothing_is_left(visit: Visit) -> None:
    """Not in free pages of the database either; images under an id are kept."""
    for job in visit.ann.get("/v1/jobs").json()["jobs"]:
        visit.ann.delete(f"/v1/jobs/{job['id']}")
    held = canary.traces_in(visit.server_folder)
    assert {path.split("/")[1] for path in held} <= {"images"}, held
    assert visit.server.stop() == 0
    assert not list((visit.server_folder / "tmp").iterdir())
    assert {path.split("/")[1] for path in canary.traces_in(visit.server_folder)} <= {"images"}
