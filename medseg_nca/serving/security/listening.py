"""Where a server may listen."""

from __future__ import annotations

import ipaddress
import socket

from medseg_nca.errors import ConfigError
from medseg_nca.serving.security.certificate import load_pair
from medseg_nca.serving.settings import ServeSettings


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_listening(settings: ServeSettings, users: int) -> None:
    """Refuse to be open to a network without users and TLS, unless that is said.

    Args:
        settings: of the server.
        users: how many there are.

    Raises:
        ConfigError: with what is missing.
    """
    if settings.users is not None and not users:
        raise ConfigError(
            f"--users {settings.users}: has no user, so nobody could log in.",
            hint=f"medseg-nca user add NAME --users {settings.users}",
        )
    if is_loopback(settings.host) or settings.insecure:
        return
    missing = [
        name
        for name, there in (
            ("users (--users)", users > 0),
            ("TLS (--tls-cert, --tls-key)", settings.tls),
        )
        if not there
    ]
    if missing:
        raise ConfigError(
            f"--host {settings.host}: a server that other machines reach needs "
            f"{' and '.join(missing)}.",
            hint="Give them, listen on 127.0.0.1, or say --insecure behind a proxy that does both.",
        )


def check_pacs(settings: ServeSettings) -> None:
    """Refuse to send credentials and images through a network as plain text, unless that is said.

    Raises:
        ConfigError: with what to do, or if the credentials cannot be used.
    """
    pacs = settings.pacs
    if pacs is None:
        return
    pacs.headers()
    if not (pacs.tls or is_loopback(pacs.host) or settings.dicomweb_insecure):
        raise ConfigError(
            f"--studies {pacs.url}: on the way to another machine everybody can read passwords and "
            "images without TLS.",
            hint="Give its https:// address, or say --dicomweb-insecure in a network you trust.",
        )


def check_certificate(settings: ServeSettings) -> None:
    """Find out whether TLS can be offered, before anything is started.

    Raises:
        ConfigError: if the certificate and its key are none, or do not belong together.
    """
    if settings.tls_cert is None:
        return
    load_pair(settings.tls_cert, settings.tls_key)


def trusted(settings: ServeSettings) -> list[str]:
    """The proxies that are believed, as uvicorn takes them.

    A socket for IPv6 that also takes IPv4 sees 10.0.0.2 as ::ffff:10.0.0.2.
    """
    found = []
    for text in settings.trust_proxy:
        network = ipaddress.ip_network(text)
        found.append(str(network))
        if network.version == 4:
            found.append(f"::ffff:{network.network_address}/{96 + network.prefixlen}")
    return found


def bind(host: str, port: int) -> socket.socket:
    """Listen where a server is to listen; connections wait until it takes them.

    Raises:
        ConfigError: if the address or the port cannot be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    place = socket.socket(family, socket.SOCK_STREAM)
    try:
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        place.bind((host.strip("[]"), port))
        place.listen(128)  # from here on connections wait, even before the models are loaded
    except OSError as error:
        place.close()
        raise ConfigError(
            f"--host {host} --port {port}: cannot be used ({error.strerror}).",
            hint="Choose another port: --port 0 takes any that is free.",
        ) from error
    return place
