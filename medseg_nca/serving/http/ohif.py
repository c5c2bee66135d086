"""The OHIF viewer beneath ``/ohif/``, so that it, its images and its models have one address.

Its files tell nothing of patients and are handed out to all; what it asks for is not.
"""

from __future__ import annotations

import gzip

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse, Response

from medseg_nca.serving.errors import Refused
from medseg_nca.serving.http.running import running
from medseg_nca.serving.ohif.build import ROOT

router = APIRouter(include_in_schema=False)


@router.get("/ohif")
async def start() -> Response:
    """The viewer begins one level below."""
    return RedirectResponse(ROOT, 307)


@router.get("/ohif/{name:path}")
async def file(request: Request, name: str) -> Response:
    """A file of the viewer."""
    build = running(request).ohif
    if build is None:
        raise Refused(404, "This server has no OHIF viewer.", hint="Start it with --ohif.")
    found = await run_in_threadpool(build.find, name)
    if found is None:
        raise Refused(404, "The viewer has no such file.")
    headers = {
        "Content-Security-Policy": build.policy, "Cache-Control": "no-cache", "ETag": found.tag,
        "Vary": "Accept-Encoding",
    }  # fmt: skip
    if request.headers.get("if-none-match") == found.tag:
        return Response(status_code=304, headers=headers)
    content = found.content
    if found.packed and "gzip" in request.headers.get("accept-encoding", ""):
        headers["Content-Encoding"] = "gzip"
    elif found.packed:
        content = await run_in_threadpool(gzip.decompress, content)
    return Response(content, media_type=found.type, headers=headers)
