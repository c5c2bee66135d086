"""Rubbish, floods and clients that stall cost others nothing, and the node little."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from tests.serving.node.receiving import is_closed
from tests.serving.node.running import Node, series, start, storescu
from tests.serving.node.test_receiver_peers import command, data_pdu, request
from tests.tracking.tiny import save_tiny

pytestmark = [pytest.mark.peer, pytest.mark.slow]
# Of the flood; the peers that are served call from another one.
FLOOD, COUNT = "127.0.0.9", 200
MEGABYTE = 10**6


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    folder = tmp_path_factory.mktemp("strangers")
    save_tiny(folder / "tiny", seed=10)
    node = start(folder)
    storescu(node, *series(folder, "first"))
    node.ended(1)
    try:
        yield node
    finally:
        assert node.stop() == 0, node.log
        assert "Traceback" not in node.log


def connect(node: Node, data: bytes, address: str = FLOOD) -> socket.socket:
    connection = socket.create_connection(
        ("127.0.0.1", node.port), timeout=60, source_address=(address, 0)
    )
    connection.sendall(data)
    return connection


def is_served(node: Node, folder: Path, name: str) -> None:
    """Another peer stores a series, and it is computed."""
    before = len(node.list())
    storescu(node, *series(folder, name))
    assert node.ended(before + 1)[-1]["state"] == "done"


def test_rubbish_is_dropped_while_others_are_served(node: Node, tmp_path: Path) -> None:
    rubbish = (
        b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\0", b"\1\0\xff\xff\xff\xff", b"\0" * 10**5,
        request() + data_pdu((1, 3, b"rubbish!" * 5)), request() + b"\4\0\xff\xff\xff\xff",
        request() + data_pdu((1, 3, command())) + b"\7\0\0\0\0\4\0\0\0\0",
    )  # fmt: skip
    peers = [connect(node, word) for word in rubbish]
    is_served(node, tmp_path, "beside rubbish")
    assert all(is_closed(peer) for peer in peers)


def test_a_flood_takes_few_threads_and_little_memory(node: Node, tmp_path: Path) -> None:
    process = psutil.Process(node.process.pid)
    threads, memory = process.num_threads(), process.memory_info().rss
    most: list[tuple[int, int]] = []
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.1):
            most.append((process.num_threads(), process.memory_info().rss))

    watcher = threading.Thread(target=look)
    watcher.start()
    stalled = request() + data_pdu((1, 3, command())) + data_pdu((1, 0, bytes(60_000)))
    with ExitStack() as stack:
        try:
            for number in range(COUNT):
                word = stalled if number % 2 else request()
                stack.enter_context(connect(node, word))
            is_served(node, tmp_path, "beside a flood")
        finally:
            ended.set()
            watcher.join()
    print(f"{COUNT} associations of one address: {max(most)[0] - threads} threads and "
          f"{(max(rss for _, rss in most) - memory) / MEGABYTE:.0f} MB more")  # fmt: skip
    assert max(count for count, _ in most) < threads + 80
    assert max(rss for _, rss in most) < memory + 60 * MEGABYTE
    node.until(process.num_threads, lambda count: count <= threads + 2)
    is_served(node, tmp_path, "after a flood")
    assert not list((node.spool / "series" / ".arriving").iterdir())
