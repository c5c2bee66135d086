"""Where a DICOMweb server is, and how one logs in there.

Credentials come from a file or from the environment, never from an address or a command line,
which other users of a machine, its logs and its history can read.
"""

from __future__ import annotations

import base64
import json
import os
import re
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from medseg_nca.errors import ConfigError

USER = "MEDSEG_NCA_DICOMWEB_USER"
PASSWORD = "MEDSEG_NCA_DICOMWEB_PASSWORD"
TOKEN = "MEDSEG_NCA_DICOMWEB_TOKEN"
_LONGEST_FILE = 2**16
_FORM = '{"username": "...", "password": "..."} or {"token": "..."}'
_HOW = f"Put {_FORM} into a file that you alone can read, or set {USER} and {PASSWORD}, or {TOKEN}."


def is_address(text: str) -> bool:
    """Whether a text is meant as an address, and not as a folder."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text) is not None


@dataclass(frozen=True)
class DicomWebServer:
    """A DICOMweb server.

    Attributes:
        url: the base of its addresses, for example ``https://pacs.example/dicom-web``.
        auth: file with its credentials; without it the environment is asked.
        ca: certificates, PEM, that its certificate is checked against, in the place of those that
            are usually trusted.
        timeout: seconds without a byte after which it is given up.

    Raises:
        ConfigError: if the address cannot be one, or holds credentials.
    """

    url: str
    auth: Path | None = None
    ca: Path | None = None
    timeout: float = 30.0

    def __post_init__(self) -> None:
        """Check and normalise the address."""
        try:
            parts = urlsplit(self.url)
            named = parts.hostname and (parts.port or True)
        except ValueError:
            named = None
        if not named or parts.scheme not in ("http", "https"):
            raise ConfigError(
                "The address of a DICOMweb server begins with https:// or http:// and a host.",
                hint="For example: https://pacs.example/dicom-web",
            )
        if parts.username is not None or parts.password is not None:
            raise ConfigError(
                f"The address of the DICOMweb server {parts.hostname} holds a user or a password, "
                "which others can read there.",
                hint=_HOW,
            )
        if parts.query or parts.fragment:
            raise ConfigError(
                f"The address of the DICOMweb server {parts.hostname} holds ? or #.",
                hint="Give the part before /studies, for example https://pacs.example/dicom-web",
            )
        object.__setattr__(self, "url", self.url.rstrip("/"))

    @property
    def host(self) -> str:
        """Its name or number, without the port."""
        return urlsplit(self.url).hostname or ""

    @property
    def tls(self) -> bool:
        """Whether connections are encrypted, and its certificate is checked."""
        return urlsplit(self.url).scheme == "https"

    def address(self, *parts: str) -> str:
        """The address of a resource; addresses that a server sends are not believed.

        Args:
            *parts: of its path, for example ``"studies", uid``.
        """
        return "/".join((self.url, *(quote(part, safe="") for part in parts)))

    def headers(self) -> dict[str, str]:
        """What logs in, read anew each time: a token in a file may be renewed.

        Raises:
            ConfigError: if the file cannot be read or understood, or a user has no password.
        """
        found = _from_environment() if self.auth is None else _from_file(self.auth)
        return {} if found is None else {"Authorization": found}

    def context(self) -> ssl.SSLContext | bool:
        """What checks its certificate, as httpx takes it.

        Raises:
            ConfigError: if the own certificates cannot be read.
        """
        if self.ca is None:
            return True
        try:
            return ssl.create_default_context(cafile=str(self.ca))
        except OSError as error:  # ssl.SSLError is one
            reason = error.strerror or type(error).__name__
            raise ConfigError(
                f"{self.ca}: holds no certificates that can be used ({reason}).",
                hint="Give the certificate of the authority that signed the server's, as PEM.",
            ) from error


def _from_environment() -> str | None:
    user, password, token = (os.environ.get(name) for name in (USER, PASSWORD, TOKEN))
    return _authorization("The environment", user, password, token)


def _from_file(path: Path) -> str | None:
    try:
        with path.open("rb") as stream:
            tree: Any = json.loads(stream.read(_LONGEST_FILE))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}).", hint=_HOW) from error
    except (ValueError, RecursionError):
        tree = None  # no `from`: the text of that error could show what the file holds
    allowed = {"username", "password", "token"}
    if not isinstance(tree, dict) or not tree or not tree.keys() <= allowed:
        raise ConfigError(f"{path}: is no JSON of the form {_FORM}.", hint=_HOW)
    if not all(isinstance(value, str) for value in tree.values()):
        raise ConfigError(f"{path}: each value is a text.", hint=_HOW)
    return _authorization(str(path), tree.get("username"), tree.get("password"), tree.get("token"))


def _authorization(
    where: str, user: str | None, password: str | None, token: str | None
) -> str | None:
    """The header of RFC 7617 (basic) or RFC 6750 (bearer); None where nothing is given."""
    if token and (user or password):
        raise ConfigError(f"{where}: names a token and a user; one of them logs in.", hint=_HOW)
    if bool(user) != bool(password):
        lacking = "password" if user else "user"
        raise ConfigError(f"{where}: names no {lacking} for the DICOMweb server.", hint=_HOW)
    if token:
        if not token.isascii() or not token.isprintable() or " " in token:
            raise ConfigError(f"{where}: its token cannot be one.", hint=_HOW)
        return f"Bearer {token}"
    if not user:
        return None
    if ":" in user:
        raise ConfigError(f"{where}: a user's name holds no colon.", hint=_HOW)
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode("ascii")
