"""Instances that are sent by C-STORE: kept as they came, or refused with a reason."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian, JPEGLSLossless, RLELossless
from pynetdicom import evt

from medseg_nca.errors import ConfigError
from medseg_nca.serving.node.receiver import Receiver, ReceiverSettings
from medseg_nca.serving.node.spool import series_key
from tests.io.dicom.build import AXIAL, classic, pixels, write
from tests.serving import canary
from tests.serving.node.receiving import (
    CALLER,
    ECHO,
    association,
    dcmtk,
    running,
    until,
)


def series(count: int = 3, **how: Any) -> list[Dataset]:
    return classic(pixels((count, 8, 8)), AXIAL, **{"modality": "MR", **how})


def one(**changes: Any) -> Any:
    """An instance as pynetdicom sends it."""
    dataset: Any = pydicom.dcmread(changes.pop("path")) if "path" in changes else series(1)[0]
    dataset = copy.deepcopy(dataset)
    for keyword, value in changes.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    return dataset


def saved(tmp_path: Path, dataset: Any) -> Path:
    return write(tmp_path / "in", [dataset])[0]


def data_set_of(path: Path) -> bytes:
    content = path.read_bytes()
    return content[144 + int.from_bytes(content[140:144], "little") :]


@pytest.mark.peer
@pytest.mark.parametrize("program", ["storescu", "dcmsend"])
def test_files_are_kept_as_dcmtk_sent_them(tmp_path: Path, program: str) -> None:
    sent = write(tmp_path / "in", series())
    with running(tmp_path / "node") as node:
        assert "exit 0" in dcmtk("echoscu", node.port)
        text = dcmtk(program, node.port, "--", *sent)
        assert "exit 0" in text, text
        assert len(node.spool.series()) == 1
        kept = {pydicom.dcmread(p).SOPInstanceUID: p for p in node.files()}
        assert len(kept) == 3
        for path in sent:
            was = pydicom.dcmread(path)
            now = pydicom.dcmread(kept[was.SOPInstanceUID])
            assert data_set_of(path) == data_set_of(kept[was.SOPInstanceUID])
            assert now.file_meta.TransferSyntaxUID == was.file_meta.TransferSyntaxUID
            assert now.file_meta.SourceApplicationEntityTitle == CALLER
        key = series_key(was.StudyInstanceUID, was.SeriesInstanceUID)
        assert node.arrivals == [(key, CALLER)] * 3
        digest = node.spool.digest(key)
        assert "exit 0" in dcmtk(program, node.port, "--", *sent)
        assert node.spool.digest(key) == digest
        assert node.counted('instances_received_total{outcome="stored"} 3')
        assert node.counted('instances_received_total{outcome="again"} 3')
        assert node.leftovers() == []


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, RLELossless, JPEGLSLossless])
def test_transfer_syntaxes_are_kept(tmp_path: Path, syntax: str) -> None:
    sent = write(tmp_path / "in", series(1), syntax=syntax)[0]
    with running(tmp_path / "node") as node:
        with association(node.port, syntaxes=[syntax]) as peer:
            assert peer.send_c_store(sent).Status == 0
        kept = node.files()[0]
    assert data_set_of(kept) == data_set_of(sent)
    assert pydicom.dcmread(kept).file_meta.TransferSyntaxUID == syntax
    assert (pydicom.dcmread(kept).pixel_array == pydicom.dcmread(sent).pixel_array).all()


def test_every_storage_class_and_nothing_else_is_offered(tmp_path: Path) -> None:
    segmentation, find = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.2.1.1"
    private = "1.2.826.0.1.3680043.8.498.1"
    with running(tmp_path) as node:
        classes = (segmentation, find, private, ECHO)
        with association(node.port, *classes) as peer:
            offered = {context.abstract_syntax for context in peer.accepted_contexts}
            assert offered == {segmentation, ECHO}
            assert peer.send_c_echo().Status == 0


@pytest.mark.parametrize(
    ("changes", "status", "outcome"),
    [
        ({"StudyInstanceUID": None}, 0xC000, "not-understood"),
        ({"SeriesInstanceUID": ""}, 0xC000, "not-understood"),
        ({"SeriesInstanceUID": "../../etc"}, 0xC000, "not-understood"),
        ({"SeriesInstanceUID": ["1.2", "1.3"]}, 0xC000, "not-understood"),
    ],
)  # fmt: skip
def test_what_says_nothing_of_its_series_is_refused(
    tmp_path: Path, changes: dict[str, Any], status: int, outcome: str
) -> None:
    with pydicom.config.disable_value_validation():
        dataset = one(path=saved(tmp_path, series(1)[0]), **changes)
    with running(tmp_path / "node") as node:
        with association(node.port) as peer:
            answer = peer.send_c_store(dataset)
            assert answer.Status == status
            assert len(answer.ErrorComment) <= 64
            assert peer.send_c_echo().Status == 0, "the association goes on"
        assert node.files() == node.leftovers() == []
        assert node.counted(f'instances_received_total{{outcome="{outcome}"}} 1')


@pytest.mark.parametrize(
    ("keyword", "uid", "status"),
    [
        ("AffectedSOPInstanceUID", "1.2.3", 0xA900),
        ("AffectedSOPClassUID", "1.2.840.10008.5.1.4.1.1.2", 0x0122),
    ],
)
def test_a_command_that_says_something_else_than_the_data_set_is_refused(
    tmp_path: Path, keyword: str, uid: str, status: int
) -> None:
    path, wrong = saved(tmp_path, series(1)[0]), [uid]

    def change(event: Any) -> None:
        if wrong and "AffectedSOPInstanceUID" in event.message.command_set:
            setattr(event.message.command_set, keyword, wrong.pop())

    with running(tmp_path / "node") as node:
        with association(node.port, handlers=[(evt.EVT_DIMSE_SENT, change)]) as peer:
            assert peer.send_c_store(path).Status == status
            assert node.files() == node.leftovers() == []
            assert peer.send_c_store(path).Status == 0
        assert len(node.files()) == 1


def test_an_object_beyond_the_bound_is_answered_and_takes_no_room(tmp_path: Path) -> None:
    small = one(path=saved(tmp_path, series(1)[0]))
    with running(tmp_path / "node", max_object_bytes=20_000) as node:
        with association(node.port) as peer:
            large = one(path=tmp_path / "in" / "0000.dcm", PixelData=b"\0" * 30_000)
            assert peer.send_c_store(large).Status == 0xA700
            assert peer.send_c_store(small).Status == 0
            huge = one(path=tmp_path / "in" / "0000.dcm", PixelData=b"\0" * 300_000)
            assert "Status" not in peer.send_c_store(huge)
            until(lambda: peer.is_aborted)
        assert len(node.files()) == 1
        assert node.leftovers() == []


def test_below_the_reserve_everything_is_refused_until_there_is_room(tmp_path: Path) -> None:
    dataset = one(path=saved(tmp_path, series(1)[0]))
    with running(tmp_path / "node", reserve_bytes=2**60) as node:
        assert "disk is full" in str(node.receiver.problem())
        with association(node.port) as peer:
            assert peer.send_c_store(dataset).Status == 0xA700
            node.spool.reserve_bytes = 0
            assert peer.send_c_store(dataset).Status == 0
        assert node.receiver.problem() is None


def test_a_full_disk_refuses_until_it_has_room(tmp_path: Path, small_disk: Path) -> None:
    path = saved(tmp_path, series(1)[0])
    with running(small_disk) as node, association(node.port) as peer:
        for size in (900_000, 3_000_000):  # at the end, and while it arrives
            filler = small_disk / "filler"
            filler.write_bytes(b"x" * 300_000)
            large = one(path=path, PixelData=b"\0" * size, SOPInstanceUID=f"1.2.{size}")
            assert peer.send_c_store(large).Status == 0xA700
            assert node.leftovers() == node.files() == []
            filler.unlink()
        assert peer.send_c_store(one(path=path)).Status == 0
        assert len(node.files()) == 1


def test_the_audit_log_and_the_log_say_who_came_and_nothing_of_a_patient(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    sent = canary.series(tmp_path / "in", (2, 8, 8))
    uids = [str(pydicom.dcmread(path)[k].value) for path in sent for k in (0x20000D, 0x20000E)]
    with running(tmp_path / "node") as node:
        with association(node.port) as peer:
            for path in sent:
                assert peer.send_c_store(path).Status == 0
        name = node.audit.name(pydicom.dcmread(sent[0]).SeriesInstanceUID)
    line = node.lines()[0]
    assert (line["user"], line["action"], line["outcome"]) == (CALLER, "association", "released")
    assert (line["address"], line["instances"]) == ("127.0.0.1", {"stored": 2})
    assert line["series"] == [name]
    text = node.audit.tail(100) + "\n".join(
        record.getMessage() for record in caplog.records if "medseg" in record.name
    )
    assert canary.traces(text.encode()) == set()
    assert not any(uid in text for uid in uids)
    assert canary.traces(" ".join(str(p) for p in node.spool.folder.rglob("*")).encode()) == set()


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with running(tmp_path / "1") as node:
        settings = ReceiverSettings("NODE", port=node.port)
        other = Receiver(node.spool, settings, print, node.audit, node.metrics)
        with pytest.raises(ConfigError, match=f"port {node.port}"):
            other.start()
