"""Sends results to their destinations, again and again until these take or refuse them."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, runtime_checkable

from medseg_nca.errors import MedsegError
from medseg_nca.io.store_report import StoreReport
from medseg_nca.serving.audit import AuditLog
from medseg_nca.serving.jobs.deliveries import Deliveries, Delivery, DeliveryState
from medseg_nca.serving.jobs.notices import NOTICE
from medseg_nca.serving.jobs.records import JobRecord
from medseg_nca.serving.jobs.schema import PACS
from medseg_nca.serving.jobs.store import OUTPUT, JobStore
from medseg_nca.serving.metrics import Metrics

logger = logging.getLogger(__name__)

DICOM_TYPE = "application/dicom"
# Seconds between two looks at what is due where nothing wakes a sender, and the longest pause
# between two tries (1, 2, 4 ... after each). A pause is longer by up to a quarter, so that several
# servers do not all come back to an archive at the same moment.
_LOOK, _LONGEST_PAUSE, _JITTER = 30.0, 300.0, 0.25
GIVE_UP = 72 * 3600.0
# Storing is meant, and not a series of images.
_TEXTS: Mapping[str, str] = {
    "unreachable": "cannot be reached",
    "slow": "did not answer in time",
    "busy": "is busy",
    "faulty": "has a fault",
    "unauthorised": "does not let this server in",
    "refused": "refuses the connection",
    "unsupported": "takes no objects of this kind",
    "missing": "offers no storing at its address",
    "too-large": "takes no object of that size",
    "wrong": "does not say what became of the results",
}
# Failure reasons that may pass: processing failure, out of resources (PS3.7 annex C); and None,
# where an archive gives no reason, for example because it stopped in the middle.
_PASSING = frozenset((None, 0x0110, *range(0xA700, 0xA800)))


class Destination(Protocol):
    """Where results go, for example a PACS; used by one thread."""

    @property
    def name(self) -> str:
        """What logs call it, without credentials."""

    @property
    def timeout(self) -> float:
        """Seconds of silence after which a try is given up."""

    def store(self, paths: Sequence[Path], /) -> StoreReport:
        """Send objects once; one that is there already counts as taken.

        Raises:
            MedsegError: if it did not say what became of them, see :class:`DestinationTrouble`.
        """

    def close(self) -> None:
        """End all connections."""


@runtime_checkable
class DestinationTrouble(Protocol):
    """What is known of the error of a destination, whatever protocol it speaks."""

    @property
    def trouble(self) -> str:
        """A word for its kind."""

    @property
    def passes(self) -> bool:
        """Whether the same may succeed later."""


class Deliverer:
    """A sender for each destination, so that one that is down or slow holds up no other.

    Args:
        deliveries: what is to be sent.
        store: of the jobs.
        destinations: by their names.
        audit: gets a line for each delivery that ends.
        metrics: count them.
        give_up: seconds after which a delivery is given up.
    """

    def __init__(
        self, deliveries: Deliveries, store: JobStore, destinations: Mapping[str, Destination],
        audit: AuditLog, metrics: Metrics, give_up: float = GIVE_UP,
    ) -> None:  # fmt: skip
        self._deliveries, self._store, self._names = deliveries, store, tuple(destinations)
        self._senders = [
            _Sender(name, destination, deliveries, store, audit, metrics, give_up)
            for name, destination in destinations.items()
        ]

    def start(self) -> None:
        """Begin to send; what waits for one of the destinations is not swept from now on."""
        self._store.senders = self._names
        if stranded := self._deliveries.stranded(self._names):
            logger.warning(
                "Results wait for destinations that this server does not have: %s. They are sent "
                "when it is started with these again, and removed in time otherwise.",
                ", ".join(stranded),
            )
        for sender in self._senders:
            sender.start()

    def stop(self) -> None:
        """End after what is being sent; what waits is sent by the next server."""
        for sender in self._senders:
            sender.stopping = True
        self._deliveries.wake()
        for sender in self._senders:
            if sender.is_alive():
                sender.join(2 * sender.destination.timeout)


class _Sender(threading.Thread):
    """Sends what is for one destination, one delivery after another."""

    def __init__(
        self, name: str, destination: Destination, deliveries: Deliveries, store: JobStore,
        audit: AuditLog, metrics: Metrics, give_up: float,
    ) -> None:  # fmt: skip
        super().__init__(name=f"deliver-{name}", daemon=True)
        self.destination, self.stopping = destination, False
        self._key, self._deliveries, self._store = name, deliveries, store
        self._audit, self._metrics, self._give_up = audit, metrics, give_up
        self._told = ""

    def run(self) -> None:
        while not self.stopping:
            seen, pause = self._deliveries.news, 1.0
            try:
                delivery = self._deliveries.next(self._key)
                if delivery is not None:
                    self._deliver(delivery)
                    continue
                pause = self._deliveries.pause(self._key, _LOOK)
            except Exception as error:  # for example a full disk: the next look may succeed
                logger.error("Delivering results stumbled: %s.", type(error).__name__)
            if not self.stopping:
                self._deliveries.wait(seen, pause)

    def _deliver(self, delivery: Delivery) -> None:
        job = self._store.get(delivery.job)
        if job is None:
            return  # it was removed; its delivery goes with it
        pause = min(2.0 ** min(delivery.attempts, 20), _LONGEST_PAUSE)
        pause *= 1 + _JITTER * random.random()
        self._deliveries.begin(delivery, pause)
        files = None
        try:
            files = dicom_files(self._store, job)
            report = self.destination.store(files)
        except Exception as error:  # whatever it is, the deliveries after this one have their turn
            text, passes = self._failure(error)
        else:
            if not report.refused:
                self._store.dead_letters.remove(job.id, self._key)
                self._end(delivery, job, "stored")
                logger.info("Job %s: delivered to %s%s.", job.id, self._key, _quality(job))
                return
            text = f"{self._who()} refuses the results ({_reasons(report)})."
            passes = all(reason in _PASSING for reason in report.refused.values())
        if passes and time.time() - delivery.asked <= self._give_up:
            self._deliveries.put_off(delivery, pause, text)
            return
        if passes:
            text = f"{text} It was tried for {self._give_up / 3600:g} hours."
        self._leave(replace(delivery, attempts=delivery.attempts + 1), files or (), text)
        self._end(delivery, job, "failed", text)

    def _leave(self, delivery: Delivery, files: Sequence[Path], text: str) -> None:
        """Leave a dead letter before the database says so: a kill between them tries once more."""
        facts = asdict(replace(delivery, state="failed", reason=text))
        facts = {name: facts[name] for name in ("job", "destination", "attempts", "reason")}
        for name, seconds in (("asked", delivery.asked), ("time", time.time())):
            facts[name] = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
        self._store.dead_letters.write(delivery.job, self._key, files, facts)

    def _failure(self, error: Exception) -> tuple[str, bool]:
        """What a client is told, and whether it may pass."""
        if isinstance(error, FileNotFoundError):
            return "The results were removed.", False
        known = isinstance(error, MedsegError)
        reason = str(error) if known else f"{type(error).__name__}."
        if self._told != reason:
            logger.warning("Results cannot be delivered to %s: %s", self.destination.name, reason)
        self._told = reason
        if isinstance(error, DestinationTrouble):
            text = _TEXTS.get(error.trouble, "does not take the results")
            return f"{self._who()} {text}.", error.passes
        if known:  # the file of the credentials may be in the middle of a renewal
            return f"This server cannot log in at {self._who(False)}; its log says why.", True
        return "This server has a fault, or cannot read the results; its log has a line.", True

    def _who(self, begins: bool = True) -> str:
        who = f"the destination {self._key}"
        if self._key == PACS:
            who = "the DICOMweb server of the images"
        return who[0].upper() + who[1:] if begins else who

    def _end(
        self, delivery: Delivery, job: JobRecord, state: DeliveryState, text: str | None = None
    ) -> None:
        self._deliveries.end(delivery, state, text)
        self._told = ""
        self._metrics.count("stored_total", destination=self._key, outcome=state)
        self._audit.write(
            "store", user=job.owner, outcome=state, job=job.id, series=job.series,
            destination=self._key, **({"verdict": job.verdict} if job.verdict else {}),
        )  # fmt: skip


def _quality(job: JobRecord) -> str:
    """What the log says of the estimated quality of a result; nothing of a notice of a failure."""
    if not job.verdict:
        return ""
    dice = (job.result.get("estimate") or {}).get("dice")
    about = "" if dice is None else f", predicted Dice about {dice:.2f}"
    return f"; quality: {job.verdict}{about}"


def dicom_files(store: JobStore, job: JobRecord) -> list[Path]:
    """The DICOM objects of a job that has ended.

    Of one that is done they are the objects among its results, the segmentation first; of one that
    failed, the notice that says why, if it has one.
    """
    folder = store.folder(job.id)
    if job.state == "failed":
        notice = job.result.get("notice") or {}
        return [folder / NOTICE / notice["file"]] if "file" in notice else []
    return [folder / OUTPUT / output["file"] for output in job.result["outputs"].values()
            if output["type"] == DICOM_TYPE]  # fmt: skip


def _reasons(report: StoreReport) -> str:
    codes = sorted({reason for reason in report.refused.values() if reason is not None})
    if not codes:
        return "it gives no reason"
    return f"failure reason {', '.join(f'{code:04X}H' for code in codes)}"
