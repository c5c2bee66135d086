"""A DICOM node: receives series, has them computed, and keeps them no longer than it should."""

from __future__ import annotations

import os
import weakref
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from medseg_nca.config.sources import resolve
from medseg_nca.io.dicomweb.client import DicomWebClient
from medseg_nca.serving.catalogue import ServedEntry
from medseg_nca.serving.jobs.deliverer import Destination
from medseg_nca.serving.jobs.deliveries import Deliveries
from medseg_nca.serving.jobs.disk import only_one
from medseg_nca.serving.jobs.records import JobOptions
from medseg_nca.serving.jobs.service import JobService
from medseg_nca.serving.node.arrivals import Arrivals, Rules
from medseg_nca.serving.node.completeness import Completeness
from medseg_nca.serving.node.ledger import Ledger
from medseg_nca.serving.node.listing import SERIES, note_state
from medseg_nca.serving.node.notices import FailureNotices
from medseg_nca.serving.node.receiver import Receiver, ReceiverSettings
from medseg_nca.serving.node.requests import prepare, take_requests
from medseg_nca.serving.node.retention import Retention
from medseg_nca.serving.node.settings import ENVIRONMENT, NodeSettings
from medseg_nca.serving.node.spool import Spool
from medseg_nca.serving.settings import GIGABYTE, MEGABYTE

if TYPE_CHECKING:
    from medseg_nca.io.dimse.tls import DimseTls

# Not that of the jobs, which lie in the same folder where a node runs in a process of its own.
_LOCK = "node.lock"
# Nobody is there to send a series again, as a client of the server is: it may see many restarts.
_ATTEMPTS = 10


class Node:
    """Receiver, arrivals and retention on the queue of a server, or of a process of its own.

    Args:
        settings: of the node.
        service: computes its jobs.
        served: the entry of the catalogue for each model of the rules.
        deliveries: of the results; None where they go nowhere.

    Raises:
        ConfigError: if another node uses the spool, or its jobs are those of another server.
    """

    def __init__(
        self, settings: NodeSettings, service: JobService, served: Mapping[str, ServedEntry],
        deliveries: Deliveries | None,
    ) -> None:  # fmt: skip
        parts = service.parts
        self._settings, self._service, self._deliveries = settings, service, deliveries
        settings.spool.mkdir(parents=True, exist_ok=True, mode=0o700)
        guard = only_one(settings.spool / _LOCK, "--spool")
        self._unlock = weakref.finalize(self, os.close, guard)
        note_state(settings.spool, parts.store.state)
        prepare(settings.spool)
        self.spool = Spool(
            settings.spool / SERIES, reserve_bytes=int(settings.reserve_gb * GIGABYTE)
        )
        self._ledger = Ledger(parts.store)
        retention = Retention(self.spool, self._ledger, parts.store, settings.keep, parts.audit)
        options = JobOptions(
            kind="dicom", objects=settings.formats, destinations=settings.send_to,
            attempts=_ATTEMPTS, acceptable=settings.acceptable, miss_rate=settings.miss_rate,
            hold_rejected=settings.on_reject == "hold",
        )  # fmt: skip
        if settings.report_failures != "none":
            parts.store.notices = FailureNotices(parts.catalogue, parts.audit)
            options = replace(options, notice=settings.report_failures)
        self._completeness = Completeness(settings.settle, settings.expect_count or "")
        self.arrivals = Arrivals(
            self.spool, self._ledger, service, Rules(settings.routes, served, options),
            self._completeness,
            chores=(partial(take_requests, settings.spool, self.again), retention.sweep_when_due),
        )  # fmt: skip
        self.receiver = Receiver(
            self.spool, _receiver_settings(settings), self.arrivals.arrived, parts.audit,
            parts.metrics,
        )  # fmt: skip

    def listen(self) -> str:
        """Begin to receive; what arrives waits in the spool. Returns where it listens.

        Raises:
            ConfigError: if the port cannot be had, or the certificate cannot be used.
        """
        self.receiver.start()
        self._completeness.listens()
        settings = self._settings
        return f"{settings.aet} listens on {settings.host} port {self.receiver.port}"

    def start(self) -> None:
        """Begin to submit jobs; the service has started before."""
        self._completeness.listens()  # or at least soon: nothing is complete before
        self.arrivals.start()

    def stop(self) -> None:
        """Take no new association, and finish what is being received and looked at."""
        self.receiver.stop()
        self.arrivals.stop()
        self._unlock()

    def gauges(self) -> dict[str, tuple[str, float]]:
        """Figures as they are now, each with its help."""
        return {
            "node_series_waiting": (
                "Series that are not complete yet, or wait for the queue.",
                float(self.arrivals.waiting),
            ),
            "node_receives": (
                "Whether instances can be received.", float(self.receiver.problem() is None)
            ),
        }  # fmt: skip

    def again(self, job: str | None) -> None:
        """Try a job that has no result again, and the deliveries of one that were given up.

        Args:
            job: its id; None for all of the node. One that is named is delivered even if its result
                was held because it is rejected.
        """
        for line in self._ledger.submitted(job):
            record = self._service.parts.store.get(line.job)
            if record is None:
                continue
            if record.state in ("failed", "cancelled"):
                self._ledger.again(line)
                self.arrivals.look_again(line.series)
            elif record.state == "done" and self._deliveries is not None:
                found = {one.destination: one.state for one in self._deliveries.of(line.job)}
                wanted = [name for name, state in found.items() if state == "failed"]
                if job is not None and record.is_held:
                    wanted += [name for name in record.options.destinations if name not in found]
                for name in wanted:
                    self._deliveries.ask(line.job, name)


def read_settings(file: Path) -> NodeSettings:
    """The settings of a node that runs within a server: of a file, and of the environment.

    Raises:
        ConfigError: naming the setting that is wrong.
    """
    settings = resolve(
        NodeSettings, prefix=ENVIRONMENT, environment=os.environ, flags={}, file=file
    ).settings
    settings.check()
    return settings


def destinations_of(settings: NodeSettings) -> dict[str, Destination]:
    """Where the results of a node go, by the names that its jobs have them under.

    Raises:
        ConfigError: if an address is none, or its credentials cannot be used.
    """
    from medseg_nca.io.dimse.address import parse_address
    from medseg_nca.io.dimse.store import DimseStorage

    servers = settings.web_servers
    tls = tls_of(settings)
    made: dict[str, Destination] = {}
    for text in settings.send_to:
        if text in servers:
            made[text] = DicomWebClient(servers[text])
        else:
            made[text] = DimseStorage(parse_address(text), settings.aet, tls)
    return made


def tls_of(settings: NodeSettings) -> DimseTls | None:
    """Certificates for associations both ways; None where they are not encrypted."""
    from medseg_nca.io.dimse.tls import DimseTls

    if settings.tls_cert is None or settings.tls_key is None:
        return None
    return DimseTls(ca=settings.tls_ca, cert=settings.tls_cert, key=settings.tls_key)


def _receiver_settings(settings: NodeSettings) -> ReceiverSettings:
    return ReceiverSettings(
        aet=settings.aet, host=settings.host.strip("[]"), port=settings.port,
        allow=settings.allowed, tls=tls_of(settings),
        max_object_bytes=int(settings.max_object * MEGABYTE),
        max_associations=settings.max_associations,
    )  # fmt: skip
