"""A server from its settings to its end."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import uvicorn

from medseg_nca.config.training import TrackingSettings
from medseg_nca.errors import ConfigError
from medseg_nca.io.dicomweb.client import DicomWebClient
from medseg_nca.serving.audit import AuditLog
from medseg_nca.serving.catalogue import Catalogue, ServedEntry, parse_models
from medseg_nca.serving.http.app import create_app
from medseg_nca.serving.http.running import Running
from medseg_nca.serving.images.folder import FolderSource
from medseg_nca.serving.images.image import ImageSource
from medseg_nca.serving.images.pacs import PacsSource
from medseg_nca.serving.jobs.deliverer import Deliverer
from medseg_nca.serving.jobs.deliveries import Deliveries
from medseg_nca.serving.jobs.service import JobService, Parts
from medseg_nca.serving.jobs.store import JobStore
from medseg_nca.serving.labels import Labels
from medseg_nca.serving.metrics import Metrics
from medseg_nca.serving.ohif.build import OhifBuild
from medseg_nca.serving.proxy.upstream import Upstream
from medseg_nca.serving.quiet import quiet_server
from medseg_nca.serving.security.desk import PasswordDesk
from medseg_nca.serving.security.listening import (
    check_certificate,
    check_listening,
    check_pacs,
)
from medseg_nca.serving.security.login_limit import LoginLimit
from medseg_nca.serving.security.tokens import Tokens
from medseg_nca.serving.security.users import UserFile
from medseg_nca.serving.sessions import Sessions
from medseg_nca.serving.settings import ServeSettings
from medseg_nca.serving.studies import Studies

# Connections at a time; more wait in the system.
_CONNECTIONS = 200


def serve(settings: ServeSettings, listening: Callable[[str], None] | None = None) -> None:
    """Serve until SIGTERM or Ctrl-C; what is at work is finished first.

    Args:
        settings: of the server.
        listening: told the URL once requests are taken.

    Raises:
        ConfigError: if it may not listen there, or a setting is wrong.
        ModelError, TrackingError: if a model cannot be served.
    """
    users = None if settings.users is None else UserFile(settings.users)
    check_listening(settings, 0 if users is None else len(users.names))
    check_certificate(settings)
    check_pacs(settings)
    entries = parse_models(settings.models)
    quiet_server()
    os.umask(0o077)  # what is kept is for the server alone
    place = _bind(settings)
    try:
        store = JobStore(settings.state)
        try:
            running = _running(settings, users, store, entries)
            with _delivering(running):
                _run(running, place, listening)
        finally:
            store.close()
    finally:
        place.close()


def _running(
    settings: ServeSettings,
    users: UserFile | None,
    store: JobStore,
    entries: tuple[ServedEntry, ...],
) -> Running:
    state, limits = settings.state, settings.limits
    audit, metrics = AuditLog(state), Metrics()
    tracking = TrackingSettings(uri=settings.tracking_uri)
    catalogue = Catalogue(entries, state / "models", tracking, audit, metrics)
    parts = Parts(store, catalogue, audit, metrics, limits)
    sessions = Sessions(state / "sessions", limits.session_age)
    pacs = None if settings.pacs is None else DicomWebClient(settings.pacs)
    studies = Studies(_source(settings, pacs), state / "images")
    devices, chores = settings.devices, (sessions.sweep, studies.sweep)
    return Running(
        settings=settings,
        store=store,
        service=JobService(parts, devices, settings.workers, settings.poll, chores),
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
        deliveries=None if pacs is None else Deliveries(store),
    )


@contextmanager
def _delivering(running: Running) -> Iterator[None]:
    """Store results in the PACS, where there is one, as long as the server lives."""
    pacs, deliveries = running.pacs, running.deliveries
    if pacs is None or deliveries is None:
        yield
        return
    deliverer = Deliverer(deliveries, running.store, pacs, running.audit, running.metrics)
    deliverer.start()
    try:
        yield
    finally:
        deliverer.stop()
        pacs.close()


def _source(settings: ServeSettings, pacs: DicomWebClient | None) -> ImageSource | None:
    if pacs is not None:
        return PacsSource(pacs, settings.state / "pacs", settings.limits)
    return None if settings.studies is None else FolderSource(settings.studies)


class _Server(uvicorn.Server):
    """Tells the queue at the first signal that no further job is to begin."""

    def __init__(self, config: uvicorn.Config, running: Running) -> None:
        super().__init__(config)
        self._running = running

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop; see uvicorn."""
        self._running.service.begin_stop()
        super().handle_exit(sig, frame)


def _run(running: Running, place: socket.socket, listening: Callable[[str], None] | None) -> None:
    settings = running.settings
    config = uvicorn.Config(
        create_app(running),
        log_config=None,
        access_log=False,  # addresses of requests hold ids of images
        server_header=False,
        proxy_headers=False,  # anybody could write them; addresses are those of the connections
        date_header=True,
        limit_concurrency=_CONNECTIONS,
        timeout_graceful_shutdown=int(settings.limits.deadline) + 30,
        ssl_certfile=None if settings.tls_cert is None else str(settings.tls_cert),
        ssl_keyfile=None if settings.tls_key is None else str(settings.tls_key),
        lifespan="on",
    )
    if listening is not None:
        host, port = place.getsockname()[:2]
        name = f"[{host}]" if ":" in host else host
        listening(f"{'https' if settings.tls else 'http'}://{name}:{port}")
    before = _expect_signals()
    try:
        _Server(config, running).run(sockets=[place])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _expect_signals() -> dict[signal.Signals, Any]:
    """Take the signals that uvicorn raises again when it has stopped: more is to be done then."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {number: signal.signal(number, lambda *_: None)
            for number in (signal.SIGTERM, signal.SIGINT)}  # fmt: skip


def _bind(settings: ServeSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    place = socket.socket(family, socket.SOCK_STREAM)
    try:
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        place.bind((settings.host.strip("[]"), settings.port))
        place.listen(128)  # from here on connections wait, even before the models are loaded
    except OSError as error:
        place.close()
        raise ConfigError(
            f"--host {settings.host} --port {settings.port}: cannot be used ({error.strerror}).",
            hint="Choose another port: --port 0 takes any that is free.",
        ) from error
    return place
