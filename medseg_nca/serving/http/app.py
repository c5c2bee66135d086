"""The application: all routes over one server at work."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool

from medseg_nca import __version__
from medseg_nca.serving.http import (
    auth,
    docs,
    health,
    jobs,
    models,
    monai,
    monai_datastore,
    monai_infer,
    ohif,
    page,
    problems,
    proxy,
)
from medseg_nca.serving.http.guard import Guard
from medseg_nca.serving.http.running import Running

_ABOUT = (
    "Segmentation of medical images with neural cellular automata. Research use only: this is not "
    "a medical device. Errors have a 'detail' that says what is wrong and a 'hint', the next step."
)


def create_app(running: Running) -> FastAPI:
    """Make the application of a server.

    Args:
        running: what it stands on; it is closed when the application ends.
    """

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        running.service.start()
        if running.node is not None:
            running.node.start()
        try:
            yield
        finally:
            if running.node is not None:
                await run_in_threadpool(running.node.stop)
            await run_in_threadpool(running.service.close)
            if running.upstream is not None:
                await running.upstream.close()

    app = FastAPI(
        title="medseg_nca", version=__version__, description=_ABOUT, lifespan=life,
        docs_url=None, redoc_url=None, redirect_slashes=False,
    )  # fmt: skip
    app.state.running = running
    problems.install(app, running.settings.state)
    for module in (health, models, jobs, auth, monai, monai_infer, monai_datastore, proxy, docs,
                   ohif, page):  # fmt: skip
        app.include_router(module.router)
    _describe_problems(app)
    app.add_middleware(
        Guard,
        body_bytes=running.settings.limits.body_bytes,
        host=running.settings.host,
        open_to_all=running.tokens is None and not running.settings.insecure,
        metrics=running.metrics,
        stopping=lambda: running.service.stopping,
    )
    return app


def _describe_problems(app: FastAPI) -> None:
    """Put the shape of errors into the OpenAPI description, where the routes refer to it."""
    described = app.openapi

    def openapi() -> dict[str, object]:
        first = app.openapi_schema is None
        tree = described()
        if first:
            schemas = tree.setdefault("components", {}).setdefault("schemas", {})
            schemas["Problem"] = problems.ProblemAnswer.model_json_schema()
        return tree

    app.openapi = openapi  # type: ignore[method-assign]
