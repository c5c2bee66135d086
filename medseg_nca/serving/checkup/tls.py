"""The certificate: its key, its dates and the names it is for."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from medseg_nca.errors import MedsegError
from medseg_nca.findings import DoctorFinding
from medseg_nca.serving.checkup.files import examine_mode
from medseg_nca.serving.security.certificate import load_pair

if TYPE_CHECKING:
    from cryptography import x509

# A certificate that ends sooner should have been renewed; usual ones last 90 days or more.
_SOON_DAYS = 21


def examine_tls(
    cert: Path | None, key: Path | None, host: str, renew: str
) -> Iterator[DoctorFinding]:
    """Examine certificate and key; a server without them has no finding.

    Args:
        cert: certificate chain, PEM.
        key: its key.
        host: address that is listened at.
        renew: how a new certificate is put in the place of the old one.
    """
    if cert is None and key is None:
        return
    if cert is None or key is None:
        text = f"{cert or key} is there, and its {'key' if key is None else 'certificate'} is not"
        yield DoctorFinding("tls", "pair", "problem", text, "Give --tls-cert and --tls-key.")
        return
    try:
        load_pair(cert, key)
    except MedsegError as error:
        yield DoctorFinding("tls", "pair", "problem", error.message, error.hint or "")
        return
    yield DoctorFinding("tls", "pair", "ok", f"{cert} and its key belong together")
    yield from examine_mode("tls", "key file", key)
    from cryptography.x509 import load_pem_x509_certificates

    leaf = load_pem_x509_certificates(cert.read_bytes())[0]
    yield examine_dates("dates", leaf, renew)
    yield _names(leaf, host)


def examine_dates(name: str, one: x509.Certificate, renew: str) -> DoctorFinding:
    """Compare the dates of a certificate with the clock.

    Args:
        name: of the finding.
        one: the certificate.
        renew: what to do when it ends.
    """
    now, begin, end = datetime.now(UTC), one.not_valid_before_utc, one.not_valid_after_utc
    left = (end - now).days
    text = f"from {begin:%Y-%m-%d} to {end:%Y-%m-%d}, {left} days left"
    if now < begin:
        advice = "Wait, or mend the clock of this machine or the certificate."
        return DoctorFinding("tls", name, "problem", f"not valid yet: {text}", advice)
    if now >= end:
        return DoctorFinding("tls", name, "problem", f"expired: {text}", renew)
    return DoctorFinding("tls", name, *(("note", text, renew) if left < _SOON_DAYS
                                        else ("ok", text, "")))  # fmt: skip


def _names(leaf: x509.Certificate, host: str) -> DoctorFinding:
    """Compare with the address of the server, or with the name of the machine where it is any."""
    from cryptography.x509 import DNSName, ExtensionNotFound, IPAddress, SubjectAlternativeName

    try:
        found = leaf.extensions.get_extension_for_class(SubjectAlternativeName).value
    except ExtensionNotFound:
        advice = "Get one with subjectAltName; browsers do not look at the common name."
        return DoctorFinding("tls", "names", "problem", "the certificate names no host", advice)
    names = [name.lower() for name in found.get_values_for_type(DNSName)]
    addresses = set(found.get_values_for_type(IPAddress))
    shown = ", ".join([*names, *map(str, addresses)])
    wanted = socket.getfqdn() if host.strip("[]") in ("0.0.0.0", "::") else host.strip("[]")
    try:
        known = ipaddress.ip_address(wanted) in addresses
    except ValueError:
        known = any(_fits(name, wanted.lower()) for name in names)
    if known:
        return DoctorFinding("tls", "names", "ok", f"for {shown}")
    advice = f"Clients have to use one of these names; {wanted} they refuse."
    return DoctorFinding("tls", "names", "note", f"for {shown}, not for {wanted}", advice)


def _fits(pattern: str, name: str) -> bool:
    """Whether a name of a certificate is that of a host: * stands for one label (RFC 6125)."""
    if pattern.startswith("*."):
        return name.partition(".")[2] == pattern[2:]
    return name == pattern
