"""A receiver on a free port, and peers that send to it: dcmtk's programs and pynetdicom."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pynetdicom import AE

from medseg_nca.serving.audit import AuditLog
from medseg_nca.serving.metrics import Metrics
from medseg_nca.serving.node.access import parse_allowed
from medseg_nca.serving.node.receiver import Receiver, ReceiverSettings
from medseg_nca.serving.node.spool import Spool
from tests.programs import dcmtk_program

AET, CALLER = "NODE", "SENDER"
MR = "1.2.840.10008.5.1.4.1.1.4"
ECHO = "1.2.840.10008.1.1"
EXPLICIT = "1.2.840.10008.1.2.1"


@dataclass
class Running:
    """A receiver at work."""

    receiver: Receiver
    audit: AuditLog
    metrics: Metrics
    arrivals: list[tuple[str, str]] = field(default_factory=list)

    @property
    def spool(self) -> Spool:
        return self.receiver.spool

    @property
    def port(self) -> int:
        return self.receiver.port

    def counted(self, line: str) -> bool:
        return f"medseg_nca_{line}" in self.metrics.text({}).splitlines()

    def lines(self) -> list[dict[str, Any]]:
        """The audit log."""
        return [json.loads(line) for line in self.audit.tail(1000).splitlines()]

    def files(self) -> list[Path]:
        return [path for one in self.spool.series() for path in self.spool.files(one.key)]

    def leftovers(self) -> list[Path]:
        return list((self.spool.folder / ".arriving").iterdir())


@contextmanager
def running(
    folder: Path, *, allow: str = f"{CALLER}@127.0.0.1", reserve_bytes: int = 0, **settings: Any
) -> Iterator[Running]:
    folder.mkdir(parents=True, exist_ok=True)
    audit, metrics, arrivals = AuditLog(folder), Metrics(), list[tuple[str, str]]()
    given = {"allow": (parse_allowed(allow),), "port": 0, **settings}
    receiver = Receiver(
        Spool(folder / "spool", reserve_bytes=reserve_bytes), ReceiverSettings(AET, **given),
        lambda key, aet: arrivals.append((key, aet)), audit, metrics,
    )  # fmt: skip
    receiver.start()
    try:
        yield Running(receiver, audit, metrics, arrivals)
    finally:
        receiver.stop()
        assert receiver.problem() is not None


@contextmanager
def association(
    port: int,
    *classes: str,
    caller: str = CALLER,
    called: str = AET,
    syntaxes: Any = EXPLICIT,
    handlers: Any = (),
) -> Iterator[Any]:
    """An association of pynetdicom with a receiver; it may be rejected."""
    ae = AE(caller)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 60
    for uid in classes or (MR, ECHO):
        ae.add_requested_context(uid, syntaxes)
    assoc = ae.associate("127.0.0.1", port, ae_title=called, evt_handlers=list(handlers))
    connection = assoc.dul.socket.socket
    try:
        yield assoc
    finally:
        if assoc.is_established:
            assoc.release()
        if assoc.ident is not None:
            assoc.join(60)
        if connection is not None:  # pynetdicom leaves it open where the other side has closed it
            connection.close()


def dcmtk(program: str, port: int, *arguments: object, caller: str = CALLER) -> str:
    """Run a program of dcmtk against a receiver; returns what it says."""
    found = dcmtk_program(program)
    if found is None:
        pytest.skip(f"{program} is not installed (Debian: dcmtk)")
    command = [found, "-v", "-aet", caller, "-aec", AET, *map(str, arguments)]
    place = command.index("--") if "--" in command else len(command)
    command[place : place + 1] = ["127.0.0.1", str(port)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return f"{done.stdout}{done.stderr}\nexit {done.returncode}"


def until(true: Callable[[], Any], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def connect(port: int, data: bytes = b"") -> socket.socket:
    """A connection that says something, or nothing."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=60)
    if data:
        connection.sendall(data)
    return connection


def is_closed(connection: socket.socket) -> bool:
    """Whether the other side closes within a minute; what it says before is thrown away."""
    with connection:
        try:
            while connection.recv(2**16):
                pass
        except ConnectionError:
            return True
        except TimeoutError:
            return False
        return True
