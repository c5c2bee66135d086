"""Stores results in the PACS by STOW-RS, again and again until it takes or refuses them."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

from medseg_nca.errors import MedsegError
from medseg_nca.io.dicomweb.client import DicomWebClient
from medseg_nca.io.dicomweb.errors import DicomWebError, Trouble
from medseg_nca.io.store_report import StoreReport
from medseg_nca.serving.audit import AuditLog
from medseg_nca.serving.errors import failure_of
from medseg_nca.serving.jobs.deliveries import Deliveries, Delivery, DeliveryState
from medseg_nca.serving.jobs.records import JobRecord
from medseg_nca.serving.jobs.store import OUTPUT, JobStore
from medseg_nca.serving.metrics import Metrics

logger = logging.getLogger(__name__)

DICOM_TYPE = "application/dicom"
# Seconds between two looks at what is due; of the longest pause (1, 2, 4 ... after each try); and
# after which a delivery is given up.
_LOOK, _LONGEST_PAUSE, _GIVE_UP = 1.0, 300.0, 24 * 3600.0
# Where storing is meant, and not a series of images.
_TEXTS: dict[Trouble, str] = {
    "missing": "The DICOMweb server of the images offers no storing at its address.",
    "too-large": "The DICOMweb server of the images takes no object of that size.",
    "wrong": "The DICOMweb server of the images does not say what became of the results.",
}
# Failure reasons that may pass: processing failure, out of resources (PS3.7 annex C).
_PASSING = frozenset((0x0110, *range(0xA700, 0xA800)))


class Deliverer(threading.Thread):
    """A thread that sends one delivery after another.

    Args:
        deliveries: what is to be sent.
        store: of the jobs.
        client: of the server that gets them.
        audit: gets a line for each that ends.
        metrics: count them.
    """

    def __init__(
        self, deliveries: Deliveries, store: JobStore, client: DicomWebClient, audit: AuditLog,
        metrics: Metrics,
    ) -> None:  # fmt: skip
        super().__init__(name="deliverer", daemon=True)
        self._deliveries, self._store, self._client = deliveries, store, client
        self._audit, self._metrics = audit, metrics
        self._stop_asked, self._told = threading.Event(), ""

    def stop(self) -> None:
        """End after what is being sent; what waits is sent by the next server."""
        self._stop_asked.set()
        if self.is_alive():
            self.join(2 * self._client.server.timeout)

    def run(self) -> None:
        """Send what is due until the server stops."""
        while not self._stop_asked.is_set():
            try:
                delivery = self._deliveries.next()
                if delivery is not None:
                    self._deliver(delivery)
                    continue
            except Exception as error:  # for example a full disk: the next look may succeed
                logger.error("Storing results stumbled: %s.", type(error).__name__)
            self._stop_asked.wait(_LOOK)

    def _deliver(self, delivery: Delivery) -> None:
        job = self._store.get(delivery.job)
        if job is None:
            return  # it was removed; its delivery goes with it
        pause = min(2.0 ** min(delivery.attempts, 20), _LONGEST_PAUSE)
        self._deliveries.begin(delivery, pause)
        try:
            report = self._client.store(dicom_files(self._store, job))
        except Exception as error:  # whatever it is, the deliveries after this one have their turn
            text, passes = self._failure(error)
        else:
            if not report.refused:
                self._end(delivery, job, "stored")
                return
            text = _refusal(report)
            passes = all(reason in _PASSING for reason in report.refused.values())
        if not passes:
            self._end(delivery, job, "failed", text)
        elif time.time() - delivery.asked > _GIVE_UP:
            self._end(delivery, job, "failed", f"{text} It was tried for a day.")
        else:
            self._deliveries.put_off(delivery, pause, text)

    def _failure(self, error: Exception) -> tuple[str, bool]:
        """What a client is told, and whether it may pass."""
        if isinstance(error, FileNotFoundError):
            return "The results were removed.", False
        known = isinstance(error, MedsegError)
        reason = str(error) if known else f"{type(error).__name__}."
        if self._told != reason:
            logger.warning("Results cannot be stored: %s", reason)
        self._told = reason
        if isinstance(error, DicomWebError):
            return _TEXTS.get(error.trouble) or failure_of(error).detail, error.passes
        if known:  # the file of the credentials may be in the middle of a renewal
            return "This server cannot log in at the DICOMweb server; its log says why.", True
        return "This server has a fault, or cannot read the results; its log has a line.", True

    def _end(
        self, delivery: Delivery, job: JobRecord, state: DeliveryState, text: str | None = None
    ) -> None:
        self._deliveries.end(delivery, state, text)
        self._told = ""
        self._metrics.count("stored_total", outcome=state)
        self._audit.write("store", user=job.owner, outcome=state, job=job.id, series=job.series)


def dicom_files(store: JobStore, job: JobRecord) -> list[Path]:
    """The DICOM objects among the results of a job that is done, the segmentation first."""
    folder = store.folder(job.id) / OUTPUT
    return [folder / output["file"] for output in job.result["outputs"].values()
            if output["type"] == DICOM_TYPE]  # fmt: skip


def _refusal(report: StoreReport) -> str:
    reasons = sorted({reason or 0 for reason in report.refused.values()})
    codes = ", ".join(f"{reason:04X}H" for reason in reasons)
    return f"The DICOMweb server refuses the results (failure reason {codes})."
