"""Who may send to a node, from where, and whether it can be reached there."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

from medseg_nca.errors import MedsegError
from medseg_nca.findings import DoctorFinding
from medseg_nca.io.dimse.address import DimseAddress, check_aet
from medseg_nca.io.dimse.echo import echo
from medseg_nca.io.dimse.errors import DimseError
from medseg_nca.serving.checkup.node_tls import UncheckedTls
from medseg_nca.serving.jobs.disk import LOCK, is_held
from medseg_nca.serving.node.access import Access, Allowed, parse_allowed
from medseg_nca.serving.node.settings import NodeSettings
from medseg_nca.serving.security.listening import bind, is_loopback

# Seconds that a node on this machine has to answer.
_TIMEOUT = 5.0
# Addresses of one entry beyond which it is hardly meant so; a hospital has more than a /20 rarely.
_MANY = 4096
_EXAMPLE = "--allow SCANNER@10.0.0.5"


def examine_callers(settings: NodeSettings) -> Iterator[DoctorFinding]:
    """Examine the AE title of the node, and each entry of the list of who may send."""
    try:
        aet = check_aet(settings.aet)
    except MedsegError as error:
        yield DoctorFinding("access", "AE title", "problem", error.message, error.hint or "")
    else:
        yield DoctorFinding("access", "AE title", "ok", aet)
    if not settings.allow:
        advice = f"Name the scanners and archives: {_EXAMPLE}"
        yield DoctorFinding("access", "allow", "problem", "nobody may send", advice)
    for text in settings.allow:
        try:
            yield _caller(text, parse_allowed(text), settings)
        except MedsegError as error:
            yield DoctorFinding("access", text, "problem", error.message, error.hint or "")


def _caller(text: str, one: Allowed, settings: NodeSettings) -> DoctorFinding:
    """One entry: whom it lets in, and whether they can come."""
    here = is_loopback(settings.host)
    who = "any AE title" if one.aet == "*" else one.aet
    told = "" if one.port is None else f", told of storage commitment at port {one.port}"
    if one.host == "*":
        if here:
            return DoctorFinding("access", text, "ok", f"{who} from this machine{told}")
        advice = "Name its address or network in the place of the *."
        level = "note" if settings.insecure else "problem"
        shown = f"any machine may call itself {who}"
        return DoctorFinding("access", text, level, shown, advice)  # type: ignore[arg-type]
    network = one.network
    found = _resolved(one.host) if network is None else (_network(network),)
    if not found:
        advice = (
            "Mend the name or the name service, or write the address. Until then it is refused."
        )
        return DoctorFinding("access", text, "problem", f"{one.host} has no address", advice)
    if here and not any(ipaddress.ip_network(address).is_loopback for address in found):
        advice = (
            "Listen for other machines: --host 0.0.0.0, or the address of this one in its network."
        )
        shown = f"{who} cannot come: {settings.host} is for this machine alone"
        return DoctorFinding("access", text, "problem", shown, advice)
    shown = f"{who} from {', '.join(found)}{told}"
    if network is not None and network.num_addresses > _MANY:
        advice = "Name the machines, or a smaller network."
        shown = f"{shown}: {network.num_addresses} addresses"
        return DoctorFinding("access", text, "note", shown, advice)
    return DoctorFinding("access", text, "ok", shown)


def _network(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> str:
    one = network.prefixlen == network.max_prefixlen
    return str(network.network_address if one else network)


def _resolved(name: str) -> tuple[str, ...]:
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return ()
    return tuple(dict.fromkeys(str(entry[4][0]).split("%")[0] for entry in found))


def examine_node_port(settings: NodeSettings, state: Path) -> Iterator[DoctorFinding]:
    """Find out whether the port is free; a node at work there answers C-ECHO.

    Args:
        settings: of the node.
        state: folder of its jobs, which a node at work holds.
    """
    place = f"{settings.host}:{settings.port}"
    works = is_held(state / LOCK)
    try:
        bind(settings.host, settings.port).close()
    except MedsegError as error:
        if works:
            yield _at_work(settings, place)
            return
        advice = error.hint or ""
        if settings.port < 1024:
            advice = f"{advice} A port below 1024 needs CAP_NET_BIND_SERVICE."
        yield DoctorFinding("access", "port", "problem", error.message, advice)
        return
    if works:
        advice = "Stop it, or give each a folder of its own."
        text = f"{state}: another node or server uses this folder, and does not listen at {place}"
        yield DoctorFinding("access", "port", "problem", text, advice)
    else:
        yield DoctorFinding("access", "port", "ok", f"{place} is free")


def _at_work(settings: NodeSettings, place: str) -> DoctorFinding:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    title, tls = _title_from(settings, host), UncheckedTls.of(settings)
    try:
        seconds = echo(DimseAddress(settings.aet, host, settings.port), title, tls, _TIMEOUT)
    except DimseError as error:
        if error.trouble == "unauthorised" and not tls:
            text = f"{place}: a node is at work there; --allow lets in nobody from this machine"
            return DoctorFinding("access", "port", "ok", text)
        text = f"a node is at work, and does not answer C-ECHO. {error.message}"
        advice = "Look into its log; its settings may be others than these."
        return DoctorFinding("access", "port", "problem", text, advice)
    except MedsegError as error:
        return DoctorFinding("access", "port", "problem", error.message, error.hint or "")
    text = f"{place}: a node is at work there, and answers C-ECHO in {seconds * 1000:.0f} ms"
    return DoctorFinding("access", "port", "ok", text)


def _title_from(settings: NodeSettings, host: str) -> str:
    """An AE title that may call from this machine, or that of the node itself."""
    allowed: Sequence[Allowed] = ()
    try:
        allowed = settings.allowed
        address = socket.getaddrinfo(host.strip("[]"), None)[0][4][0]
    except (MedsegError, OSError, UnicodeError):
        return settings.aet
    for one in allowed:
        title = settings.aet if one.aet == "*" else one.aet
        if Access((one,)).permits(title, str(address)):
            return title
    return settings.aet
