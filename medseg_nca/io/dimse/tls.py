"""DICOM over TLS (PS3.15 B.12: the profile of BCP 195)."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from medseg_nca.errors import ConfigError

# What RFC 9325 4.2 recommends for TLS 1.2; those of TLS 1.3 are all good.
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
_PEM = "Give files of PEM that this user can read; the key must have no password."


@dataclass(frozen=True)
class DimseTls:
    """Who is trusted, and how this side shows who it is.

    Attributes:
        ca: certificates that those of others are checked against; without it, those that this
            machine trusts, and a server asks callers for no certificate.
        cert: certificate of this side, with those between it and its authority.
        key: its key; None if it is in ``cert``.
    """

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    def client_context(self) -> ssl.SSLContext:
        """For associations that this side opens; the host's name is checked.

        Raises:
            ConfigError: if a file cannot be used.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self.ca is None:
            context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        self._prepare(context)
        return context

    def server_context(self) -> ssl.SSLContext:
        """For associations that others open; with ``ca``, callers must show a certificate of it.

        Raises:
            ConfigError: if a file cannot be used, or there is no certificate.
        """
        if self.cert is None:
            raise ConfigError(
                "A DICOM node that others reach over TLS needs a certificate.", hint=_PEM
            )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._prepare(context)
        if self.ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def _prepare(self, context: ssl.SSLContext) -> None:
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(_CIPHERS)
        if self.ca is not None:
            try:
                context.load_verify_locations(self.ca)
            except OSError as error:  # ssl.SSLError is one
                raise _unusable(f"{self.ca}: holds no certificates", error) from error
        if self.cert is not None:
            try:
                # An empty password, so that no prompt waits for one.
                context.load_cert_chain(self.cert, self.key, password=lambda: b"")
            except OSError as error:
                files = " and ".join(str(path) for path in (self.cert, self.key) if path)
                raise _unusable(f"{files}: hold no certificate with its key", error) from error
        elif self.key is not None:
            raise ConfigError(
                f"{self.key}: is a key for TLS without its certificate.",
                hint="Name the certificate too.",
            )


def _unusable(text: str, error: OSError) -> ConfigError:
    reason = getattr(error, "reason", None) or error.strerror or type(error).__name__
    return ConfigError(f"{text} that can be used ({reason}).", hint=_PEM)
