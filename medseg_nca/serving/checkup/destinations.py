"""Whether the applications that a node calls answer, know it, and take what it sends."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

from medseg_nca.errors import MedsegError
from medseg_nca.findings import DoctorFinding
from medseg_nca.io.dicomweb.server import DicomWebServer
from medseg_nca.io.dimse.address import DimseAddress, parse_address
from medseg_nca.io.dimse.echo import echo
from medseg_nca.io.dimse.offers import offered
from medseg_nca.io.dimse.tls import DimseTls
from medseg_nca.serving.checkup.files import examine_mode
from medseg_nca.serving.checkup.images import search
from medseg_nca.serving.node.node import tls_of
from medseg_nca.serving.node.settings import NodeSettings
from medseg_nca.serving.security.listening import is_loopback

# Seconds that a destination has for each step.
_TIMEOUT = 10.0
_STORAGE = "1.2.840.10008.5.1.4.1.1"
# SOP classes of what is sent (PS3.4 B.5).
_CLASSES = {
    "dicom-seg": ("Segmentation Storage", f"{_STORAGE}.66.4"),
    "sr": ("Comprehensive SR Storage", f"{_STORAGE}.88.33"),
    "rtstruct": ("RT Structure Set Storage", f"{_STORAGE}.481.3"),
    "sc": ("Secondary Capture Image Storage", f"{_STORAGE}.7"),
}
_REPORTS = {"sr": ("Basic Text SR Storage", f"{_STORAGE}.88.11"), "sc": _CLASSES["sc"]}


def examine_destinations(settings: NodeSettings) -> Iterator[DoctorFinding]:
    """Echo or search every destination, and echo those who are told of storage commitment."""
    if not settings.send_to:
        text = "none: results stay in the spool"
        advice = "Name where they go: --send-to AET@HOST:PORT"
        yield DoctorFinding("destinations", "send to", "note", text, advice)
    try:
        tls = tls_of(settings)
        servers = settings.web_servers
    except MedsegError as error:
        yield DoctorFinding("destinations", "settings", "problem", error.message, error.hint or "")
        return
    for text in settings.send_to:
        if text in servers:
            yield _web(servers[text], settings)
        else:
            yield from _application(text, settings, tls)
    if settings.dicomweb_auth is not None:
        yield from examine_mode("destinations", "credentials file", settings.dicomweb_auth)
    for peer in _committed(settings):
        if str(peer) not in settings.send_to:
            yield _answers(peer, settings, tls, str(peer))


def _web(server: DicomWebServer, settings: NodeSettings) -> DoctorFinding:
    try:
        settings.check_way(server)
        search(server)
    except MedsegError as error:
        return DoctorFinding("destinations", server.url, "problem", error.message, error.hint or "")
    return DoctorFinding("destinations", server.url, "ok", "answers a search")


def _application(
    text: str, settings: NodeSettings, tls: DimseTls | None
) -> Iterator[DoctorFinding]:
    try:
        peer = parse_address(text)
    except MedsegError as error:
        yield DoctorFinding("destinations", text, "problem", error.message, error.hint or "")
        return
    found = _answers(peer, settings, tls, text)
    yield found
    if found.level == "ok":
        yield from _takes(peer, settings, tls, text)


def _answers(
    peer: DimseAddress, settings: NodeSettings, tls: DimseTls | None, name: str
) -> DoctorFinding:
    try:
        seconds = echo(peer, settings.aet, tls, _TIMEOUT)
    except MedsegError as error:
        advice = f"{error.hint or ''} {_known_there(settings)}".strip()
        return DoctorFinding("destinations", name, "problem", error.message, advice)
    text = f"answers C-ECHO of {settings.aet} in {seconds * 1000:.0f} ms"
    return DoctorFinding("destinations", name, "ok", text)


def _takes(
    peer: DimseAddress, settings: NodeSettings, tls: DimseTls | None, name: str
) -> Iterator[DoctorFinding]:
    """Many archives answer an echo, but take no segmentations."""
    sent = [_CLASSES[word] for word in settings.formats if word in _CLASSES]
    if settings.report_failures in _REPORTS:
        sent.append(_REPORTS[settings.report_failures])
    wanted = {uid: title for title, uid in sent}
    try:
        accepted = offered(peer, settings.aet, wanted, tls, _TIMEOUT)
    except MedsegError as error:
        yield DoctorFinding("destinations", name, "problem", error.message, error.hint or "")
        return
    refused = [title for uid, title in wanted.items() if uid not in accepted]
    if refused:
        advice = "Switch these SOP classes on there, or leave their --formats out."
        text = f"does not take {', '.join(refused)}"
        yield DoctorFinding("destinations", f"{name} takes", "problem", text, advice)
    else:
        text = ", ".join(wanted.values())
        yield DoctorFinding("destinations", f"{name} takes", "ok", text)


def _known_there(settings: NodeSettings) -> str:
    """What has to be entered in the other application, with Orthanc's words as an example."""
    host = settings.host.strip("[]")
    if host in ("0.0.0.0", "::"):
        host = socket.getfqdn()
    elif is_loopback(host):
        host = "127.0.0.1"
    entry = json.dumps({settings.aet.lower(): [settings.aet, host, settings.port]})
    return (
        f"There this node is {settings.aet} at {host} port {settings.port}; in orthanc.json: "
        f'"DicomModalities": {entry}'
    )


def _committed(settings: NodeSettings) -> list[DimseAddress]:
    """Callers that are told of storage commitment, where they are known as one machine."""
    try:
        allowed = settings.allowed
    except MedsegError:  # the list of callers says so
        return []
    return [
        DimseAddress(one.aet, one.host, one.port)
        for one in allowed
        if one.port is not None and one.is_one and one.aet != "*"
    ]
