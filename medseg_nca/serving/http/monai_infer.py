"""MONAI Label's inference: an image by id, session or upload; the label map in the answer."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response
from starlette.datastructures import FormData, UploadFile

from medseg_nca.serving.catalogue import Served
from medseg_nca.serving.errors import Refused
from medseg_nca.serving.http.jobs import estimate_of, open_output, output_file, wait_for
from medseg_nca.serving.http.problems import problem
from medseg_nca.serving.http.running import Client, Running, answers, running, sender
from medseg_nca.serving.http.submit import submit
from medseg_nca.serving.http.uploads import form_of, incoming, json_of, take, take_named
from medseg_nca.serving.images.image import LONGEST_ID
from medseg_nca.serving.intake import Received, link
from medseg_nca.serving.jobs.records import JobOptions, JobRecord
from medseg_nca.serving.label_file import check_export

router = APIRouter(tags=["MONAI Label"])
OUTPUTS = ("", "all", "image", "json", "dicom_seg")
_FORM: dict[str, Any] = {
    "requestBody": {"content": {"multipart/form-data": {"schema": {
        "type": "object",
        "properties": {
            "params": {"type": "string", "description":
                       "A JSON object: result_extension (.nii.gz, .nii, .nrrd, .seg.nrrd), "
                       "result_dtype, result_compress; other keys are passed over."},
            "file": {"type": "string", "format": "binary",
                     "description": "The image, where it is neither an id nor a session."},
        },
    }}}}
}  # fmt: skip


@router.post(
    "/infer/{model}",
    openapi_extra=_FORM,
    responses=answers(404, 409, 413, 422, 502, 503, 504),
    response_class=Response,
)
async def infer(
    request: Request,
    model: str,
    client: Annotated[Client, Depends(sender)],
    image: Annotated[str, Query(max_length=LONGEST_ID, description="Id of an image.")] = "",
    session_id: Annotated[str, Query(max_length=64, description="Of a session.")] = "",
    output: Annotated[str, Query(description="all, image, json or dicom_seg.")] = "",
) -> Response:
    """Compute an image and wait for it; it is cancelled if the client leaves."""
    server = running(request)
    served = server.catalogue.get(model)
    if output not in OUTPUTS:
        raise Refused(422, "output: it can be all, image, json or dicom_seg.")
    await run_in_threadpool(server.service.room)
    async with form_of(request) as form, incoming(server) as folder:
        options = _options(json_of(form, "params"), output, served)
        received = await _source(server, client, form, image, session_id, folder)
        options = JobOptions(**{**options.to_tree(), "kind": received.kind})
        job = await submit(server, client, served, received, folder, options)
    job = await wait_for(request, job)
    if job.failure is not None:
        return problem(job.failure)
    return await run_in_threadpool(_answer, server, job, output)


async def _source(
    server: Running, client: Client, form: FormData, image: str, session_id: str, folder: Path
) -> Received:
    """Bring the image that was named into a folder: of the session, of the form, or by its id.

    Raises:
        Refused: with 404 if there is no such image or session, 422 if none is named.
    """
    if session_id:
        files = await run_in_threadpool(server.sessions.files, session_id, client.owner)
        return await run_in_threadpool(link, files, folder)
    upload = form.get("file")
    if isinstance(upload, UploadFile):
        return await take(server, upload, folder)
    if not image:
        raise Refused(422, "Name an image, or a session, or send a file.")
    return await take_named(server, image, folder)


def _options(params: Mapping[str, Any], output: str, served: Served) -> JobOptions:
    """What of the parameters is honoured; all others are passed over, as clients send many.

    Raises:
        ConfigError: if a suffix or a type is none that can be written.
    """
    flat = served.spec.plan.dims == 2
    extension = str(params.get("result_extension") or "")
    if extension and not extension.startswith("."):
        extension = f".{extension}"
    dtype = str(params.get("result_dtype") or "")
    check_export(extension, dtype)
    wanted = output in ("", "all", "image")
    return JobOptions(
        objects=("dicom-seg",) if output == "dicom_seg" else ("none",),
        export=(extension or (".png" if flat else ".nii.gz")) if wanted else "",
        export_dtype=dtype if wanted else "",
        export_compress=params.get("result_compress") not in (False, "false", 0),
    )


def _answer(server: Running, job: JobRecord, output: str) -> Response:
    params = _params(job)
    if output == "json":
        return JSONResponse(params)
    if output == "dicom_seg":
        return output_file(server, job, "dicom_seg", job.owner)
    if output == "image":
        return output_file(server, job, "label_file", job.owner)
    with open_output(server, job, "label_file", job.owner) as file:
        return _multipart(params, file.read(), job)


def _params(job: JobRecord) -> dict[str, Any]:
    """What MONAI Label's clients read: label_names gives 3D Slicer the names of the segments."""
    result = job.result
    return {
        "label_names": {label["name"]: label["value"] for label in result["labels"]},
        "labels": result["labels"],
        "model": result["model"]["name"],
        "version": result["model"]["version"],
        "sha256": result["model"]["sha256"],
        "run_id": job.id,
        "latencies": {"total": result["seconds"]},
        "warnings": result["warnings"],
        "estimate": estimate_of(job),
    }


def _multipart(params: Mapping[str, Any], content: bytes, job: JobRecord) -> Response:
    """The two parts that the clients look for, in one piece with its length."""
    output = job.result["outputs"]["label_file"]
    boundary = secrets.token_hex(16)
    suffix = output["file"].partition(".")[2]
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="params"\r\n'
        f"Content-Type: application/json\r\n\r\n{json.dumps(params)}\r\n"
        f'--{boundary}\r\nContent-Disposition: form-data; name="image"; '
        f'filename="label.{suffix}"\r\nContent-Type: {output["type"]}\r\n\r\n'
    )
    body = head.encode() + content + f"\r\n--{boundary}--\r\n".encode()
    return Response(body, media_type=f"multipart/form-data; boundary={boundary}")
