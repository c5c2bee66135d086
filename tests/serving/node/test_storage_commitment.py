"""What the node says it keeps, on the association of the request or on a new one (PS3.4 J)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, evt

from medseg_nca.serving.node.spool import series_key
from tests.io.dicom.build import AXIAL, classic, pixels, write
from tests.serving.node.receiving import (
    CALLER,
    ECHO,
    EXPLICIT,
    MR,
    Running,
    association,
    running,
    until,
)

PUSH = "1.2.840.10008.1.20.1"
WELL_KNOWN = "1.2.840.10008.1.20.1.1"


@dataclass
class Caller:
    """Hears what the node says: transaction, kept and failed instances."""

    heard: list[tuple[str, set[str], dict[str, int]]] = field(default_factory=list)
    status: int = 0x0000

    def report(self, event: Any) -> tuple[int, None]:
        told = event.event_information
        kept = {str(one.ReferencedSOPInstanceUID) for one in told.get("ReferencedSOPSequence", [])}
        failed = {
            str(one.ReferencedSOPInstanceUID): int(one.FailureReason)
            for one in told.get("FailedSOPSequence", [])
        }
        assert event.event_type == (2 if failed else 1)
        if self.status == 0:
            self.heard.append((str(told.TransactionUID), kept, failed))
        return self.status, None

    @contextmanager
    def listening(self, port: int = 0) -> Iterator[int]:
        ae = AE(CALLER)
        ae.add_supported_context(PUSH, EXPLICIT, scu_role=True, scp_role=True)
        handlers = [(evt.EVT_N_EVENT_REPORT, self.report)]
        server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
        assert server is not None
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            until(lambda: not server.active_associations)


def stored(node: Running, folder: Path) -> list[Any]:
    sent = write(folder, classic(pixels((3, 8, 8)), AXIAL, modality="MR"))
    with association(node.port) as peer:
        for path in sent:
            assert peer.send_c_store(path).Status == 0
    return [pydicom.dcmread(path) for path in sent]


def asked(transaction: str, *uids: str) -> Dataset:
    request = Dataset()
    request.TransactionUID, request.ReferencedSOPSequence = transaction, []
    for uid in uids:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = MR, uid
        request.ReferencedSOPSequence.append(item)
    return request


def ask(peer: Any, request: Dataset, action: int = 1, instance: str = WELL_KNOWN) -> int:
    return int(peer.send_n_action(request, action, PUSH, instance)[0].Status)


def test_the_answer_comes_on_the_association_of_the_request(tmp_path: Path) -> None:
    caller = Caller()
    with running(tmp_path / "node") as node:
        first, second, third = stored(node, tmp_path / "in")
        key = series_key(first.StudyInstanceUID, first.SeriesInstanceUID)
        uids = {str(one.SOPInstanceUID) for one in (first, second, third)}
        handlers = [(evt.EVT_N_EVENT_REPORT, caller.report)]
        with association(node.port, PUSH, ECHO, handlers=handlers) as peer:
            assert ask(peer, asked("1.2.3", *uids)) == 0
            assert ask(peer, asked("1.2.4", *uids, "1.9.9")) == 0
            until(lambda: len(caller.heard) == 2)
            assert node.spool.remove(key, node.spool.digest(key))
            assert ask(peer, asked("1.2.5", *uids)) == 0
            until(lambda: len(caller.heard) == 3)
            assert peer.send_c_echo().Status == 0
            until(lambda: not list((node.spool.folder / ".commitments").iterdir()))
    assert sorted(caller.heard) == [
        ("1.2.3", uids, {}), ("1.2.4", uids, {"1.9.9": 0x0112}),
        ("1.2.5", set(), dict.fromkeys(uids, 0x0112)),
    ]  # fmt: skip


def test_requests_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    with running(tmp_path) as node, association(node.port, PUSH) as peer:
        assert ask(peer, asked("1.2.3")) == 0x0115
        assert ask(peer, asked("1.2.3", "1.2"), action=2) == 0x0123
        assert ask(peer, asked("1.2.3", "1.2"), instance="1.2.3") == 0x0112
        assert not list((node.spool.folder / ".commitments").iterdir())


def test_the_answer_outlives_a_restart_and_a_caller_that_is_away(tmp_path: Path) -> None:
    caller = Caller()
    with caller.listening() as port:
        pass
    allow = {"allow": f"{CALLER}@127.0.0.1:{port}", "commitment_pauses": (0.2,) * 3}
    with running(tmp_path / "node", allow=f"{CALLER}@127.0.0.1") as node:
        one = stored(node, tmp_path / "in")[0]
        with association(node.port, PUSH) as peer:
            assert ask(peer, asked("1.2.3", one.SOPInstanceUID)) == 0
    assert len(list((tmp_path / "node" / "spool" / ".commitments").iterdir())) == 1
    with caller.listening(port), running(tmp_path / "node", **allow) as node:
        until(lambda: caller.heard)
        until(lambda: not list((node.spool.folder / ".commitments").iterdir()))
    assert caller.heard == [("1.2.3", {str(one.SOPInstanceUID)}, {})]


def test_a_caller_that_takes_no_answer_is_given_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caller = Caller(status=0x0110)
    with caller.listening() as port:
        allow = {"allow": f"{CALLER}@127.0.0.1:{port}", "commitment_pauses": (0.2,) * 2}
        with running(tmp_path, **allow) as node:
            with association(node.port, PUSH) as peer:
                assert ask(peer, asked("1.2.3", "1.2")) == 0
            until(lambda: not list((node.spool.folder / ".commitments").iterdir()))
    assert "given up" in caplog.text
    assert caller.heard == []
