"""The certificates of a node, which both takes and opens associations with them."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from medseg_nca.errors import MedsegError
from medseg_nca.findings import DoctorFinding
from medseg_nca.io.dimse.tls import DimseTls
from medseg_nca.serving.checkup.tls import examine_dates, examine_tls
from medseg_nca.serving.node.settings import NodeSettings
from medseg_nca.serving.security.listening import is_loopback

if TYPE_CHECKING:
    from cryptography import x509

_RENEW = "Renew it and start the node again, which reads it at its start."


class UncheckedTls(DimseTls):
    """For a node on this machine, by an address that its certificate need not be for."""

    @classmethod
    def of(cls, settings: NodeSettings) -> UncheckedTls | None:
        """With the certificate of the node itself; None if it does not use TLS."""
        if settings.tls_cert is None:
            return None
        return cls(settings.tls_ca, settings.tls_cert, settings.tls_key)

    def client_context(self) -> ssl.SSLContext:
        """As that of the node, but for the check of who answers: nothing secret is sent."""
        context = super().client_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context


def examine_node_tls(settings: NodeSettings) -> Iterator[DoctorFinding]:
    """Examine certificate, key and authority; without them, whether other machines are reached."""
    cert, ca = settings.tls_cert, settings.tls_ca
    if cert is None and settings.tls_key is None:
        yield from _without(settings)
        return
    found = list(examine_tls(cert, settings.tls_key, settings.host, _RENEW))
    yield from found
    if cert is not None and all(one.level != "problem" for one in found):
        yield from _usage(cert)
    if ca is None:
        advice = "Give --tls-ca with the authority of the peers' certificates."
        text = "none: callers need no certificate, and peers one that this machine trusts"
        yield DoctorFinding("tls", "authority", "note", text, advice)
        return
    try:
        DimseTls(ca=ca).client_context()
    except MedsegError as error:
        yield DoctorFinding("tls", "authority", "problem", error.message, error.hint or "")
        return
    yield from _authorities(ca)


def _without(settings: NodeSettings) -> Iterator[DoctorFinding]:
    if settings.tls_ca is not None:
        text = "an authority is named, but no certificate of the node, and so TLS is off"
        advice = "Give --tls-cert and --tls-key, too."
        yield DoctorFinding("tls", "pair", "problem", text, advice)
    elif not is_loopback(settings.host):
        text = "off: images and names cross the network as plain text"
        advice = "In a network that others use give --tls-cert, --tls-key and --tls-ca."
        yield DoctorFinding("tls", "pair", "note", text, advice)


def _usage(cert: Path) -> Iterator[DoctorFinding]:
    """The node shows one certificate as the side that is called, and as the one that calls."""
    from cryptography.x509 import ExtendedKeyUsage, ExtensionNotFound, load_pem_x509_certificates
    from cryptography.x509.oid import ExtendedKeyUsageOID as Usage

    leaf = load_pem_x509_certificates(cert.read_bytes())[0]
    try:
        usages = leaf.extensions.get_extension_for_class(ExtendedKeyUsage).value
    except ExtensionNotFound:  # then it is for everything (RFC 5280 4.2.1.12)
        return
    wanted = {"serverAuth": Usage.SERVER_AUTH, "clientAuth": Usage.CLIENT_AUTH}
    missing = [name for name, usage in wanted.items() if usage not in usages]
    if missing:
        text = f"{cert} is not for {' and '.join(missing)}"
        advice = "Get one with both usages: the node shows it to callers and to destinations."
        yield DoctorFinding("tls", "usage", "problem", text, advice)


def _authorities(ca: Path) -> Iterator[DoctorFinding]:
    from cryptography.x509 import load_pem_x509_certificates

    found: list[x509.Certificate] = load_pem_x509_certificates(ca.read_bytes())
    first = min(found, key=lambda one: one.not_valid_after_utc)
    yield examine_dates(
        "authority", first, f"Put its successor into {ca}, and start the node again."
    )
