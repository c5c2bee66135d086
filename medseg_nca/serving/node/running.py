"""A node in a process of its own, from its settings to its end."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from medseg_nca.config.training import TrackingSettings
from medseg_nca.serving.audit import AuditLog
from medseg_nca.serving.catalogue import Catalogue
from medseg_nca.serving.jobs.deliverer import Deliverer
from medseg_nca.serving.jobs.deliveries import Deliveries
from medseg_nca.serving.jobs.service import JobService, Parts
from medseg_nca.serving.jobs.store import JobStore
from medseg_nca.serving.metrics import Metrics
from medseg_nca.serving.node.figures import FiguresServer
from medseg_nca.serving.node.node import Node, destinations_of
from medseg_nca.serving.node.routes import entries_of
from medseg_nca.serving.node.settings import NodeSettings
from medseg_nca.serving.quiet import quiet_server


def run(settings: NodeSettings, listening: Callable[[str], None] | None = None) -> None:
    """Receive, compute and send until SIGTERM or Ctrl-C; what is at work is finished first.

    Args:
        settings: of the node.
        listening: told where it listens, once instances are taken.

    Raises:
        ConfigError: if it may not listen there, or a setting is wrong.
        ModelError, TrackingError: if a model of the rules cannot be used.
    """
    settings.check()
    quiet_server()
    os.umask(0o077)  # what is kept is for the node alone
    with _asked_to_stop() as stop, ExitStack() as stack:
        entries, served = entries_of(settings.routes)
        store = JobStore(settings.spool)
        stack.callback(store.close)
        audit, metrics = AuditLog(settings.spool), Metrics()
        tracking = TrackingSettings(uri=settings.tracking_uri)
        catalogue = Catalogue(entries, settings.spool / "models", tracking, audit, metrics)
        parts = Parts(store, catalogue, audit, metrics, settings.limits)
        service = JobService(
            parts, settings.device, settings.workers, settings.poll, engine=settings.engine
        )
        deliveries, destinations = Deliveries(store), destinations_of(settings)
        node = Node(settings, service, served, deliveries)
        deliverer = Deliverer(
            deliveries, store, destinations, audit, metrics, settings.limits.delivery
        )
        for destination in destinations.values():
            stack.callback(destination.close)
        service.at_end.append(deliveries.wake)
        # They end in the order from the last to the first: what is computed is still sent.
        stack.callback(deliverer.stop)
        deliverer.start()
        stack.callback(service.close)
        service.start()
        stack.callback(node.stop)
        stack.callback(service.begin_stop)
        node.start()
        said = [node.listen()]
        if settings.metrics_port is not None:
            figures = FiguresServer(
                settings.metrics_port,
                lambda: metrics.text(service.gauges() | deliveries.gauges() | node.gauges()),
            )
            stack.callback(figures.stop)
            said.append(f"figures at http://127.0.0.1:{figures.port}/metrics")
        if listening is not None:
            listening("; ".join(said))
        stop.wait()


@contextmanager
def _asked_to_stop() -> Iterator[threading.Event]:
    """An event that SIGTERM and Ctrl-C set."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, lambda *_: asked.set()) for number in numbers}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
