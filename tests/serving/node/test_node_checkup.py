"""`medseg-nca doctor --node`: what is wrong with a node is said before it is started."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from medseg_nca.cli.main import cli
from medseg_nca.io.dimse.tls import DimseTls
from medseg_nca.serving.jobs.store import JobStore
from tests.io.dimse.peers import VERIFICATION, free_port, node, storescp
from tests.orthanc import Orthanc
from tests.programs import dcmtk_program
from tests.serving.certificates import write_pair
from tests.serving.examining import Doctor
from tests.serving.node.receiving import AET, CALLER, running
from tests.tracking.tiny import save_tiny

pytest.importorskip("pynetdicom", reason="the node needs pynetdicom")


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


DOCTOR = Doctor("--node")
invoke, findings, level = DOCTOR.invoke, DOCTOR.findings, DOCTOR.level


def test_a_good_set_up_is_ready_and_stays_as_it_was(tmp_path: Path) -> None:
    save_tiny(tmp_path / "tiny")
    with node() as archive:
        file = tmp_path / "node.yaml"
        file.write_text(
            f'allow: SCANNER@127.0.0.1\nroute: ["Modality=MR -> tiny"]\nsend_to: "{archive}"\n'
            "spool: spool\nkeep_gb: 0.001\nreserve_gb: 0\nmax_object: 1\n"
        )
        before = sorted(tmp_path.iterdir())
        code, out = invoke("--settings", str(file))
        assert code == 0, out
        assert "problem" not in out
        assert "computed a small image" in out
        assert "answers C-ECHO of MEDSEG" in out
        assert "Segmentation Storage" in out
        assert "Try: medseg-nca dicom-node" in out
        assert sorted(tmp_path.iterdir()) == before
        asked = ["doctor", "--serve", "--node", str(file), "--device", "cpu", "--port", "0"]
        inside = CliRunner().invoke(cli, [*asked, "--json"])
        names = {f"{f['area']}.{f['name']}" for f in json.loads(inside.stdout)["findings"]}
        assert {f"destinations.{archive}", "access.SCANNER@127.0.0.1", "models.tiny"} <= names


def test_who_may_call_is_looked_at() -> None:
    """A host that is not known, one that cannot come, and whoever may come from anywhere."""

    def look(entry: str, *more: str) -> str:
        return level(f"access.{entry}", "--allow", entry, *more)[0]

    assert findings()[1]["access.allow"]["level"] == "problem"
    assert look("SCANNER@localhost") == "ok"
    assert look("SCANNER@nowhere.invalid") == "problem"
    assert look("SCANNER@10.0.0.5") == "problem"
    assert look("SCANNER@10.0.0.5", "--host", "0.0.0.0") == "ok"
    assert look("*@10.0.0.0/8", "--host", "0.0.0.0") == "note"
    assert look("SCANNER@*", "--host", "0.0.0.0") == "problem"
    assert look("SCANNER@*", "--host", "0.0.0.0", "--insecure") == "note"
    assert look("SCANNER") == "problem"
    assert level("access.AE title", "--aet", "A" * 17)[0] == "problem"


def test_rules_are_read_and_one_that_is_never_asked_is_told() -> None:
    rules = ("Modality=MR zoo:a", "-> zoo:hippocampus", "Modality=CT -> zoo:nuclei")
    _, found = findings(*(word for rule in rules for word in ("--route", rule)))
    levels = [found[f"rules.rule {number}"]["level"] for number in (1, 2, 3)]
    assert levels == ["problem", "ok", "note"]
    assert findings()[1]["rules.route"]["level"] == "problem"
    assert level("settings.together", "--keep", "0")[0] == "problem"
    assert level("settings.together", "--formats", "pdf")[0] == "problem"


def test_the_spool_and_its_disk_are_looked_at(tmp_path: Path) -> None:
    assert level("spool.folder", "--spool", "new")[0] == "ok"
    assert level("spool.disk", "--spool", "new", "--reserve-gb", "1e9")[0] == "problem"
    assert level("spool.disk", "--spool", "new", "--keep-gb", "1e9")[0] == "note"
    assert not (tmp_path / "new").exists()
    letter = tmp_path / "spool" / "dead-letter" / "job" / "PACS"
    letter.mkdir(parents=True)
    (letter / "reason.json").write_text("{}")
    assert level("spool.dead letters", "--spool", "spool")[0] == "note"
    assert level("spool.mode", "--spool", "spool")[0] == "problem"
    (tmp_path / "file").touch()
    assert level("spool.folder", "--spool", "file")[0] == "problem"


def test_a_port_that_is_taken_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        assert level("access.port", "--port", port)[0] == "problem"
        assert level("access.figures", "--metrics-port", port)[0] == "note"


def test_a_node_at_work_answers_an_echo_over_tls_too(tmp_path: Path) -> None:
    cert, key = write_pair(tmp_path / "tls", names=("nca.example",))
    tls = DimseTls(ca=cert, cert=cert, key=key)
    store = JobStore(tmp_path / "spool")  # what a node at work holds
    try:
        secure = ("--tls-cert", str(cert), "--tls-key", str(key), "--tls-ca", str(cert))
        for number, (mine, more) in enumerate(((None, ()), (tls, secure))):
            with running(tmp_path / f"node {number}", tls=mine) as at_work:
                given = ("--aet", AET, "--spool", "spool", "--port", str(at_work.port), *more)
                told = level("access.port", "--allow", f"{CALLER}@127.0.0.1", *given)
                assert (told[0], "answers C-ECHO" in told[1]) == ("ok", True)
                other = level("access.port", "--allow", "OTHER@127.0.0.1", *given[2:])
                assert other[0] == "problem"
        assert level("access.port", "--spool", "spool")[0] == "problem"
    finally:
        store.close()


def test_certificates_are_looked_at(tmp_path: Path) -> None:
    def look(name: str, *more: str, **how: Any) -> str:
        cert, key = write_pair(tmp_path / "tls", **how)
        return level(name, "--tls-cert", str(cert), "--tls-key", str(key), *more)[0]

    ca, _ = write_pair(tmp_path / "ca", days=5)
    assert look("tls.dates") == "ok"
    assert look("tls.dates", days=-1, begins=-2) == "problem"
    assert look("tls.authority") == "note"
    assert look("tls.authority", "--tls-ca", str(ca)) == "note"
    assert look("tls.authority", "--tls-ca", __file__) == "problem"
    assert look("tls.usage", usages=("serverAuth",)) == "problem"
    assert "tls.usage" not in findings()[1]
    assert level("tls.pair", "--tls-ca", str(ca))[0] == "problem"
    assert level("tls.pair", "--host", "0.0.0.0")[0] == "note"


def test_destinations_have_to_answer_know_the_node_and_take_segmentations(tmp_path: Path) -> None:
    assert findings()[1]["destinations.send to"]["level"] == "note"
    gone = f"PACS@127.0.0.1:{free_port()}"
    _, found = findings("--send-to", gone, "--aet", "SEGNODE")
    assert found[f"destinations.{gone}"]["level"] == "problem"
    assert '"segnode": ["SEGNODE", "127.0.0.1", 0]' in found[f"destinations.{gone}"]["advice"]
    with node(classes=(VERIFICATION,)) as archive:
        _, found = findings("--send-to", str(archive), "--formats", "dicom-seg,sr")
        assert found[f"destinations.{archive}"]["level"] == "ok"
        told = found[f"destinations.{archive} takes"]
        assert told["level"] == "problem"
        assert "Segmentation Storage, Comprehensive SR Storage" in told["value"]
        port = archive.port
        told = level(f"destinations.NODE@127.0.0.1:{port}", "--allow", f"NODE@127.0.0.1:{port}")
        assert told[0] == "ok"
    with node(require_calling_aet=["OTHER"]) as archive:
        _, found = findings("--send-to", str(archive))
        assert found[f"destinations.{archive}"]["level"] == "problem"
        assert "MEDSEG" in found[f"destinations.{archive}"]["value"]
    plain = "http://pacs.example/dicom-web"
    assert level(f"destinations.{plain}", "--send-to", plain)[0] == "problem"


@pytest.mark.peer
def test_real_archives_answer(tmp_path: Path) -> None:
    if dcmtk_program("storescp") is None:
        pytest.skip("storescp is not installed (Debian: dcmtk)")
    orthanc = Orthanc(tmp_path / "orthanc").start()
    try:
        with storescp(tmp_path / "stored") as archive:
            dimse = f"ORTHANC@127.0.0.1:{orthanc.dicom}"
            to = (str(archive), dimse, orthanc.dicomweb)
            _, found = findings(*(word for one in to for word in ("--send-to", one)))
            answers = [found[f"destinations.{one}"] for one in to]
            assert [one["level"] for one in answers] == ["ok"] * 3, answers
            assert found[f"destinations.{dimse} takes"]["level"] == "ok"
    finally:
        orthanc.stop()


def test_flags_of_a_node_are_for_node(tmp_path: Path) -> None:
    def said(*args: str) -> str:
        result = CliRunner().invoke(cli, ["doctor", *args])
        assert result.exit_code == 2
        return str(result.output)

    assert "--aet is for --node" in said("--aet", "X")
    assert "--aet is for --node" in said("--serve", "--aet", "X")
    assert "--users is for --serve" in said("--node", "--users", "x")
    assert "--port is for --serve and --node" in said("--port", "1")
    assert "needs the FILE" in said("--serve", "--node")
    assert "name the same" in said("--node", "a.yaml", "--settings", "a.yaml")
