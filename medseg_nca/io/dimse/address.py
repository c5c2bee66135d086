"""Where a DICOM application is: ``AET@HOST:PORT``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from medseg_nca.errors import ConfigError

# The AE title is all before the last @; no host holds one. Addresses of IPv6 stand in brackets.
_ADDRESS = re.compile(
    r"(?P<aet>.*)@(?:\[(?P<v6>[0-9A-Fa-f:.%\w]+)\]|(?P<host>[^\s:\[\]]+))(?::(?P<port>[0-9]{1,5}))?"
)
# Printable characters of ASCII without the backslash (VR AE, PS3.5 6.2).
_AET = re.compile(r"[ -\[\]-~]{1,16}")


@dataclass(frozen=True)
class DimseAddress:
    """A DICOM application on the network.

    Attributes:
        aet: its AE title, without blanks at its ends, which mean nothing (PS3.5 6.2).
        host: its name or number; one of IPv6 without brackets.
        port: of TCP.
    """

    aet: str
    host: str
    port: int

    def __str__(self) -> str:
        """As :func:`parse_address` takes it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.aet}@{host}:{self.port}"


def check_aet(text: str) -> str:
    """Return an AE title without blanks at its ends.

    Raises:
        ConfigError: if it can be none (PS3.5 6.2).
    """
    aet = text.strip(" ")
    if _AET.fullmatch(aet) is None:
        raise ConfigError(
            f"{text!r} cannot be an AE title.",
            hint="An AE title has 1 to 16 printable characters of ASCII, none of them a backslash, "
            "and not only blanks.",
        )
    return aet


def parse_address(text: str, default_port: int | None = None) -> DimseAddress:
    """Read the address of a DICOM application.

    Args:
        text: ``AET@HOST:PORT``; a host that is a number of IPv6 stands in brackets.
        default_port: used where the text names none.

    Raises:
        ConfigError: if it is no address.
    """
    match = _ADDRESS.fullmatch(text.strip())
    port = int(match["port"] or default_port or 0) if match else 0
    if match is None or not 0 < port < 2**16:
        raise ConfigError(
            f"{text!r} is no address of a DICOM application.",
            hint="Write AET@HOST:PORT with a port from 1 to 65535, for example "
            "ORTHANC@pacs.example:4242 or ORTHANC@[::1]:4242.",
        )
    return DimseAddress(check_aet(match["aet"]), match["v6"] or match["host"], port)
