"""The surface of its own: send an image, watch its job, fetch what was made of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, BinaryIO

from fastapi import APIRouter, Depends, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse

from medseg_nca.cases.quality_notes import not_estimated
from medseg_nca.serving.errors import Refused
from medseg_nca.serving.http.files import streamed
from medseg_nca.serving.http.problems import problem
from medseg_nca.serving.http.running import (
    Client,
    Running,
    answers,
    job_of,
    reader,
    running,
    sender,
)
from medseg_nca.serving.http.submit import (
    NO_PACS,
    NO_PACS_HINT,
    check_options,
    submit,
    to_be_stored,
)
from medseg_nca.serving.http.uploads import (
    file_of,
    form_of,
    incoming,
    take,
    take_series,
    text_of,
)
from medseg_nca.serving.jobs.deliverer import dicom_files
from medseg_nca.serving.jobs.records import Failure, JobOptions, JobRecord
from medseg_nca.serving.jobs.schema import PACS
from medseg_nca.serving.jobs.store import OUTPUT

router = APIRouter(prefix="/v1", tags=["jobs"])
# Seconds between two looks at a job, and at least between two events.
_LOOK, _BETWEEN = 10.0, 0.1
# Seconds between two looks at whether a client that waits is still there.
_PRESENT = 0.25
# What a job at work says of the automaton.
_FACTS = ("level", "levels", "step", "steps")
_FORM: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": {
        "type": "object",
        "properties": {
            "file": {"type": "string", "format": "binary",
                     "description": "An image, or a zip archive of one DICOM series."},
            "series": {"type": "string", "description":
                       "SeriesInstanceUID of a series of the server's images, instead of a file."},
            "model": {"type": "string", "description": "Served name; may be left out if one only."},
            "format": {"type": "string", "enum": ["", "nifti", "nrrd", "mha", "png", "tiff"],
                       "description": "Of the label map; the input's own if not given."},
            "objects": {"type": "string", "description":
                        "DICOM objects with commas: dicom-seg, rtstruct, sr, sc; or none."},
            "probabilities": {"type": "boolean"},
            "uncertainty": {"type": "integer", "description": "Stochastic passes, 2 to 32."},
            "image": {"type": "boolean", "description":
                      "Keep the image with the results, as NIfTI or PNG for a viewer."},
            "select": {"type": "string", "description":
                       "Which DICOM series, for example SeriesNumber=4."},
            "store": {"type": "boolean", "description":
                      "Store the DICOM objects in the PACS, too."},
        },
    }}}}
}  # fmt: skip


@router.post(
    "/jobs", status_code=202, openapi_extra=_FORM, responses=answers(404, 413, 422, 502, 503, 504)
)
async def create_job(request: Request, client: Annotated[Client, Depends(sender)]) -> JSONResponse:
    """Send an image; the answer names the job that computes it."""
    server = running(request)
    await run_in_threadpool(server.service.room)
    async with form_of(request) as form, incoming(server) as folder:
        names = [served.entry.name for served in server.catalogue.all]
        name = text_of(form, "model") or (names[0] if len(names) == 1 else "")
        if not name:
            raise Refused(422, f"model: name one of {', '.join(names)}.")
        served = server.catalogue.get(name)
        options = check_options(_options(form), served)
        series = text_of(form, "series")
        if series:
            received = await take_series(server, form, series, folder)
        else:
            received = await take(server, file_of(form, "file", or_else="series=UID"), folder)
        wish = _flag(form, "store") if text_of(form, "store") else None
        options = replace(options, kind=received.kind)
        if to_be_stored(server, options, wish):
            options = replace(options, destinations=(PACS,))
        job = await submit(server, client, served, received, folder, options)
    about = await run_in_threadpool(describe, server, job)
    return JSONResponse(about, 202, {"Location": f"/v1/jobs/{job.id}"})


@router.post("/jobs/{job_id}/store", status_code=202, responses=answers(404, 409, 422))
def store_job(
    request: Request, job_id: str, client: Annotated[Client, Depends(sender)]
) -> dict[str, Any]:
    """Store the DICOM objects of a job that is done in the PACS; again, where that failed."""
    server, job = running(request), job_of(request, job_id, client)
    if server.deliveries is None or server.pacs is None:
        raise Refused(422, NO_PACS, hint=NO_PACS_HINT)
    if job.state != "done":
        raise Refused(409, f"The job is {job.state}; it has no results to store.")
    if not dicom_files(server.store, job):
        raise Refused(422, "The job has no DICOM objects.", hint="Ask for objects=dicom-seg.")
    server.deliveries.ask(job.id)
    server.audit.write("store", user=client.name, outcome="asked", job=job.id, series=job.series)
    return describe(server, job)


@router.get("/jobs", responses=answers())
def list_jobs(
    request: Request,
    client: Annotated[Client, Depends(reader)],
    most: Annotated[int, Query(ge=1, le=1000, description="How many.")] = 100,
) -> dict[str, Any]:
    """List the newest jobs first: your own, or those of all for an admin."""
    server = running(request)
    return {"jobs": [describe(server, job) for job in server.store.newest(client.owner, most)]}


@router.get("/jobs/{job_id}", responses=answers(404))
def get_job(
    request: Request, job_id: str, client: Annotated[Client, Depends(reader)]
) -> dict[str, Any]:
    """Say where a job stands."""
    return describe(running(request), job_of(request, job_id, client))


@router.delete("/jobs/{job_id}", responses=answers(404))
def delete_job(
    request: Request, job_id: str, client: Annotated[Client, Depends(sender)]
) -> dict[str, Any]:
    """Cancel a job that waits or is at work; remove one that has ended, with its results."""
    server, job = running(request), job_of(request, job_id, client)
    if not job.is_finished:
        server.service.cancel(job)
        return describe(server, server.store.get(job.id) or job)
    server.store.remove(job.id)
    server.audit.write("job", user=client.name, outcome="removed", job=job.id, series=job.series)
    return {"id": job.id, "state": "removed"}


@router.get(
    "/jobs/{job_id}/outputs/{kind}",
    responses=answers(404, 409, 422, 503, 504),
    response_class=FileResponse,
)
def get_output(
    request: Request, job_id: str, kind: str, client: Annotated[Client, Depends(reader)]
) -> Response:
    """Fetch what was made: label_map, probabilities, uncertainty, dicom_seg, ... or report."""
    server, job = running(request), job_of(request, job_id, client)
    if job.failure is not None:
        return problem(job.failure)
    if job.state != "done":
        raise Refused(409, f"The job is {job.state}; its results are not there yet.", retry_after=1)
    if kind == "report":
        note_taken(server, job, kind, client.name)
        return JSONResponse(_report(job))
    outputs = job.result["outputs"]
    if kind not in outputs:
        raise Refused(404, f"There is no such output; there are {', '.join([*outputs, 'report'])}.")
    return output_file(server, job, kind, client.name)


@router.get("/jobs/{job_id}/events", responses=answers(404), response_class=StreamingResponse)
async def get_events(
    request: Request, job_id: str, client: Annotated[Client, Depends(reader)]
) -> StreamingResponse:
    """Follow a job by server-sent events; each holds what GET of the job says, the last one too."""
    job = await run_in_threadpool(job_of, request, job_id, client)
    return StreamingResponse(_events(running(request), job), media_type="text/event-stream")


def output_file(server: Running, job: JobRecord, kind: str, user: str) -> Response:
    """An output of a job that is done, under a name that says what it is.

    Args:
        server: at work.
        job: that is done.
        kind: one of its outputs.
        user: who takes it, for the audit log.

    Raises:
        Refused: with 404 if it was removed meanwhile.
    """
    output = job.result["outputs"][kind]
    file = open_output(server, job, kind, user)
    return streamed(file, media_type=output["type"], filename=_name(kind, output))


def open_output(server: Running, job: JobRecord, kind: str, user: str) -> BinaryIO:
    """As :func:`output_file`, the file itself."""
    path: Path = server.store.folder(job.id) / OUTPUT / job.result["outputs"][kind]["file"]
    note_taken(server, job, kind, user)
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise Refused(404, "The result was removed.", hint="Send the image again.") from None


def note_taken(server: Running, job: JobRecord, kind: str, user: str) -> None:
    """Write to the audit log who takes which result."""
    server.audit.write(
        "output", user=user, outcome="fetched", job=job.id, series=job.series, kind=kind
    )


def _name(kind: str, output: Mapping[str, Any]) -> str:
    return f"{kind}.{output['file'].partition('.')[2]}"


def describe(server: Running, job: JobRecord) -> dict[str, Any]:
    """What a client is told of a job."""
    model: dict[str, Any] = {"name": job.model}
    tree: dict[str, Any] = {
        "id": job.id,
        "state": job.state,
        "model": {**model, **(job.result.get("model") or {})},
        "position": server.store.position(job),
        "attempts": job.attempts,
        "created": _time(job.created),
        "started": _time(job.started),
        "finished": _time(job.finished),
    }
    progress = server.service.progress(job.id)
    if job.state == "running" and progress is not None:
        share = progress.done / progress.total if progress.total else None
        tree["progress"] = {"phase": progress.phase, "done": progress.done,
                            "total": progress.total, "share": share,
                            **{name: progress.facts[name] for name in _FACTS
                               if name in progress.facts}}  # fmt: skip
    if job.failure is not None:
        tree["error"] = job.failure.to_tree()
        if "notice" in job.result:
            tree["notice"] = "made" if job.result["notice"] else "not made"
    if job.state == "done":
        outputs = job.result["outputs"]
        tree |= {name: job.result[name] for name in ("seconds", "warnings", "notes", "labels")}
        tree["estimate"] = estimate_of(job)
        tree["outputs"] = [
            {"kind": kind, "href": f"/v1/jobs/{job.id}/outputs/{kind}",
             "name": _name(kind, output),
             **{name: value for name, value in output.items() if name != "file"}}
            for kind, output in outputs.items()
        ]  # fmt: skip
    return tree | _delivered(server, job)


def estimate_of(job: JobRecord) -> dict[str, Any]:
    """How good the result of a job that is done probably is; an older server did not say it."""
    found: dict[str, Any] | None = job.result.get("estimate")
    return not_estimated().to_dict() if found is None else found


def _delivered(server: Running, job: JobRecord) -> dict[str, Any]:
    """How far delivering is: ``storing`` for the PACS, and ``deliveries`` to all destinations."""
    found = [] if server.deliveries is None else server.deliveries.of(job.id)
    lines = [
        {
            "destination": one.destination, "state": one.state, "attempts": one.attempts,
            "detail": one.reason, "next": _time(one.due) if one.state == "waiting" else None,
            "finished": _time(one.finished),
        }
        for one in found
    ]  # fmt: skip
    known = {one.destination for one in found}
    state = "held" if job.is_held else "waiting"
    if job.state == "done" or not job.is_finished:
        lines += [{"destination": name, "state": state, "attempts": 0, "detail": None}
                  for name in job.options.destinations if name not in known]  # fmt: skip
    if not lines:
        return {}
    tree: dict[str, Any] = {"deliveries": lines}
    for line in lines:
        if line["destination"] == PACS:
            tree["storing"] = {key: line[key] for key in line if key != "destination"}
    return tree


def _report(job: JobRecord) -> dict[str, Any]:
    return {
        "job": job.id,
        "computed": _time(job.finished),
        "notice": "Research use only; this is not a medical device.",
        **{name: value for name, value in job.result.items() if name != "outputs"},
        "outputs": {kind: output["sha256"] for kind, output in job.result["outputs"].items()},
    }


async def _events(server: Running, job: JobRecord) -> AsyncIterator[str]:
    watch = server.service.watch
    with watch(job.id) as changed, watch(job.id, end_only=True) as ended:
        while True:
            changed.clear()
            now = await run_in_threadpool(server.store.get, job.id)
            if now is None:
                return
            about = await run_in_threadpool(describe, server, now)
            yield f"event: job\ndata: {json.dumps(about)}\n\n"
            if now.is_finished or server.service.stopping:
                return
            with suppress(TimeoutError):  # the end is told at once
                await asyncio.wait_for(ended.wait(), _BETWEEN)
            for _ in range(int(_LOOK)):
                with suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), 1.0)
                if changed.is_set() or server.service.stopping:
                    break
            else:
                yield ": still here\n\n"


def _options(form: Any) -> JobOptions:
    passes = text_of(form, "uncertainty") or "0"
    if not (passes.isascii() and passes.isdecimal() and len(passes) < 4):
        raise Refused(422, "uncertainty: is no number of passes.")
    objects = tuple(part.strip() for part in text_of(form, "objects").split(",") if part.strip())
    return JobOptions(
        format=text_of(form, "format"), objects=tuple(dict.fromkeys(objects)),
        probabilities=_flag(form, "probabilities"), uncertainty=int(passes),
        image=_flag(form, "image"), select=text_of(form, "select"),
    )  # fmt: skip


def _flag(form: Any, name: str) -> bool:
    text = text_of(form, name).lower()
    if text not in ("", "true", "false", "1", "0"):
        raise Refused(422, f"{name}: is true or false.")
    return text in ("true", "1")


def _time(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


async def wait_for(request: Request, job: JobRecord) -> JobRecord:
    """Wait until a job has ended; it is cancelled if its client leaves.

    Raises:
        Refused: with 503 if the server stops before the job's turn has come.
    """
    server = running(request)
    with server.service.watch(job.id, end_only=True) as ended:
        while True:
            now = await run_in_threadpool(server.store.get, job.id)
            if now is None:
                raise Refused(409, "The job was removed.")
            if now.is_finished:
                return now
            if server.service.stopping and now.state == "queued":
                stopping = Failure(503, "The server is stopping.")
                await run_in_threadpool(server.service.cancel, now, stopping)
            try:
                await asyncio.wait_for(ended.wait(), _PRESENT)
            except TimeoutError:
                if await request.is_disconnected():
                    left = Failure(409, "The client left.")
                    await run_in_threadpool(server.service.cancel, now, left)
