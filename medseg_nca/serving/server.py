"""A server from its settings to its end."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any

import uvicorn

from medseg_nca.config.training import TrackingSettings
from medseg_nca.io.dicomweb.client import DicomWebClient
from medseg_nca.serving.audit import AuditLog
from medseg_nca.serving.catalogue import Catalogue
from medseg_nca.serving.http.app import create_app
from medseg_nca.serving.http.connection import MOST_HEADER, MOST_WAITING, BoundedConnection, Waiting
from medseg_nca.serving.http.running import Running
from medseg_nca.serving.images.folder import FolderSource
from medseg_nca.serving.images.image import ImageSource
from medseg_nca.serving.images.pacs import PacsSource
from medseg_nca.serving.jobs.deliverer import Deliverer, Destination
from medseg_nca.serving.jobs.deliveries import Deliveries
from medseg_nca.serving.jobs.schema import PACS
from medseg_nca.serving.jobs.service import JobService, Parts
from medseg_nca.serving.jobs.store import JobStore
from medseg_nca.serving.labels import Labels
from medseg_nca.serving.metrics import Metrics
from medseg_nca.serving.node.node import Node, destinations_of, read_settings
from medseg_nca.serving.node.routes import entries_of
from medseg_nca.serving.node.settings import NodeSettings
from medseg_nca.serving.ohif.build import OhifBuild
from medseg_nca.serving.proxy.upstream import Upstream
from medseg_nca.serving.quiet import quiet_server
from medseg_nca.serving.security.certificate import Certificate
from medseg_nca.serving.security.desk import PasswordDesk
from medseg_nca.serving.security.listening import (
    bind,
    check_certificate,
    check_listening,
    check_pacs,
    trusted,
)
from medseg_nca.serving.security.login_limit import LoginLimit
from medseg_nca.serving.security.tokens import Tokens
from medseg_nca.serving.security.users import UserFile
from medseg_nca.serving.sessions import Sessions
from medseg_nca.serving.settings import ServeSettings
from medseg_nca.serving.studies import Studies

logger = logging.getLogger(__name__)

# Requests at a time; more are answered 503.
_REQUESTS = 200
# Files that may be open, where the system allows it: connections in their TLS handshake need one
# each, and nothing else bounds them.
_OPEN_FILES = 65_536


def serve(settings: ServeSettings, listening: Callable[[str], None] | None = None) -> None:
    """Serve until SIGTERM or Ctrl-C; what is at work is finished first.

    Args:
        settings: of the server.
        listening: told the URL once requests are taken.

    Raises:
        ConfigError: if it may not listen there, or a setting is wrong.
        ModelError, TrackingError: if a model cannot be served.
    """
    settings.check()
    users = None if settings.users is None else UserFile(settings.users)
    check_listening(settings, 0 if users is None else len(users.names))
    check_certificate(settings)
    check_pacs(settings)
    node = None if settings.node is None else read_settings(settings.node)
    quiet_server()
    os.umask(0o077)  # what is kept is for the server alone
    place = bind(settings.host, settings.port)
    try:
        store = JobStore(settings.state)
        try:
            running = _running(settings, users, store, node)
            with _delivering(running):
                if running.node is not None:
                    logger.info("%s", running.node.listen())
                _run(running, place, listening)
        finally:
            store.close()
    finally:
        place.close()


def _running(
    settings: ServeSettings,
    users: UserFile | None,
    store: JobStore,
    node: NodeSettings | None,
) -> Running:
    state, limits = settings.state, settings.limits
    audit, metrics = AuditLog(state), Metrics()
    tracking = TrackingSettings(uri=settings.tracking_uri)
    entries, of_rules = entries_of(() if node is None else node.routes, settings.models)
    catalogue = Catalogue(entries, state / "models", tracking, audit, metrics)
    parts = Parts(store, catalogue, audit, metrics, limits)
    sessions = Sessions(state / "sessions", limits.session_age)
    pacs = None if settings.pacs is None else DicomWebClient(settings.pacs)
    studies = Studies(_source(settings, pacs), state / "images")
    destinations: dict[str, Destination] = {} if pacs is None else {PACS: pacs}
    if node is not None:
        destinations |= destinations_of(node)
    deliveries = Deliveries(store) if destinations else None
    chores = (sessions.sweep, studies.sweep)
    service = JobService(
        parts, settings.device, settings.workers, settings.poll, chores, settings.engine
    )
    return Running(
        settings=settings,
        store=store,
        service=service,
        catalogue=catalogue,
        audit=audit,
        metrics=metrics,
        studies=studies,
        labels=Labels(state / "labels"),
        sessions=sessions,
        logins=LoginLimit(),
        users=users,
        tokens=None if users is None else Tokens(store, users, limits.token_age),
        desk=None if users is None else PasswordDesk(users),
        pacs=pacs,
        upstream=None if settings.pacs is None else Upstream(settings.pacs, limits.inflated_bytes),
        ohif=None if settings.ohif is None else OhifBuild(settings.ohif),
        destinations=destinations,
        deliveries=deliveries,
        node=None if node is None else Node(node, service, of_rules, deliveries),
    )


@contextmanager
def _delivering(running: Running) -> Iterator[None]:
    """Send results to their destinations, where there are any, as long as the server lives."""
    deliveries, destinations = running.deliveries, running.destinations
    if deliveries is None:
        yield
        return
    deliverer = Deliverer(
        deliveries, running.store, destinations, running.audit, running.metrics,
        running.settings.limits.delivery,
    )  # fmt: skip
    running.service.at_end.append(deliveries.wake)
    deliverer.start()
    try:
        yield
    finally:
        deliverer.stop()
        for destination in destinations.values():
            destination.close()


def _source(settings: ServeSettings, pacs: DicomWebClient | None) -> ImageSource | None:
    copies = settings.state / "pacs"
    if pacs is not None:
        return PacsSource(pacs, copies, settings.limits)
    shutil.rmtree(copies, ignore_errors=True)  # of an earlier server: nobody would sweep them
    return None if settings.folder is None else FolderSource(settings.folder)


class _Server(uvicorn.Server):
    """Tells the queue at the first signal that no further job is to begin."""

    def __init__(self, config: uvicorn.Config, running: Running) -> None:
        super().__init__(config)
        self._running = running
        self._certificate: Certificate | None = None
        cert, key = running.settings.tls_cert, running.settings.tls_key
        config.load()
        if config.ssl is not None and cert is not None and key is not None:
            self._certificate = Certificate(cert, key)
            self._certificate.serve_from(config.ssl)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop; see uvicorn."""
        self._running.service.begin_stop()
        super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        """Look once a second for a renewed certificate; see uvicorn."""
        if self._certificate is not None and counter % 10 == 0:
            self._certificate.renew()
        return await super().on_tick(counter)


def _run(running: Running, place: socket.socket, listening: Callable[[str], None] | None) -> None:
    settings = running.settings
    waiting = Waiting(settings.header_seconds)
    config = uvicorn.Config(
        create_app(running),
        http=partial(BoundedConnection, waiting=waiting),  # type: ignore[arg-type]
        ws="none",
        h11_max_incomplete_event_size=MOST_HEADER,
        log_config=None,
        access_log=False,  # addresses of requests hold ids of images
        server_header=False,
        # Anybody could write them: they are believed of the proxies alone that were named.
        proxy_headers=bool(settings.trust_proxy),
        forwarded_allow_ips=trusted(settings),
        date_header=True,
        limit_concurrency=_REQUESTS + MOST_WAITING,
        timeout_graceful_shutdown=int(settings.limits.deadline) + 30,
        ssl_certfile=None if settings.tls_cert is None else str(settings.tls_cert),
        ssl_keyfile=None if settings.tls_key is None else str(settings.tls_key),
        lifespan="on",
    )
    server = _Server(config, running)
    _allow_files()
    if listening is not None:
        host, port = place.getsockname()[:2]
        name = f"[{host}]" if ":" in host else host
        listening(f"{'https' if settings.tls else 'http'}://{name}:{port}")
    before = _expect_signals()
    try:
        server.run(sockets=[place])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _allow_files() -> None:
    """Raise the number of files that this process may open, as far as the system lets it."""
    try:
        import resource
    except ImportError:  # Windows has no such number
        return
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if most == resource.RLIM_INFINITY else min(most, _OPEN_FILES)
    if now != resource.RLIM_INFINITY and now < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def _expect_signals() -> dict[signal.Signals, Any]:
    """Take the signals that uvicorn raises again when it has stopped: more is to be done then."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {number: signal.signal(number, lambda *_: None)
            for number in (signal.SIGTERM, signal.SIGINT)}  # fmt: skip
