"""A body that does not come holds nothing up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from starlette.types import Message, Receive, Scope, Send

from medseg_nca.serving.http.guard import Guard
from medseg_nca.serving.metrics import Metrics


async def reads_all(scope: Scope, receive: Receive, send: Send) -> None:
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def ask(
    messages: list[Message], stopping: Callable[[], bool] = lambda: False, patience: float = 0.1
) -> tuple[int, dict[bytes, bytes]]:
    """Send a request whose body never ends if ``messages`` do not end it."""
    sent: list[Message] = []

    async def receive() -> Message:
        if messages:
            return messages.pop(0)
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    guard = Guard(
        reads_all, body_bytes=10, host="127.0.0.1", open_to_all=True, metrics=Metrics(),
        stopping=stopping, patience=patience,
    )  # fmt: skip
    scope = {"type": "http", "method": "POST", "headers": [(b"host", b"localhost")]}
    asyncio.run(asyncio.wait_for(guard(scope, receive, send), 20))
    return sent[0]["status"], dict(sent[0]["headers"])


def part(body: bytes, more: bool) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


def test_a_whole_body_is_served() -> None:
    status, headers = ask([part(b"ab", True), part(b"c", False)])
    assert (status, b"connection" in headers) == (200, False)


def test_a_body_that_stands_still_ends_its_connection() -> None:
    status, headers = ask([part(b"ab", True)])
    assert (status, headers[b"connection"]) == (408, b"close")


def test_a_body_that_trickles_ends_its_connection() -> None:
    assert ask([part(b"", True)] * 10**6)[0] == 408


@pytest.mark.parametrize("parts", [0, 1])
def test_a_server_that_stops_waits_for_no_body(parts: int) -> None:
    status, headers = ask([part(b"ab", True)] * parts, lambda: True, patience=1000.0)
    assert (status, headers[b"connection"]) == (503, b"close")


def test_too_much_is_told() -> None:
    assert ask([part(b"x" * 11, False)])[0] == 413
