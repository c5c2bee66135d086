"""Certificates for tests, each its own authority."""

from __future__ import annotations

import ipaddress
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_USAGES = {
    "serverAuth": ExtendedKeyUsageOID.SERVER_AUTH,
    "clientAuth": ExtendedKeyUsageOID.CLIENT_AUTH,
}


def write_pair(
    folder: Path, names: tuple[str, ...] = ("127.0.0.1", "localhost"), days: float = 90,
    begins: float = -1, name: str = "medseg test", usages: tuple[str, ...] = (),
) -> tuple[Path, Path]:  # fmt: skip
    """Write ``cert.pem`` and ``key.pem``.

    Args:
        folder: for both.
        names: hosts and addresses that the certificate is for.
        days: from now until it ends.
        begins: days from now until it begins.
        name: of the subject.
        usages: "serverAuth", "clientAuth"; everything if there are none.
    """
    folder.mkdir(parents=True, exist_ok=True)
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=begins))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([_name(text) for text in names]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
    )
    if usages:
        ids = [_USAGES[usage] for usage in usages]
        builder = builder.add_extension(x509.ExtendedKeyUsage(ids), False)
    certificate = builder.sign(key, hashes.SHA256())
    cert, secret = folder / "cert.pem", folder / "key.pem"
    _replace(cert, certificate.public_bytes(serialization.Encoding.PEM))
    _replace(secret, key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ))  # fmt: skip
    return cert, secret


def _name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_suffix(".new")
    temporary.touch(0o600)
    temporary.write_bytes(content)
    os.replace(temporary, path)
