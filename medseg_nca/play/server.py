"""The page's server, which only this machine reaches."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import uvicorn

from medseg_nca.play.app import HOST, create_play_app
from medseg_nca.play.sessions import PlaySessions
from medseg_nca.serving.http.connection import MOST_HEADER, BoundedConnection, Waiting
from medseg_nca.serving.quiet import quiet_server
from medseg_nca.serving.security.listening import bind

# Seconds for the headers of a request, and for requests at work at the end.
_HEADERS, _END = 30.0, 5
_REQUESTS = 64


def serve_play(
    sessions: PlaySessions, model: str, task: str, port: int, listening: Callable[[str], None]
) -> None:
    """Serve until Ctrl-C or SIGTERM.

    Args:
        sessions: of all pages.
        model: name of the model.
        task: its task.
        port: on the loopback interface; 0 takes any that is free.
        listening: told the URL once requests are taken.

    Raises:
        ConfigError: if the port cannot be used.
    """
    place = bind(HOST, port)
    try:
        quiet_server()
        config = uvicorn.Config(
            create_play_app(sessions, model, task),
            http=partial(BoundedConnection, waiting=Waiting(_HEADERS)),  # type: ignore[arg-type]
            ws="none",
            h11_max_incomplete_event_size=MOST_HEADER,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=_REQUESTS,
            timeout_graceful_shutdown=_END,
        )
        listening(f"http://{HOST}:{place.getsockname()[1]}")
        uvicorn.Server(config).run(sockets=[place])
    finally:
        place.close()
