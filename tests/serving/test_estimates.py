"""The estimate of quality in what a server computes, and results that wait for a person."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from medseg_nca.config.training import PredictionSettings
from medseg_nca.config.trust import GateSettings
from medseg_nca.errors import ConfigError
from medseg_nca.inference.bundle import load_bundle
from medseg_nca.io.store_report import StoreReport
from medseg_nca.job import Job
from medseg_nca.serving.audit import AuditLog
from medseg_nca.serving.jobs.deliverer import Deliverer
from medseg_nca.serving.jobs.deliveries import Deliveries
from medseg_nca.serving.jobs.records import JobOptions, JobRecord, new_id
from medseg_nca.serving.jobs.store import RESULT, JobStore
from medseg_nca.serving.metrics import Metrics
from medseg_nca.serving.node.settings import NodeSettings
from medseg_nca.serving.settings import ServeSettings
from medseg_nca.serving.workers.compute import compute_with, settings_of
from medseg_nca.serving.workers.messages import ModelInfo, Run
from medseg_nca.trust.estimate import Estimate, unknown
from tests.estimating import BAD, DOUBTFUL, GOOD, REASON, Estimating
from tests.serving.running import volume
from tests.tracking.tiny import save_tiny

SEG = {"file": "result.dcm", "type": "application/dicom"}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JobStore]:
    found = JobStore(tmp_path / "state")
    yield found
    found.close()


def done(store: JobStore, result: Mapping[str, Any], **options: Any) -> JobRecord:
    """A job that is done, whose result goes to an archive."""
    received = store.incoming / new_id()
    received.mkdir()
    wanted = JobOptions(destinations=("archive",), **options)
    assert store.add(new_id(), received, wanted, owner="ann", model="m") is not None
    claimed = store.claim()
    assert claimed is not None
    folder = store.attempt_folder(claimed)
    folder.mkdir()
    (folder / "result.dcm").write_bytes(b"a SEG")
    (folder / RESULT).write_text(json.dumps({"outputs": {"dicom_seg": SEG}, **result}))
    assert store.finish(claimed)
    found = store.get(claimed.id)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("estimate", "word"),
    [(DOUBTFUL, "should be reviewed"), (BAD, "was rejected"), (GOOD, ""), (unknown("No."), "")],
    ids=lambda value: getattr(value, "verdict", ""),
)
def test_a_result_has_the_estimate_and_a_doubt_is_a_warning(
    tmp_path: Path, estimate: Estimate, word: str
) -> None:
    save_tiny(tmp_path / "model")
    loaded = load_bundle(tmp_path / "model", "cpu")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "image.nii.gz").write_bytes(volume())
    info = ModelInfo("key", tmp_path / "model", "tiny", "1", "0" * 64, "1" * 64)
    run = Run("job", info, tmp_path / "in", tmp_path / "out", JobOptions(), 10**6)
    compute_with(run, Estimating(loaded, estimate), Job())
    result = json.loads((tmp_path / "out" / RESULT).read_text())
    assert result["estimate"] == estimate.to_dict()
    said = [text for text in result["warnings"] if text.startswith("The segmentation ")]
    assert len(said) == bool(word)
    for text in said:
        assert text.startswith(f"The segmentation {word} (predicted Dice about ")
        assert all(reason in text for reason in estimate.reasons)


def test_who_runs_the_server_sets_the_gate() -> None:
    model = PredictionSettings(gate=GateSettings(acceptable=0.7, miss_rate=0.1))
    assert settings_of(JobOptions(), model) == model
    found = settings_of(JobOptions(acceptable=0.9, probabilities=True), model)
    assert found.gate == GateSettings(acceptable=0.9, miss_rate=0.1)
    assert found.probabilities
    options = JobOptions(acceptable=0.9, miss_rate=0.01, hold_rejected=True)
    assert JobOptions.from_tree(json.loads(json.dumps(options.to_tree()))) == options
    for settings in (ServeSettings(), NodeSettings()):
        assert (settings.acceptable, settings.miss_rate) == (None, None)
        assert settings.changed(acceptable=0.85).acceptable == 0.85
        with pytest.raises(ConfigError, match="miss_rate"):
            settings.changed(miss_rate=0.6)


def test_a_rejected_result_waits_where_that_is_asked_for(store: JobStore) -> None:
    deliveries, rejected = Deliveries(store), {"estimate": BAD.to_dict()}
    held = done(store, rejected, hold_rejected=True)
    assert (held.verdict, held.is_held) == ("reject", True)
    assert deliveries.next("archive") is None
    sent = [
        done(store, rejected),
        done(store, {"estimate": DOUBTFUL.to_dict()}, hold_rejected=True),
        done(store, {}, hold_rejected=True),  # of an older version
    ]
    assert [job.verdict for job in sent] == ["reject", "review", "unknown"]
    assert not any(job.is_held for job in sent)
    assert deliveries.next("archive") is not None
    assert [len(deliveries.of(job.id)) for job in (held, *sent)] == [0, 1, 1, 1]
    deliveries.ask(held.id, "archive")
    assert [one.state for one in deliveries.of(held.id)] == ["waiting"]


class Archive:
    """A destination that takes everything."""

    name, timeout = "archive", 5.0

    def store(self, paths: Sequence[Path], /) -> StoreReport:
        return StoreReport({})

    def close(self) -> None:
        pass


def test_each_delivery_is_a_line_with_the_verdict(
    store: JobStore, caplog: pytest.LogCaptureFixture
) -> None:
    audit = AuditLog(store.state)
    jobs = [done(store, {"estimate": one.to_dict()}) for one in (DOUBTFUL, unknown("No."))]
    deliveries = Deliveries(store)
    deliverer = Deliverer(deliveries, store, {"archive": Archive()}, audit, Metrics())
    with caplog.at_level(logging.INFO, "medseg_nca"):
        deliverer.start()
        end = time.monotonic() + 30
        while caplog.text.count("delivered to") < 2:
            assert time.monotonic() < end, caplog.text
            time.sleep(0.02)
        deliverer.stop()
    said = {record.getMessage() for record in caplog.records}
    first, second = (f"Job {job.id}: delivered to archive; quality: " for job in jobs)
    assert said == {f"{first}review, predicted Dice about 0.80.", f"{second}unknown."}
    lines = [json.loads(line) for line in audit.tail(9).splitlines()]
    assert sorted(line["verdict"] for line in lines) == ["review", "unknown"]
    assert REASON not in audit.tail(9)
