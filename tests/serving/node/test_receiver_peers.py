"""Peers that may not call, say nothing, say rubbish, flood, stall, or see the node die."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import A_ASSOCIATE, MaximumLengthNotification
from pynetdicom.presentation import build_context

from tests.io.dicom.build import AXIAL, classic, pixels, write
from tests.serving.node.receiving import (
    AET,
    CALLER,
    EXPLICIT,
    MR,
    Running,
    association,
    connect,
    dcmtk,
    is_closed,
    running,
    until,
)


def request() -> bytes:
    """An A-ASSOCIATE-RQ PDU for MR storage in context 1."""
    context = build_context(MR, EXPLICIT)
    context.context_id = 1
    primitive = A_ASSOCIATE()
    primitive.application_context_name = "1.2.840.10008.3.1.1.1"
    primitive.calling_ae_title, primitive.called_ae_title = CALLER, AET
    length = MaximumLengthNotification()
    length.maximum_length_received = 16382
    primitive.user_information = [length]
    primitive.presentation_context_definition_list = [context]
    pdu = A_ASSOCIATE_RQ()
    pdu.from_primitive(primitive)
    return pdu.encode()


def greeted(port: int, data: bytes) -> socket.socket:
    """A connection with an association that says something."""
    peer = connect(port, request())
    assert peer.recv(1) == b"\2"  # A-ASSOCIATE-AC
    peer.sendall(data)
    return peer


def data_pdu(*parts: tuple[int, int, bytes]) -> bytes:
    """A P-DATA-TF PDU of parts: context, control byte, fragment (PS3.8 9.3.5)."""
    items = b"".join(
        (len(data) + 2).to_bytes(4, "big") + bytes((context, control)) + data
        for context, control, data in parts
    )
    return b"\x04\0" + len(items).to_bytes(4, "big") + items


def command(sop_uid: str = "1.2.3") -> bytes:
    """The command set of a C-STORE request (PS3.7 9.3.1)."""

    def element(number: int, value: bytes) -> bytes:
        value += b"\0" * (len(value) % 2)
        return b"\0\0" + number.to_bytes(2, "little") + len(value).to_bytes(4, "little") + value

    body = (
        element(2, MR.encode()) + element(0x100, b"\1\0") + element(0x110, b"\1\0")
        + element(0x700, b"\0\0") + element(0x800, b"\0\0") + element(0x1000, sop_uid.encode())
    )  # fmt: skip
    return element(0, len(body).to_bytes(4, "little")) + body


def instance(folder: Path) -> Path:
    return write(folder, classic(pixels((1, 8, 8)), AXIAL, modality="MR"))[0]


def works(node: Running, path: Path) -> None:
    """Another peer stores as ever."""
    with association(node.port) as peer:
        assert peer.send_c_store(path).Status == 0


@pytest.mark.parametrize(
    ("caller", "called", "allow", "rejected"),
    [
        ("STRANGER", AET, f"{CALLER}@127.0.0.1", (1, 1, 3)),
        (CALLER, AET, f"{CALLER}@10.0.0.0/8", (1, 1, 3)),
        (CALLER, "OTHER", f"{CALLER}@127.0.0.1", (1, 1, 7)),
    ],
)
def test_callers_that_are_not_known_are_rejected_with_the_reason(
    tmp_path: Path, caller: str, called: str, allow: str, rejected: tuple[int, int, int]
) -> None:
    with running(tmp_path, allow=allow) as node:
        with association(node.port, caller=caller, called=called) as peer:
            answer = peer.acceptor.primitive
            assert (answer.result, answer.result_source, answer.diagnostic) == rejected
        until(lambda: node.lines())
    assert node.lines()[0]["user"] == caller
    assert node.lines()[0]["outcome"].startswith("refused-")


@pytest.mark.peer
def test_dcmtk_reads_the_reason(tmp_path: Path) -> None:
    with running(tmp_path) as node:
        assert "Calling AE Title Not Recognized" in dcmtk("echoscu", node.port, caller="X")


def test_more_associations_than_allowed_are_put_off(tmp_path: Path) -> None:
    path = instance(tmp_path / "in")
    with running(tmp_path, max_per_address=2) as node, ExitStack() as stack:
        held = [stack.enter_context(association(node.port)) for _ in range(2)]
        with association(node.port) as third:
            answer = third.acceptor.primitive
            assert (answer.result, answer.result_source, answer.diagnostic) == (2, 3, 2)
        held[0].release()
        until(lambda: node.counted('associations_total{outcome="released"} 1'))
        works(node, path)


def test_silent_and_broken_peers_are_dropped_while_others_store(tmp_path: Path) -> None:
    path, head = instance(tmp_path / "in"), request()
    first = [
        b"", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\0", b"\1\0\xff\xff\xff\xff", head[:40],
        b"\1\0\0\0\0\0", b"\4\0\0\0\0\0", head + b"\4\0\0\0\0\7\0\0\0\3\1\3\0",
    ]  # fmt: skip
    later = [
        b"", data_pdu((1, 3, b"rubbish!" * 3)), data_pdu((1, 3, command())), b"\4\0\0\0\0\0",
        data_pdu((1, 1, b"\0" * 60_000)), data_pdu((9, 3, command()), (9, 2, b"x")), head,
        data_pdu((1, 3, command()), (1, 0, b"\0" * 100)), b"\4\0\0\1\0\0" + b"\0" * 9,
        b"\4\0\xff\0\0\0", data_pdu((1, 3, b"")), b"\7\0\0\0\0\4\0\0\0\0",
    ]  # fmt: skip
    with running(tmp_path, artim_timeout=5, network_timeout=5, max_per_address=16) as node:
        idle = threading.active_count()
        peers = [connect(node.port, word) for word in first]
        peers += [greeted(node.port, word) for word in later]
        works(node, path)
        closed = [is_closed(peer) for peer in peers]
        assert all(closed), closed
        works(node, path)
        until(lambda: threading.active_count() <= idle)
        assert len(node.files()) == 1
        assert node.leftovers() == []


def test_a_flood_of_connections_of_one_address_ends(tmp_path: Path) -> None:
    path = instance(tmp_path / "in")
    with running(tmp_path, artim_timeout=2) as node:
        idle = threading.active_count()
        peers = [connect(node.port) for _ in range(200)]
        try:
            assert threading.active_count() < idle + 75
        finally:
            assert all(is_closed(peer) for peer in peers)
        until(lambda: threading.active_count() <= idle)
        works(node, path)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cut=st.integers(0, 400),
    changes=st.lists(st.tuples(st.integers(0, 399), st.integers(0, 255)), max_size=6),
    uid=st.text(alphabet="0123456789./\\\0 x", max_size=70),
)
def test_no_bytes_stop_the_node(
    shared: Running, cut: int, changes: list[tuple[int, int]], uid: str
) -> None:
    before = len(shared.files())
    body = bytearray((shared.spool.folder.parent / "body").read_bytes()[:400])
    for place, value in changes:
        body[place] = value
    parts = [(1, 3, command(uid)), (1, 2, bytes(body[:cut]))]
    peer = greeted(shared.port, data_pdu(*parts) + b"\5\0\0\0\0\4\0\0\0\0")
    assert is_closed(peer)
    until(lambda: shared.leftovers() == [])  # it is removed after the connection has ended
    assert len(shared.files()) - before in (0, 1)
    with association(shared.port) as other:
        assert other.send_c_echo().Status == 0


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A receiver for many examples, and the start of a data set."""
    folder = tmp_path_factory.mktemp("fuzz")
    content = instance(folder / "in").read_bytes()
    with running(folder, artim_timeout=20, network_timeout=20) as node:
        start = 144 + int.from_bytes(content[140:144], "little")
        (folder / "body").write_bytes(content[start:])
        yield node


NODE = """
import sys
from pathlib import Path
from tests.serving.node.receiving import running
with running(Path(sys.argv[1])) as node:
    print(node.port, flush=True)
    sys.stdin.read()
"""


def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    sent = write(tmp_path / "in", classic(pixels((60, 64, 64)), AXIAL, modality="MR"))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    acknowledged = []
    with subprocess.Popen(
        [sys.executable, "-c", NODE, str(tmp_path / "node")], env=environment,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        with association(int(process.stdout.readline())) as peer:
            for number, path in enumerate(sent):
                if number == 20:
                    threading.Timer(0.05, process.kill).start()
                if "Status" not in (answer := peer.send_c_store(path)):
                    break
                assert answer.Status == 0
                acknowledged.append(path)
    assert 20 <= len(acknowledged) <= len(sent)
    with running(tmp_path / "node") as node:
        assert node.leftovers() == []
        kept = {pydicom.dcmread(p).SOPInstanceUID: pydicom.dcmread(p) for p in node.files()}
        for path in acknowledged:
            was = pydicom.dcmread(path)
            assert kept[was.SOPInstanceUID].PixelData == was.PixelData
        assert len(kept) <= len(acknowledged) + 1


@pytest.mark.peer
def test_a_large_object_takes_no_memory(tmp_path: Path) -> None:
    dataset: Any = pydicom.dcmread(instance(tmp_path / "in"))
    dataset.Rows, dataset.Columns, dataset.PixelData = 8000, 8000, b"\0" * 128_000_000
    large = write(tmp_path / "large", [dataset])[0]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", NODE, str(tmp_path / "node")], env=environment,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        port = int(process.stdout.readline())

        def most() -> int:
            status = Path(f"/proc/{process.pid}/status").read_text()
            return int(status.split("VmHWM:")[1].split()[0]) * 1024

        assert "exit 0" in dcmtk("storescu", port, "--", tmp_path / "in" / "0000.dcm")
        before = most()
        assert "exit 0" in dcmtk("storescu", port, "--", large)
        assert most() - before < 32_000_000
        process.communicate("")
    assert process.returncode == 0


def test_stopping_lets_an_object_arrive_and_ends_idle_associations(tmp_path: Path) -> None:
    path = instance(tmp_path / "in")
    with running(tmp_path) as node, association(node.port) as peer:
        assert peer.send_c_store(path).Status == 0
        node.receiver.stop()
        until(lambda: peer.is_aborted)
        with pytest.raises(ConnectionRefusedError):
            connect(node.port)
    assert node.lines()[-1]["instances"] == {"stored": 1}
