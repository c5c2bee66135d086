"""The page for people at ``/``; all that it loads comes from here, so that it works offline."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response

from medseg_nca import __version__
from medseg_nca.serving.http.page_answer import page_answer
from medseg_nca.serving.http.running import Client, reader, running, token_of
from medseg_nca.serving.page.files import START, page_file
from medseg_nca.serving.page.sample import make_sample

router = APIRouter(include_in_schema=False)


@router.get("/")
async def start(request: Request) -> Response:
    """The page."""
    return await _answer(request, START)


@router.get("/page/about")
async def about(request: Request) -> dict[str, Any]:
    """What the page shows and offers: who is logged in, if anybody has to be, and the limits."""
    server, user = running(request), None
    token = token_of(request)
    if server.tokens is not None and token is not None:
        user = await run_in_threadpool(server.tokens.user_of, token)
    return {
        "version": __version__,
        "users": server.tokens is not None,
        "user": None if user is None else user.name,
        "may_send": server.tokens is None or (user is not None and user.may("user")),
        "ohif": server.ohif is not None,
        "body_bytes": server.settings.limits.body_bytes,
        "job_age": server.settings.limits.job_age,
    }


@router.get("/page/ready")
async def ready(request: Request) -> dict[str, bool]:
    """As /health/ready, but without an error status, which a browser would log."""
    return {"ready": running(request).service.ready() is None}


@router.get("/page/sample/{name}")
def sample(request: Request, name: str, client: Annotated[Client, Depends(reader)]) -> Response:
    """A made-up image that the model can take."""
    made = make_sample(running(request).catalogue.get(name).spec)
    headers = {"Content-Disposition": f'attachment; filename="{made.name}"'}
    return Response(made.content, media_type=made.type, headers=headers)


@router.get("/page/{name:path}")
async def file(request: Request, name: str) -> Response:
    """A file of the page."""
    return await _answer(request, name)


async def _answer(request: Request, name: str) -> Response:
    return page_answer(request, await run_in_threadpool(page_file, name))
