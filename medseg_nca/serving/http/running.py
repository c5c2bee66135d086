"""What all routes stand on, and who asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from medseg_nca.io.dicomweb.client import DicomWebClient
from medseg_nca.serving.audit import AuditLog
from medseg_nca.serving.catalogue import Catalogue
from medseg_nca.serving.errors import Refused
from medseg_nca.serving.jobs.deliverer import Destination
from medseg_nca.serving.jobs.deliveries import Deliveries
from medseg_nca.serving.jobs.records import JobRecord, is_id
from medseg_nca.serving.jobs.service import JobService
from medseg_nca.serving.jobs.store import JobStore
from medseg_nca.serving.labels import Labels
from medseg_nca.serving.metrics import Metrics
from medseg_nca.serving.node.node import Node
from medseg_nca.serving.ohif.build import OhifBuild
from medseg_nca.serving.proxy.upstream import Upstream
from medseg_nca.serving.security.desk import PasswordDesk
from medseg_nca.serving.security.login_limit import LoginLimit
from medseg_nca.serving.security.tokens import Tokens
from medseg_nca.serving.security.users import Role, User, UserFile
from medseg_nca.serving.sessions import Sessions
from medseg_nca.serving.settings import ServeSettings
from medseg_nca.serving.studies import Studies

COOKIE = "medseg_nca"


@dataclass(frozen=True)
class Running:
    """A server at work.

    Attributes:
        settings: of it.
        store: of jobs.
        service: the queue and the workers.
        catalogue: the models in service.
        audit: who did what.
        metrics: figures.
        studies: images that clients may name.
        labels: that people saved.
        sessions: images that were sent for several predictions.
        logins: how often a password may be tried.
        users: None where everybody may do everything.
        tokens: of those who are logged in.
        desk: where their passwords are checked.
        pacs: the DICOMweb server of the images; None where they lie in a folder.
        upstream: the same, for clients that look at its images through this server.
        ohif: the build of the viewer that is handed out; None without one.
        destinations: where results can be delivered, by name; that server is "pacs".
        deliveries: results that are to be delivered; None where there is no destination.
        node: that receives series in this process; None without one.
    """

    settings: ServeSettings
    store: JobStore
    service: JobService
    catalogue: Catalogue
    audit: AuditLog
    metrics: Metrics
    studies: Studies
    labels: Labels
    sessions: Sessions
    logins: LoginLimit
    users: UserFile | None = None
    tokens: Tokens | None = None
    desk: PasswordDesk | None = None
    pacs: DicomWebClient | None = None
    upstream: Upstream | None = None
    ohif: OhifBuild | None = None
    destinations: Mapping[str, Destination] = field(default_factory=dict)
    deliveries: Deliveries | None = None
    node: Node | None = None


@dataclass(frozen=True)
class Client:
    """Who asks; ``user`` is None where there are no users."""

    user: User | None

    @property
    def name(self) -> str:
        """Of the user, "" where there are none."""
        return "" if self.user is None else self.user.name

    @property
    def owner(self) -> str | None:
        """Whose jobs they see; None if those of all."""
        return None if self.user is None or self.user.may("admin") else self.user.name


def running(request: Request) -> Running:
    """The server that a request came to."""
    found: Running = request.app.state.running
    return found


def token_of(request: Request) -> str | None:
    """The bearer token of a request, from its header or the cookie of its login."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token:
        return token.strip()
    return request.cookies.get(COOKIE)


async def _client(request: Request, role: Role) -> Client:
    server = running(request)
    if server.tokens is None:
        return Client(None)
    token = token_of(request)
    user = None if token is None else await run_in_threadpool(server.tokens.user_of, token)
    if user is None:
        raise Refused(401, "Log in first.", hint="POST /auth/token gives a bearer token.")
    if not user.may(role):
        raise Refused(403, f"The role {user.role} may not do this; it needs {role}.")
    return Client(user)


async def reader(request: Request) -> Client:
    """Who may look. Raises Refused (401, 403)."""
    return await _client(request, "reader")


async def sender(request: Request) -> Client:
    """Who may send images and labels. Raises Refused (401, 403)."""
    return await _client(request, "user")


async def admin(request: Request) -> Client:
    """Who may see what all do. Raises Refused (401, 403)."""
    return await _client(request, "admin")


def job_of(request: Request, job_id: str, client: Client) -> JobRecord:
    """A job that a client may see.

    Raises:
        Refused: with 404 if there is none, or it is somebody else's.
    """
    job = running(request).store.get(job_id) if is_id(job_id) else None
    if job is None or client.owner not in (None, job.owner):
        raise Refused(404, "There is no such job.")
    return job


def answers(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For the OpenAPI page: the errors of a route, all of the same shape."""
    texts = {401: "Not logged in", 403: "Not allowed", 404: "Not found", 405: "Not this method",
             409: "Not now", 413: "Too large", 414: "Too long", 415: "Not this type",
             422: "Cannot be used", 429: "Too many tries", 501: "Not offered",
             502: "The DICOMweb server of the images does not do its part",
             503: "Busy or not ready: see Retry-After", 504: "Took too long"}  # fmt: skip
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        status: {"description": texts.get(status, "Error"), "content": error}
        for status in (401, 403, *statuses)
    }
