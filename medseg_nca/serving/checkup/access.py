"""Who gets in, and where: users, address and port."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException, HTTPSConnection

from medseg_nca.errors import MedsegError
from medseg_nca.findings import DoctorFinding
from medseg_nca.serving.checkup.files import examine_mode
from medseg_nca.serving.security.listening import bind, check_listening, is_loopback
from medseg_nca.serving.security.users import UserFile
from medseg_nca.serving.settings import ServeSettings

# Seconds that a server on this machine has to answer.
_TIMEOUT = 5.0


def examine_users(settings: ServeSettings) -> Iterator[DoctorFinding]:
    """Examine the file of users, and whether there have to be some where the server listens."""
    path, count = settings.users, 0
    if path is not None:
        try:
            file = UserFile(path)
            names = file.names
        except MedsegError as error:
            yield DoctorFinding("access", "users", "problem", error.message, error.hint or "")
            return
        count = len(names)
        admins = [name for name in names if (user := file.get(name)) and user.may("admin")]
        text, advice = f"{count} in {path}, {len(admins)} of them admin", ""
        if not admins:
            advice = f"medseg-nca user add NAME --role admin --users {path}"
        yield DoctorFinding("access", "users", "ok" if admins else "problem", text, advice)
        yield from examine_mode("access", "users file", path)
    elif is_loopback(settings.host):
        advice = "medseg-nca user add NAME --role admin --users FILE, and --users FILE."
        text = "none: everybody on this machine may do everything"
        yield DoctorFinding("access", "users", "note", text, advice)
    if path is None or count:
        yield from _listening(settings, count)


def _listening(settings: ServeSettings, users: int) -> Iterator[DoctorFinding]:
    try:
        check_listening(settings, users)
    except MedsegError as error:
        yield DoctorFinding("access", "host", "problem", error.message, error.hint or "")
        return
    if not is_loopback(settings.host) and not (users and settings.tls):
        text = f"{settings.host}: --insecure lets other machines in without users or without TLS"
        advice = "See to it that only the proxy reaches this address."
        yield DoctorFinding("access", "host", "note", text, advice)
    else:
        yield DoctorFinding("access", "host", "ok", settings.host)


def examine_port(settings: ServeSettings) -> Iterator[DoctorFinding]:
    """Find out whether the port is free; a server of ours that is at work there is no problem."""
    place = f"{settings.host}:{settings.port}"
    try:
        bind(settings.host, settings.port).close()
    except MedsegError as error:
        version = _version_there(settings)
        if version is None:
            yield DoctorFinding("access", "port", "problem", error.message, error.hint or "")
        else:
            text = f"{place}: medseg-nca {version} serves there now"
            yield DoctorFinding("access", "port", "ok", text)
    else:
        yield DoctorFinding("access", "port", "ok", f"{place} is free")


def _version_there(settings: ServeSettings) -> str | None:
    """Version of a server of ours on that port; None if there is none."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    connection = HTTPConnection(host, settings.port, timeout=_TIMEOUT)
    if settings.tls:
        # Nothing secret is sent, and the certificate may be for other names than this address.
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = HTTPSConnection(host, settings.port, timeout=_TIMEOUT, context=context)
    with closing(connection), suppress(OSError, HTTPException, ValueError, KeyError, TypeError):
        connection.request("GET", "/health/live")
        tree = json.loads(connection.getresponse().read(10_000))
        if tree["status"] == "live":
            return str(tree["version"])[:40]
    return None
