"""Requests to a DICOMweb server: one log-in, one place where its faults become our errors."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from medseg_nca.errors import DependencyError
from medseg_nca.io.dicomweb.errors import DicomWebError, Trouble
from medseg_nca.io.dicomweb.server import DicomWebServer

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")
# Seconds to wait for a connection; a machine that is there answers sooner.
_CONNECT = 10.0
# Connections at a time; more wait.
_CONNECTIONS = 16
# Tries of a request that changes nothing or the same, and seconds before the second one.
_TRIES, _PAUSE = 3, 0.3
_TROUBLES: dict[int, tuple[Trouble, str]] = {
    401: ("unauthorised", "refuses the credentials"),
    403: ("unauthorised", "does not allow this to these credentials"),
    404: ("missing", "has no such resource"),
    410: ("missing", "has no such resource any more"),
    408: ("slow", "took too long"),
    413: ("too-large", "takes no object of that size"),
    429: ("busy", "is busy"),
    500: ("faulty", "has a fault"),
    502: ("unreachable", "cannot be reached behind its gateway"),
    503: ("busy", "is busy or stopping"),
    504: ("slow", "took too long behind its gateway"),
}
_HINTS: dict[Trouble, str] = {
    "unreachable": "Is it running, and is its address right?",
    "slow": "Ask again later, or allow more time.",
    "busy": "Ask again later.",
    "faulty": "Look into its log.",
    "unauthorised": "Mend its user and password, or its token.",
    "missing": "Is it stored there, and is the address that of DICOMweb?",
    "incomplete": "Is it still receiving the series, or may these credentials see a part of it?",
    "wrong": "Is the address that of DICOMweb, the part before /studies?",
}


def trouble_of(status: int) -> Trouble:
    """Return what a status of HTTP that is no success says of the server."""
    return _TROUBLES[status][0] if status in _TROUBLES else "wrong"


class DicomWebConnection:
    """Connections to one server, kept between requests; may be used from several threads.

    Proxies and passwords of the environment (``HTTPS_PROXY``, ``.netrc``) are not looked at, and no
    redirection is followed: credentials and images go to the address that was named.

    Args:
        server: where it is.

    Raises:
        DependencyError: if httpx is not installed.
        ConfigError: if its certificates cannot be read.
    """

    def __init__(self, server: DicomWebServer) -> None:
        try:
            import httpx
        except ImportError as error:
            raise DependencyError(
                "DICOMweb needs the package httpx, which is not installed.",
                hint="pip install 'medseg-nca[serve]'",
            ) from error
        self.server = server
        self._httpx = httpx
        timeout = httpx.Timeout(server.timeout, connect=min(_CONNECT, server.timeout))
        self._client = httpx.Client(
            verify=server.context(), timeout=timeout, trust_env=False, follow_redirects=False,
            limits=httpx.Limits(max_connections=_CONNECTIONS),
        )  # fmt: skip

    def close(self) -> None:
        """End all connections."""
        self._client.close()

    @contextmanager
    def open(
        self, method: str, address: str, *, headers: Mapping[str, str],
        params: Mapping[str, str | int] | None = None, content: Iterator[bytes] | None = None,
        also: tuple[int, ...] = (),
    ) -> Iterator[httpx.Response]:  # fmt: skip
        """Ask; the body of the answer is not read yet.

        Args:
            method: of HTTP.
            address: of a resource of the server.
            headers: besides those that log in.
            params: of the query.
            content: the body.
            also: statuses besides 200 to 299 whose answer is wanted.

        Raises:
            DicomWebError: if there is no such answer, or it breaks off while it is read.
            ConfigError: if the credentials cannot be read.
        """
        # A packed answer could inflate beyond any bound that is checked on the way.
        asked = {"Accept-Encoding": "identity", **headers, **self.server.headers()}
        httpx = self._httpx
        try:
            with self._client.stream(
                method, address, headers=asked, params=params, content=content
            ) as answer:
                if not (answer.is_success or answer.status_code in also):
                    raise self._refused(answer.status_code)
                if answer.headers.get("content-encoding", "identity").lower() != "identity":
                    raise self.error("wrong", "packs its answers, which it was asked not to")
                yield answer
        except httpx.TimeoutException as error:
            text = f"did not answer within {self.server.timeout:g} s"
            if isinstance(error, httpx.ConnectTimeout):
                raise self.error("unreachable", "cannot be reached") from error
            raise self.error("slow", text) from error
        except httpx.TransportError as error:
            raise self.error("unreachable", _reason(error)) from error
        except httpx.InvalidURL as error:
            raise self.error("wrong", "has an address that cannot be one") from error

    def read(self, answer: httpx.Response, most: int, seconds: float) -> Iterator[bytes]:
        """The body of an answer in pieces.

        Args:
            answer: that is open.
            most: bytes that are taken.
            seconds: that it may take as a whole.

        Raises:
            DicomWebError: if it is larger or takes longer.
        """
        size, end = 0, time.monotonic() + seconds
        for piece in answer.iter_raw():
            size += len(piece)
            if size > most:
                raise self.error("too-large", f"sends more than {most:,} bytes")
            if time.monotonic() > end:
                raise self.error("slow", f"did not send all of it within {seconds:g} s")
            yield piece

    def read_json(self, answer: httpx.Response, most: int, seconds: float) -> Any:
        """The body of an answer as JSON; None for an empty one.

        Raises:
            DicomWebError: as :meth:`read`, or if it is none.
        """
        body = b"".join(self.read(answer, most, seconds))
        try:
            return json.loads(body) if body.strip() else None
        except (ValueError, RecursionError) as error:
            raise self.error("wrong", "answers with what is no DICOM JSON") from error

    def retried(self, work: Callable[[], T]) -> T:
        """Do what may be done again, a few times where no connection comes about or it breaks.

        Raises:
            DicomWebError: that of the last time.
        """
        for number in range(_TRIES - 1):
            try:
                return work()
            except DicomWebError as error:
                if error.trouble not in ("unreachable", "busy"):
                    raise
                time.sleep(_PAUSE * 2**number)
        return work()

    def error(self, trouble: Trouble, text: str) -> DicomWebError:
        """An error that names the server."""
        message = f"The DICOMweb server {self.server.url} {text}."
        return DicomWebError(trouble, message, hint=_HINTS.get(trouble))

    def _refused(self, status: int) -> DicomWebError:
        if 300 <= status < 400:
            return self.error("wrong", f"sends elsewhere (HTTP {status}), which is not followed")
        trouble, text = _TROUBLES.get(status, ("wrong", "could not do this"))
        return self.error(trouble, f"{text} (HTTP {status})")


def _reason(error: Exception) -> str:
    """Why no answer came, without what a server sent."""
    text = str(error)
    if "CERTIFICATE" in text.upper():
        return "has a certificate that is not trusted; an own authority can be named"
    if "Connect" in type(error).__name__:
        return "cannot be reached"
    return f"ended the connection ({type(error).__name__})"
