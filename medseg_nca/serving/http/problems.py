"""Errors as answers: a status, ``detail`` that says what is wrong, and ``hint``, the next step."""

from __future__ import annotations

import errno
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from medseg_nca.errors import MedsegError
from medseg_nca.io.dicomweb.errors import DicomWebError
from medseg_nca.serving.errors import Refused, failure_of
from medseg_nca.serving.jobs.records import Failure

# Seconds after which a DICOMweb server that is busy may be asked again.
_BUSY = 10


class ProblemAnswer(BaseModel):
    """What is wrong, and what to do."""

    detail: str = Field(description="What is wrong, and what is allowed.")
    hint: str | None = Field(None, description="The next step.")


def problem(failure: Failure, retry_after: int | None = None) -> JSONResponse:
    """The answer to a request that cannot be served."""
    headers = {}
    if retry_after is not None:
        headers["Retry-After"] = str(retry_after)
    if failure.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    content = {"detail": failure.detail, "hint": failure.hint}
    return JSONResponse(content, failure.status, headers)


def install(app: FastAPI, folder: Path | None = None) -> None:
    """Have all errors answered in this way.

    Args:
        app: the application.
        folder: of the server's state, whose name no answer holds.
    """

    async def refused(request: Request, error: Exception) -> JSONResponse:
        return _refused(error, folder)

    app.add_exception_handler(MedsegError, refused)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(OSError, _no_room)
    app.add_exception_handler(RequestValidationError, _invalid)


def _refused(error: Exception, folder: Path | None) -> JSONResponse:
    failure = failure_of(error, folder)
    retry_after = error.retry_after if isinstance(error, Refused) else None
    if isinstance(error, DicomWebError) and failure.status == 503:
        retry_after = _BUSY
    return problem(failure, retry_after)


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    answer = problem(Failure(error.status_code, str(error.detail)))
    answer.headers.update(error.headers or {})
    return answer


async def _no_room(request: Request, error: Exception) -> JSONResponse:
    """A full disk is told; any other error of the system is a fault, which the guard answers."""
    assert isinstance(error, OSError)
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        raise error
    return problem(Failure(507, "The disk of the server is full.", "Tell who runs the server."))


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    """Without the value, which the framework would give back."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = " ".join(str(part) for part in first["loc"])
    return problem(Failure(422, f"{place}: {first['msg']}."))
