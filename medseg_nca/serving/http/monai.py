"""MONAI Label's surface, for 3D Slicer, OHIF's plug-in and MONAILabelClient: all but inference."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import PlainTextResponse

from medseg_nca import __version__
from medseg_nca.io.dicomweb.errors import DicomWebError
from medseg_nca.serving.errors import Refused, failure_of
from medseg_nca.serving.http.running import (
    Client,
    Running,
    admin,
    answers,
    reader,
    running,
    sender,
)
from medseg_nca.serving.http.uploads import file_of, form_of, incoming, take
from medseg_nca.serving.labels import FINAL

router = APIRouter(tags=["MONAI Label"])
_MOST_LINES = 10_000
_RANDOM = {"random": {"description": "One of the images without a final label map, by chance."}}
_FILES: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": {
        "type": "object",
        "required": ["files"],
        "properties": {"files": {"type": "string", "format": "binary"}},
    }}}}
}  # fmt: skip


@router.get("/info", responses=answers())
@router.get("/info/", include_in_schema=False)
def info(request: Request, client: Annotated[Client, Depends(reader)]) -> dict[str, Any]:
    """Describe the server. There is no key "config" at the top: 3D Slicer would refuse it."""
    server = running(request)
    models: dict[str, Any] = {}
    names: list[str] = []
    for served in server.catalogue.all:
        labels = {label.name: label.written for label in served.spec.labels.labels}
        names += [name for name in labels if name not in names]
        models[served.entry.name] = {
            "type": "segmentation",
            "labels": labels,
            "dimension": served.spec.plan.dims,
            "description": f"{served.spec.model.name}, version {served.info.version}",
            "version": served.info.version,
            "config": {},
        }
    return {
        "name": "medseg_nca",
        "description": "Segmentation with neural cellular automata. Research use only.",
        "version": __version__,
        "labels": names,
        "models": models,
        "trainers": {},
        "strategies": _RANDOM,
        "scoring": {},
        "train_stats": {},
        "datastore": _stats_or_why(server),
    }


@router.put("/session", openapi_extra=_FILES, responses=answers(413, 422))
@router.put("/session/", include_in_schema=False)
async def create_session(
    request: Request, client: Annotated[Client, Depends(sender)]
) -> dict[str, Any]:
    """Keep an image for several predictions."""
    server = running(request)
    async with form_of(request) as form, incoming(server) as folder:
        received = await take(server, file_of(form, "files", "file"), folder)
        name = await run_in_threadpool(server.sessions.create, received, client.name)
        about = await run_in_threadpool(server.sessions.info, name, client.owner)
    return {"session_id": name, "session_info": about}


@router.get("/session/{session_id}", responses=answers(404))
def get_session(
    request: Request, session_id: str, client: Annotated[Client, Depends(reader)]
) -> dict[str, Any]:
    """Say what is known of a session."""
    return running(request).sessions.info(session_id, client.owner)


@router.delete("/session/{session_id}", responses=answers(404))
def delete_session(
    request: Request, session_id: str, client: Annotated[Client, Depends(sender)]
) -> dict[str, Any]:
    """Forget a session and its image."""
    running(request).sessions.remove(session_id, client.owner)
    return {}


@router.post("/activelearning/{strategy}", responses=answers(404, 502, 503, 504))
def next_image(
    request: Request, strategy: str, client: Annotated[Client, Depends(reader)]
) -> dict[str, Any]:
    """Name an image without a final label map; {} if there is none left."""
    server = running(request)
    if strategy not in _RANDOM:
        raise Refused(404, "There is no such strategy; there is: random.")
    labelled = {name for name, tags in server.labels.all().items() if FINAL in tags}
    image = server.studies.sample(labelled)
    if image is None:
        return {}
    return {"id": image.id, "name": image.id, "path": "", "checksum": image.checksum(),
            "strategy": strategy}  # fmt: skip


@router.get("/train", responses=answers(404))
@router.get("/train/", include_in_schema=False)
def training(client: Annotated[Client, Depends(reader)]) -> None:
    """Say that no training is running: there is none here."""
    raise Refused(404, "No training is running.")


@router.post("/train", responses=answers(501))
@router.post("/train/", include_in_schema=False)
@router.post("/train/{model}", include_in_schema=False)
def start_training(client: Annotated[Client, Depends(reader)], model: str | None = None) -> None:
    """Refuse: models are trained by `medseg-nca train` and come here by the registry."""
    raise Refused(501, "This server does not train.", hint="Train with `medseg-nca train`.")


@router.delete("/train", responses=answers(404))
@router.delete("/train/", include_in_schema=False)
def stop_training(client: Annotated[Client, Depends(reader)]) -> None:
    """Say that no training is running."""
    raise Refused(404, "No training is running.")


@router.get("/logs", responses=answers(), response_class=PlainTextResponse)
@router.get("/logs/", include_in_schema=False)
def logs(
    request: Request,
    client: Annotated[Client, Depends(admin)],
    lines: Annotated[int, Query(ge=1, le=_MOST_LINES)] = 300,
) -> PlainTextResponse:
    """Give the last lines of the audit log."""
    return PlainTextResponse(running(request).audit.tail(lines))


def _stats_or_why(server: Running) -> dict[str, Any]:
    """What models there are is said even where the images lie on a server that is down."""
    try:
        return datastore_stats(server)
    except (DicomWebError, Refused) as error:
        empty: dict[str, Any] = {"total": 0, "completed": 0, "label_tags": {}, "label_names": {}}
        return {**empty, "problem": failure_of(error).detail}


def datastore_stats(server: Running) -> dict[str, Any]:
    """How many images there are, and how many have label maps."""
    saved, images = server.labels.all(), server.studies.all()
    tags: dict[str, int] = {}
    for name, labels in saved.items():
        for tag in labels if name in images else ():
            tags[tag] = tags.get(tag, 0) + 1
    return {"total": len(images), "completed": tags.get(FINAL, 0), "label_tags": tags,
            "label_names": {}}  # fmt: skip


async def save_upload(request: Request, folder: Path, *names: str) -> Path:
    """Bring the one file of a form into a folder as it is.

    Raises:
        Refused: with 422 if there is none or it is empty.
    """
    server = running(request)
    async with form_of(request) as form:
        upload = file_of(form, *names)

        def work() -> Path:
            from medseg_nca.serving.intake import save

            path = folder / "upload"
            if not save(upload.file, path, server.settings.limits.body_bytes):
                raise Refused(422, "The file is empty.")
            os.chmod(path, 0o600)
            return path

        return await run_in_threadpool(work)
