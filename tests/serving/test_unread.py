"""A client that does not read its answer holds nothing for long."""

from __future__ import annotations

import asyncio
import socket
import threading
from functools import partial

import uvicorn
from starlette.types import Receive, Scope, Send

from medseg_nca.serving.http.connection import BoundedConnection, Waiting

PATIENCE = 60.0


def test_a_client_that_does_not_read_is_cut_off() -> None:
    left = threading.Event()

    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while (await _next(receive))["type"] != "http.disconnect":
            block = {"type": "http.response.body", "body": b"x" * 2**16, "more_body": True}
            await send(block)
        left.set()

    async def _next(receive: Receive) -> dict[str, object]:
        try:
            return dict(await asyncio.wait_for(receive(), 0.001))
        except TimeoutError:
            return {"type": "http.request"}

    connection = partial(BoundedConnection, waiting=Waiting(PATIENCE), unread=0.5)
    config = uvicorn.Config(
        endless, http=connection, ws="none", lifespan="off", log_config=None,  # type: ignore[arg-type]
        access_log=False,
    )  # fmt: skip
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as place:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [place]})
        thread.start()
        try:
            with socket.create_connection(place.getsockname()) as client:
                client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                assert client.recv(2**20)
                assert left.wait(PATIENCE)
        finally:
            server.should_exit = True
            thread.join(PATIENCE)
    assert not thread.is_alive()
