"""Who may send to the node: AE titles, and the addresses from which each may call."""

from __future__ import annotations

import ipaddress
import re
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from medseg_nca.errors import ConfigError

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_ANY = "*"
# AE titles have 1 to 16 printable characters without a backslash (PS3.5 6.2).
_TITLE = re.compile(r"(?! +$)[ -\[\]-~]{1,16}")
_FORM = re.compile(
    r"(?P<title>[^@]*)@(?:\[(?P<six>[0-9a-fA-F:.]+(?:/\d+)?)\]|(?P<host>[^:\[\]]+))"
    r"(?::(?P<port>\d{1,5}))?"
)
_HINT = (
    "Write AET@HOST or AET@HOST:PORT, where HOST is a name, an address or a network, such as "
    "PACS@10.0.0.5:104 or MR1@10.0.3.0/24. A * stands for any title or for any host, not for both."
)
# Seconds for which the addresses of a name are believed.
_RESOLVED = 60.0


@dataclass(frozen=True)
class Allowed:
    """A caller that is let in.

    Attributes:
        aet: its AE title; "*" for any.
        host: a name, an address or a network; "*" for any.
        port: where it listens itself; None if it is not known.
    """

    aet: str
    host: str
    port: int | None = None

    @property
    def network(self) -> _Network | None:
        """The addresses, where the host is no name; all of them where it is "*"."""
        try:
            return ipaddress.ip_network(self.host)
        except ValueError:
            return None

    @property
    def is_one(self) -> bool:
        """Whether the host is one machine, to which a connection can be made."""
        network = self.network
        single = network is None or network.num_addresses == 1
        return self.host != _ANY and single


def parse_allowed(text: str) -> Allowed:
    """Read ``AET@HOST[:PORT]``.

    IPv6 addresses and networks stand in brackets: ``PACS@[fd00::5]:104``.

    Raises:
        ConfigError: if the text has another form, or would let in everybody.
    """
    found = _FORM.fullmatch(text.strip())
    if found is None:
        raise ConfigError(f"allow: {text!r} does not say who may call.", hint=_HINT)
    title, host = found["title"].strip(), found["six"] or found["host"].strip()
    if title == "ANY" or (title != _ANY and not _TITLE.fullmatch(title)):
        raise ConfigError(f"allow: {title!r} is no AE title.", hint=_HINT)
    if title == host == _ANY:
        raise ConfigError(f"allow: {text!r} would let in everybody.", hint=_HINT)
    port = None if found["port"] is None else int(found["port"])
    if port is not None and not 0 < port < 2**16:
        raise ConfigError(f"allow: {port} is no port.", hint="Ports are 1 to 65535.")
    allowed = Allowed(title, host, port)
    if allowed.network is None and host != _ANY and not re.fullmatch(r"[\w.-]{1,253}", host):
        raise ConfigError(f"allow: {host!r} is neither a name nor a network.", hint=_HINT)
    return allowed


class Access:
    """Decides who may call; may be used from several threads.

    Args:
        allowed: whoever fits one of them is let in; nobody if there is none.
    """

    def __init__(self, allowed: Sequence[Allowed]) -> None:
        self.allowed = tuple(allowed)
        self._lock = threading.Lock()
        self._names: dict[str, tuple[float, frozenset[_Address]]] = {}

    def permits(self, aet: str, address: str) -> bool:
        """Whether a caller with this AE title may call from this address."""
        caller = _address(address)
        return any(
            one.aet in (_ANY, aet.strip()) and self._is_at(one, caller) for one in self.allowed
        )

    def address_of(self, aet: str, address: str) -> tuple[str, int] | None:
        """Where a caller listens: host and port; None if nobody has said it.

        Args:
            aet: its AE title.
            address: from which it called.
        """
        caller = _address(address)
        for one in self.allowed:
            if one.port is not None and one.aet in (_ANY, aet.strip()) and self._is_at(one, caller):
                return (one.host if one.is_one else str(caller)), one.port
        return None

    def _is_at(self, one: Allowed, caller: _Address) -> bool:
        if one.host == _ANY:
            return True
        network = one.network
        if network is not None:
            return caller in network
        return caller in self._resolved(one.host)

    def _resolved(self, name: str) -> frozenset[_Address]:
        """The addresses of a name, asked for anew from time to time; none if it has none."""
        now = time.monotonic()
        with self._lock:
            known = self._names.get(name)
        if known is not None and now - known[0] < _RESOLVED:
            return known[1]
        try:
            found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            found = []
        addresses = frozenset(_address(str(entry[4][0])) for entry in found)
        with self._lock:
            self._names[name] = now, addresses
        return addresses


def _address(text: str) -> _Address:
    """An address; IPv4 that is written as IPv6 is IPv4."""
    address = ipaddress.ip_address(text.split("%")[0])
    return getattr(address, "ipv4_mapped", None) or address
