"""The certificate of a server, which may be renewed while it runs."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

from medseg_nca.errors import ConfigError

logger = logging.getLogger(__name__)

# 1.0 and 1.1 are broken (RFC 8996).
OLDEST_TLS = ssl.TLSVersion.TLSv1_2


def load_pair(cert: Path, key: Path | None) -> ssl.SSLContext:
    """Read a certificate chain and its key.

    Raises:
        ConfigError: if they are none, or do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = OLDEST_TLS
    try:
        context.load_cert_chain(cert, key, password=lambda: b"")
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(
            f"--tls-cert {cert}, --tls-key {key}: cannot be used "
            f"({error.strerror or type(error).__name__}).",
            hint="Give a certificate chain and its key as PEM, the key without a password.",
        ) from error
    return context


class Certificate:
    """Offers the certificate that the files hold now; all methods are for the event loop.

    Args:
        cert: certificate chain, PEM.
        key: its key, PEM.

    Raises:
        ConfigError: as :func:`load_pair`.
    """

    def __init__(self, cert: Path, key: Path) -> None:
        self._cert, self._key = cert, key
        self._stamp = self._look()
        self._current = load_pair(cert, key)

    def serve_from(self, context: ssl.SSLContext) -> None:
        """Have the connections of a context use the newest certificate, and TLS 1.2 at least."""
        context.minimum_version = OLDEST_TLS
        context.sni_callback = self._choose

    def renew(self) -> None:
        """Take a certificate that was put in place of the old one.

        A pair that is not whole yet, or is none, changes nothing but is told once.
        """
        stamp = self._look()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._current = load_pair(self._cert, self._key)
        except ConfigError as error:
            logger.error("The old certificate stays: %s", error)
        else:
            logger.info("The certificate was renewed.")

    def _choose(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        """Called for each connection, whether its client names a host or not."""
        connection.context = self._current

    def _look(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(map(_stamp_of, (self._cert, self._key)))


def _stamp_of(path: Path) -> tuple[int, int, int] | None:
    try:
        state = path.stat()
    except OSError:  # between two steps of a renewal
        return None
    return state.st_mtime_ns, state.st_ino, state.st_size
