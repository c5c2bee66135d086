"""A node without its network and its workers: series are put into its spool by hand."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset

from medseg_nca.config.training import TrackingSettings
from medseg_nca.serving.audit import AuditLog
from medseg_nca.serving.catalogue import Catalogue
from medseg_nca.serving.jobs.records import JobOptions, JobRecord
from medseg_nca.serving.jobs.service import JobService, Parts
from medseg_nca.serving.jobs.store import RESULT, JobStore
from medseg_nca.serving.metrics import Metrics
from medseg_nca.serving.node.arrivals import Arrivals, Rules
from medseg_nca.serving.node.completeness import Completeness
from medseg_nca.serving.node.ledger import Ledger
from medseg_nca.serving.node.listing import SERIES
from medseg_nca.serving.node.retention import Retention
from medseg_nca.serving.node.routes import entries_of, parse_routes
from medseg_nca.serving.node.spool import Spool
from medseg_nca.serving.settings import Limits
from tests.io.dicom.build import classic, pixels, write
from tests.tracking.tiny import save_tiny

HALF, WHOLE = slice(0, 3), slice(0, 5)


class Clock:
    """Seconds since 1970 that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class Desk:
    """A node on a folder; a second one on the same folder is what a restart finds."""

    def __init__(
        self, folder: Path, *rules: str, clock: Clock, queue: int = 16, keep: float = 7.0,
        expect_count: str = "", formats: Sequence[str] = ("dicom-seg",),
        send_to: Sequence[str] = (), **asked: Any,
    ) -> None:  # fmt: skip
        self.folder, self.clock = folder, clock
        for name in ("one", "two"):
            if not (folder / name).is_dir():
                save_tiny(folder / name)
        routes = parse_routes(rules or (f"Modality=MR -> {folder / 'one'}",))
        entries, served = entries_of(routes)
        self.store = JobStore(folder / "state")
        self.audit, metrics = AuditLog(folder / "state"), Metrics()
        catalogue = Catalogue(
            entries, folder / "state" / "models", TrackingSettings(), self.audit, metrics
        )
        parts = Parts(self.store, catalogue, self.audit, metrics, Limits(queue=queue))
        self.service = JobService(parts, ("cpu",), 1)
        self.spool, self.ledger = Spool(folder / SERIES), Ledger(self.store, clock)
        options = JobOptions(
            kind="dicom", objects=tuple(formats), destinations=tuple(send_to), **asked
        )
        self.arrivals = Arrivals(
            self.spool, self.ledger, self.service, Rules(routes, served, options),
            Completeness(30.0, expect_count, clock),
        )  # fmt: skip
        self.retention = Retention(self.spool, self.ledger, self.store, keep, self.audit, clock)

    def send(
        self, series: str, part: slice = WHOLE, *, study: str = "a", modality: str = "MR",
        aet: str = "SCANNER", **tags: object,
    ) -> str:  # fmt: skip
        """Instances of a series arrive now."""
        found = classic(pixels(seed=len(series)), modality=modality, series=series, study=study,
                        **tags)[part]  # fmt: skip
        return self.take(found, aet)

    def take(self, instances: Sequence[Dataset], aet: str = "SCANNER") -> str:
        """These instances arrive now."""
        number = sum(1 for _ in self.folder.glob("sent-*"))
        key = ""
        for path, dataset in zip(
            write(self.folder / f"sent-{number}", instances), instances, strict=True
        ):
            with path.open("rb") as stream:
                kept = self.spool.keep(
                    stream, dataset.StudyInstanceUID, dataset.SeriesInstanceUID,
                    dataset.SOPInstanceUID,
                )  # fmt: skip
            key = kept.key
            if kept.is_new or kept.replaced:
                files = self.spool.files(key)
                newest = max(files, key=lambda one: one.stat().st_ctime_ns)
                os.utime(newest, (self.clock.now, self.clock.now))
            self.arrivals.arrived(key, aet)
        return key

    def later(self, seconds: float) -> Sequence[JobRecord]:
        """Time passes, the node looks, and these are its jobs, the first one first."""
        self.clock.now += seconds
        self.arrivals.look()
        return self.jobs

    @property
    def jobs(self) -> Sequence[JobRecord]:
        return self.store.newest()[::-1]

    def compute(self, **result: Any) -> None:
        """What workers do: all jobs that wait come to their end, with this in their results."""
        while (job := self.store.claim()) is not None:
            folder = self.store.attempt_folder(job)
            folder.mkdir()
            (folder / "result.dcm").write_bytes(b"a SEG")
            (folder / RESULT).write_text(json.dumps({"outputs": {}, **result}))
            assert self.store.finish(job)

    def close(self) -> None:
        self.store.close()
