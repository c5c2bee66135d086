"""Whether the server lives, whether it is ready, and its figures."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, PlainTextResponse

from medseg_nca import __version__
from medseg_nca.serving.http.running import running

router = APIRouter(tags=["health"])


@router.get("/health/live")
async def live() -> dict[str, str]:
    """Answer as long as the server lives, whatever its workers do."""
    return {"status": "live", "version": __version__}


@router.get("/health/ready", responses={503: {"description": "Not ready: the detail says why"}})
async def ready(request: Request) -> JSONResponse:
    """Answer 200 once every worker has every model loaded and warmed."""
    why = running(request).service.ready()
    content: dict[str, Any] = {"status": "ready"}
    if why is not None:
        return JSONResponse({"status": "not ready", "detail": why}, 503, {"Retry-After": "2"})
    return JSONResponse(content)


@router.get("/metrics", response_class=PlainTextResponse)
def metrics(request: Request) -> PlainTextResponse:
    """Figures for Prometheus; none of them tells of a patient or a user."""
    server = running(request)
    gauges = server.service.gauges()
    if server.deliveries is not None:
        gauges |= server.deliveries.gauges()
    if server.node is not None:
        gauges |= server.node.gauges()
    text = server.metrics.text(gauges)
    return PlainTextResponse(text, media_type="text/plain; version=0.0.4; charset=utf-8")
