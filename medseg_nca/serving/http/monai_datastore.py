"""MONAI Label's data store: images, and label maps saved under tags."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, BinaryIO

from fastapi import APIRouter, Depends, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, Response

from medseg_nca.serving.errors import Refused
from medseg_nca.serving.http.files import streamed
from medseg_nca.serving.http.monai import datastore_stats, save_upload
from medseg_nca.serving.http.running import Client, Running, answers, reader, running, sender
from medseg_nca.serving.http.uploads import file_of, form_of, incoming, take
from medseg_nca.serving.images.image import LONGEST_ID
from medseg_nca.serving.labels import FINAL

router = APIRouter(prefix="/datastore", tags=["MONAI Label"])
Id = Annotated[str, Query(min_length=1, max_length=LONGEST_ID, description="Id of an image.")]


def _form(part: str) -> dict[str, Any]:
    content = {"multipart/form-data": {"schema": {
        "type": "object", "required": [part],
        "properties": {part: {"type": "string", "format": "binary"}},
    }}}  # fmt: skip
    return {"requestBody": {"required": True, "content": content}}


@router.get("", responses=answers(422, 502, 503, 504))
@router.get("/", include_in_schema=False)
def datastore(
    request: Request,
    client: Annotated[Client, Depends(reader)],
    output: Annotated[str, Query(description="all, or stats for the numbers alone.")] = "all",
) -> dict[str, Any]:
    """List images and their label maps."""
    server = running(request)
    if output not in ("all", "stats"):
        raise Refused(422, "output: it can be all or stats.")
    if output == "stats":
        return datastore_stats(server)
    saved = server.labels.all()
    objects = {}
    for name, image in server.studies.all().items():
        labels = {
            tag: {"ext": label.suffix, "info": {"version": label.version, "ts": int(label.saved)}}
            for tag, label in saved.get(name, {}).items()
        }
        objects[name] = {"image": {"ext": image.suffix, "info": {}}, "labels": labels}
    return {"name": "medseg_nca", "description": "", "objects": objects}


@router.put("", openapi_extra=_form("file"), responses=answers(409, 413, 422, 502, 503, 504))
@router.put("/", include_in_schema=False)
async def add_image(
    request: Request, client: Annotated[Client, Depends(sender)], image: Id
) -> dict[str, str]:
    """Keep an image under an id."""
    server = running(request)
    async with form_of(request) as form, incoming(server) as folder:
        received = await take(server, file_of(form, "file"), folder)
        await run_in_threadpool(server.studies.add, image, received)
    await run_in_threadpool(
        server.audit.write, "image", user=client.name, outcome="kept",
        series=server.audit.name(image),
    )  # fmt: skip
    return {"image": image}


@router.get("/image", responses=answers(404, 502, 503, 504), response_class=FileResponse)
def get_image(request: Request, client: Annotated[Client, Depends(reader)], image: Id) -> Response:
    """Fetch an image; a DICOM series comes as a zip archive."""
    server = running(request)
    found = server.studies.get(image)
    server.audit.write(
        "image", user=client.name, outcome="fetched", series=server.audit.name(image)
    )
    if not found.dicom:
        return FileResponse(found.files[0], filename=f"image{found.suffix}")
    with server.studies.using(found) as files:
        return _zipped(server, files)


@router.get("/image/info", responses=answers(404, 502, 503, 504))
def get_image_info(
    request: Request, client: Annotated[Client, Depends(reader)], image: Id
) -> dict[str, Any]:
    """Say what is known of an image."""
    found = running(request).studies.get(image)
    return {"ext": found.suffix, "files": found.count, "checksum": found.checksum()}


@router.put("/label", openapi_extra=_form("label"), responses=answers(404, 413, 422, 502, 503, 504))
async def save_label(
    request: Request,
    client: Annotated[Client, Depends(sender)],
    image: Id,
    tag: Annotated[str, Query(max_length=64, description="For example final.")] = "",
) -> dict[str, Any]:
    """Save a label map of an image; earlier ones of the tag are kept."""
    server = running(request)
    found = await run_in_threadpool(server.studies.get, image)
    async with incoming(server) as folder:
        upload = await save_upload(request, folder, "label")
        saved = await run_in_threadpool(
            server.labels.save, found, tag or FINAL, upload, client.name
        )
    await run_in_threadpool(
        server.audit.write, "label", user=client.name, outcome=f"saved version {saved.version}",
        series=server.audit.name(image),
    )  # fmt: skip
    return {"image": image, "label": image, "tag": saved.tag, "version": saved.version}


@router.get("/label", responses=answers(404), response_class=FileResponse)
def get_label(
    request: Request,
    client: Annotated[Client, Depends(reader)],
    label: Id,
    tag: Annotated[str, Query(max_length=64)] = "",
) -> FileResponse:
    """Fetch the newest label map of an image."""
    saved = running(request).labels.get(label, tag)
    return FileResponse(saved.path, filename=f"label{saved.suffix}")


@router.get("/label/info", responses=answers(404))
def get_label_info(
    request: Request,
    client: Annotated[Client, Depends(reader)],
    label: Id,
    tag: Annotated[str, Query(max_length=64)] = "",
) -> dict[str, Any]:
    """Say what is known of the newest label map of an image."""
    saved = running(request).labels.get(label, tag)
    return {"tag": saved.tag, "version": saved.version, "ts": int(saved.saved)}


def _zipped(server: Running, files: Sequence[Path]) -> Response:
    """A zip archive from a file without a name, so that none stays behind, whatever happens."""
    archive: BinaryIO = tempfile.TemporaryFile(dir=server.store.incoming)  # noqa: SIM115  # closed when it was sent
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as packed:
        for number, path in enumerate(files, 1):
            packed.write(path, f"{number:05d}.dcm")
    return streamed(archive, media_type="application/zip", filename="image.zip")
