"""The other side of associations: applications of pynetdicom, bare sockets, and storescp."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts

from medseg_nca.io.dimse.address import DimseAddress
from medseg_nca.io.dimse.association import prepare_pynetdicom
from medseg_nca.io.dimse.tls import DimseTls
from tests.programs import dcmtk_program

VERIFICATION = "1.2.840.10008.1.1"


@contextmanager
def node(
    *handlers: Any, tls: DimseTls | None = None, classes: Sequence[str] | None = None,
    **settings: Any,
) -> Iterator[DimseAddress]:  # fmt: skip
    """An application of pynetdicom that takes everything, or some classes."""
    prepare_pynetdicom()
    entity = AE("NODE")
    entity.acse_timeout = 5  # of a caller that connects and asks for nothing
    every = [str(one.abstract_syntax) for one in AllStoragePresentationContexts]
    for sop_class in (VERIFICATION, *every) if classes is None else classes:
        entity.add_supported_context(sop_class, ALL_TRANSFER_SYNTAXES)
    for name, value in settings.items():
        setattr(entity, name, value)
    server = entity.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=list(handlers),
        ssl_context=None if tls is None else tls.server_context(),
    )  # fmt: skip
    try:
        yield DimseAddress("NODE", "127.0.0.1", server.server_address[1])
    finally:
        server.shutdown()
        until(lambda: not any(one.is_alive() for one in entity.active_associations))


@contextmanager
def bare(talk: Callable[[socket.socket], None]) -> Iterator[DimseAddress]:
    """A server that speaks no DICOM of its own; ``talk`` has each connection until the end."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        kept: list[socket.socket] = []

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                kept.append(connection)
                with suppress(OSError):
                    talk(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        yield DimseAddress("BARE", "127.0.0.1", listening.getsockname()[1])
        listening.shutdown(socket.SHUT_RDWR)
        for connection in kept:
            connection.close()
        thread.join(60)
        assert not thread.is_alive()


def answers(data: bytes) -> Callable[[socket.socket], None]:
    """Wait for a request, whatever it is, and send this."""

    def talk(connection: socket.socket) -> None:
        connection.recv(10**6)
        connection.sendall(data)

    return talk


@contextmanager
def storescp(folder: Path, *options: str) -> Iterator[DimseAddress]:
    """dcmtk's archive, which keeps in ``folder`` what it gets."""
    program = dcmtk_program("storescp")
    if program is None:
        pytest.skip("storescp is not installed (Debian: dcmtk)")
    folder.mkdir()
    address = DimseAddress("STORESCP", "127.0.0.1", free_port())
    with (folder.parent / "storescp.log").open("wb") as log:
        process = subprocess.Popen(
            [program, "-v", "-od", str(folder), *options, str(address.port)],
            stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        until(lambda: listens(address.port) or process.poll() is not None)
        yield address
    finally:
        process.terminate()
        process.wait(60)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def until(happens: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not happens():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)
