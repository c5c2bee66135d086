"""The DICOMweb server behind this one, for viewers that know no other address (OHIF)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response, StreamingResponse
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from medseg_nca.serving.errors import Refused
from medseg_nca.serving.http.running import Client, answers, reader, running, sender
from medseg_nca.serving.proxy.resources import resource_of
from medseg_nca.serving.proxy.rewriting import AddressRewriter
from medseg_nca.serving.proxy.upstream import Upstream, UpstreamAnswer

router = APIRouter(prefix="/proxy/dicom", tags=["DICOMweb"])
_ROOT = "/proxy/dicom/wado"
# Seconds between two looks at whether the client is still there.
_LOOK = 0.25


@router.get(
    "/{service}/{path:path}",
    responses=answers(400, 404, 405, 406, 414, 502, 503, 504),
    response_class=Response,
)
async def retrieve(
    request: Request, service: str, path: str, client: Annotated[Client, Depends(reader)]
) -> Response:
    """Search or retrieve: QIDO-RS and WADO-RS of the DICOMweb server behind this one."""
    upstream = _upstream(request)
    query = request.url.query
    resource = resource_of(service, "GET", path, query)
    asked = upstream.ask("GET", resource, query, request.headers)
    answer = await _while_there(request, asked)
    if (outcome := _outcome(resource)) is not None:
        await _note(request, client, outcome, resource, answer)
    return _ProxiedAnswer(answer)


@router.post(
    "/{service}/{path:path}",
    responses=answers(400, 404, 405, 409, 413, 414, 415, 502, 503, 504),
    response_class=Response,
)
async def store(
    request: Request, service: str, path: str, client: Annotated[Client, Depends(sender)]
) -> Response:
    """Store instances: STOW-RS of the DICOMweb server behind this one."""
    upstream = _upstream(request)
    resource = resource_of(service, "POST", path, request.url.query)
    kind = request.headers.get("content-type", "").replace(" ", "").lower()
    if not kind.startswith("multipart/related"):
        raise Refused(415, "Instances are stored as multipart/related of application/dicom.")
    try:
        answer = await upstream.ask("POST", resource, "", request.headers, request.stream())
    except ClientDisconnect:
        raise Refused(408, "The rest of the request did not come.") from None
    await _note(request, client, "stored", resource, answer)
    return _ProxiedAnswer(answer)


def _upstream(request: Request) -> Upstream:
    found = running(request).upstream
    if found is None:
        raise Refused(
            404, "The images of this server do not lie on a DICOMweb server.",
            hint="GET /datastore/?output=all lists them.",
        )  # fmt: skip
    return found


async def _while_there(
    request: Request, asked: Coroutine[Any, Any, UpstreamAnswer]
) -> UpstreamAnswer:
    """Wait for an answer as long as the client does.

    Raises:
        Refused: with 408 if the client leaves, besides what the request itself raises.
    """
    task = asyncio.ensure_future(asked)
    try:
        while not (await asyncio.wait({task}, timeout=_LOOK))[0]:
            if await request.is_disconnected():
                raise Refused(408, "The client left.")
    except BaseException:
        if not task.cancel() and task.exception() is None:  # it came at the last moment
            await task.result().close()
        raise
    return task.result()


def _outcome(resource: str) -> str | None:
    """What the audit log has of a retrieval; None for searches, and for single frames.

    Viewers ask for hundreds of frames, and for the metadata before.
    """
    if resource.endswith(("/metadata", "/rendered")):
        return "viewed"
    return "fetched" if resource.count("/") in (1, 3, 5) else None  # study, series, instance


async def _note(
    request: Request, client: Client, outcome: str, resource: str, answer: UpstreamAnswer
) -> None:
    """Write to the audit log who saw or stored what, by the keyed hash of its UID.

    An answer whose line cannot be written is not given, and its connection is let go.
    """
    server, parts = running(request), resource.split("/")
    facts = {
        kind: server.audit.name(parts[place])
        for place, kind in ((1, "study"), (3, "series"))
        if len(parts) > place and parts[place - 1] in ("studies", "series")
    }
    try:
        await run_in_threadpool(
            server.audit.write, "dicomweb", user=client.name, outcome=outcome, **facts
        )
    except BaseException:
        await answer.close()
        raise


class _ProxiedAnswer(StreamingResponse):
    """Passes an answer on while it comes, and ends it when the client leaves."""

    def __init__(self, answer: UpstreamAnswer) -> None:
        self._answer = answer
        super().__init__(_body(answer), answer.status, answer.headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; see Starlette."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._answer.close()


async def _body(answer: UpstreamAnswer) -> AsyncIterator[bytes]:
    if not any(word in answer.headers.get("content-type", "") for word in ("json", "xml")):
        async for block in answer.blocks():
            yield block
        return
    rewriter = AddressRewriter(_ROOT)
    async for block in answer.blocks():
        yield rewriter.feed(block)
    yield rewriter.end()
