"""Forms and the files in them."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile

from medseg_nca.io.dicom.remote import may_be_uid
from medseg_nca.serving.errors import Refused
from medseg_nca.serving.http.running import Running, running
from medseg_nca.serving.intake import Received, link, receive, save
from medseg_nca.serving.jobs.records import new_id

# Of a part that is no file.
_MOST_TEXT = 2**20


@asynccontextmanager
async def form_of(request: Request) -> AsyncIterator[FormData]:
    """The form of a request; its files are gone afterwards.

    Raises:
        Refused: with 413 if the body is too large.
        HTTPException: with 400 if it is no form, or has too many parts.
    """
    parts = running(request).settings.limits.parts
    form = await request.form(max_files=parts, max_fields=parts, max_part_size=_MOST_TEXT)
    try:
        yield form
    finally:
        await form.close()


@asynccontextmanager
async def incoming(server: Running) -> AsyncIterator[Path]:
    """An empty folder for what a client sends; it is gone afterwards, unless it was moved."""
    folder = server.store.incoming / new_id()
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        if folder.exists():
            await run_in_threadpool(shutil.rmtree, folder, True)


def text_of(form: FormData, name: str, default: str = "") -> str:
    """A field of a form.

    Raises:
        Refused: with 422 if it is a file.
    """
    value = form.get(name, default)
    if not isinstance(value, str):
        raise Refused(422, f"{name}: is a file, and a text is needed.")
    return value.strip()


def json_of(form: FormData, name: str) -> Mapping[str, Any]:
    """A field of a form that holds a JSON object; {} if it is missing or empty.

    Raises:
        Refused: with 422 if it holds something else.
    """
    text = text_of(form, name)
    try:
        tree = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        tree = None
    if not isinstance(tree, dict):
        raise Refused(422, f"{name}: is no JSON object.")
    return tree


def file_of(form: FormData, *names: str, or_else: str = "") -> UploadFile:
    """The one file of a form; ``or_else`` says what could stand in its place.

    Raises:
        Refused: with 422 if there is none.
    """
    for name in names:
        value = form.get(name)
        if isinstance(value, UploadFile):
            return value
    other = f", nor {or_else}" if or_else else ""
    raise Refused(
        422, f"There is no file in the part {names[0]!r}{other}.",
        hint=f"Send multipart/form-data, for example: curl -F {names[0]}=@image.nii.gz ...",
    )  # fmt: skip


async def take(server: Running, upload: UploadFile, folder: Path) -> Received:
    """Bring an upload into a folder and say what it is.

    Raises:
        ImageError, TooLarge: as :func:`medseg_nca.serving.intake.receive`.
    """

    def work() -> Received:
        limits = server.settings.limits
        path = folder / "upload"
        save(upload.file, path, limits.body_bytes)
        return receive(path, folder, limits)

    return await run_in_threadpool(work)


async def take_named(server: Running, image_id: str, folder: Path) -> Received:
    """Bring an image that is named by its id into a folder, from where it lies.

    Raises:
        Refused: with 404 if there is none, 503 if too many are being fetched.
        DicomWebError: if it lies on another server, and cannot be fetched from there.
        ImageError: if it cannot be read, or is no image.
    """

    def work() -> Received:
        with server.studies.using(server.studies.get(image_id)) as files:
            return link(files, folder)

    return await run_in_threadpool(work)


async def take_series(server: Running, form: FormData, uid: str, folder: Path) -> Received:
    """As :func:`take_named`, a DICOM series by its SeriesInstanceUID.

    Raises:
        Refused: with 422 if it cannot be a UID, or a file was sent too; 404 if there is none.
    """
    if not may_be_uid(uid):
        raise Refused(422, "series: is no SeriesInstanceUID: numbers with dots, 64 at most.")
    if isinstance(form.get("file"), UploadFile):
        raise Refused(422, "series: name a series, or send a file, not both.")
    return await take_named(server, uid, folder)
