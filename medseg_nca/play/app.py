"""The application: a page, and an automaton that takes steps when the page asks for a picture."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response

from medseg_nca import __version__
from medseg_nca.play.messages import Begin, Look
from medseg_nca.play.sessions import PlaySessions
from medseg_nca.serving.http import problems
from medseg_nca.serving.http.guard import Guard
from medseg_nca.serving.http.page_answer import page_answer
from medseg_nca.serving.metrics import Metrics
from medseg_nca.serving.page.files import page_file

HOST = "127.0.0.1"
BODY_BYTES = 32 * 1024
PAGE, SERVED = "medseg_nca.play", "medseg_nca.serving.page"
# What the page shares with that of ``serve``.
_SHARED = frozenset({"style.css", "icon.svg", "js/dom.js", "js/api.js"})


def create_play_app(sessions: PlaySessions, model: str, task: str) -> FastAPI:
    """Make the application.

    Args:
        sessions: of all pages.
        model: name of the model, for the page.
        task: its task.
    """
    app = FastAPI(
        title="medseg_nca play", version=__version__, docs_url=None, redoc_url=None,
        openapi_url=None, redirect_slashes=False,
    )  # fmt: skip
    problems.install(app)

    @app.get("/")
    def start(request: Request) -> Response:
        return page_answer(request, page_file("index.html", PAGE))

    @app.get("/page/{name:path}")
    def file(request: Request, name: str) -> Response:
        return page_answer(request, page_file(name, SERVED if name in _SHARED else PAGE))

    @app.get("/v1/about")
    def about() -> dict[str, Any]:
        names = [each.name for each in sessions.inputs]
        return {"version": __version__, "model": model, "task": task, "inputs": names}

    @app.post("/v1/sessions", status_code=201)
    def begin(wish: Begin) -> dict[str, Any]:
        key, session = sessions.begin(wish.input)
        return {"id": key, **session.about()}

    @app.post("/v1/sessions/{key}/look")
    def look(key: str, wish: Look) -> Response:
        content = sessions.get(key).look(wish)
        return Response(content, media_type="application/octet-stream")

    @app.delete("/v1/sessions/{key}", status_code=204)
    def end(key: str) -> None:
        sessions.end(key)

    app.add_middleware(Guard, body_bytes=BODY_BYTES, host=HOST, open_to_all=True, metrics=Metrics())
    return app
