"""The connection to a DICOMweb server: our login, limits of time and size, and its faults."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping

import httpx

from medseg_nca.errors import ConfigError
from medseg_nca.io.dicomweb.connection import trouble_of
from medseg_nca.io.dicomweb.errors import DicomWebError, Trouble
from medseg_nca.io.dicomweb.server import DicomWebServer
from medseg_nca.serving.errors import Refused

logger = logging.getLogger(__name__)

# Seconds to wait for a connection; a machine that is there answers sooner.
_CONNECT = 10.0
# Connections at a time; browsers ask for many frames at once, and the rest wait.
_CONNECTIONS = 16
_BLOCK = 2**16
# What of a request goes on: neither its login nor its cookies, nor what is of one connection only.
_FORWARDED = ("accept", "content-type")
# What of an answer goes back.
_RETURNED = ("content-type",)
# Statuses that say what is wrong with the request and not with the server.
_PASSED_ON = {
    400: "The DICOMweb server of the images does not understand this request.",
    404: "The DICOMweb server of the images has no such resource.",
    406: "The DICOMweb server of the images cannot send this in the format that is asked for.",
    409: "The DICOMweb server of the images took none of the instances.",
    413: "The DICOMweb server of the images takes no object of that size.",
    415: "The DICOMweb server of the images does not take this format.",
}


class Upstream:
    """Requests to one DICOMweb server, passed on while they come; of one event loop.

    It stands beside :class:`medseg_nca.io.dicomweb.client.DicomWebClient`, which fetches whole
    series in threads. No redirection is followed and no proxy of the environment used: our login
    goes to the address that was named, and nowhere else.

    Args:
        server: where it is, and how one logs in there.
        most: bytes that one answer may have.

    Raises:
        ConfigError: if the certificates for it cannot be read.
    """

    def __init__(self, server: DicomWebServer, most: int) -> None:
        self._server, self._most = server, most
        connect = min(_CONNECT, server.timeout)
        self._client = httpx.AsyncClient(
            verify=server.context(),
            timeout=httpx.Timeout(server.timeout, connect=connect),
            limits=httpx.Limits(max_connections=_CONNECTIONS),
            follow_redirects=False,
            trust_env=False,
        )

    async def ask(
        self,
        method: str,
        resource: str,
        query: str,
        headers: Mapping[str, str],
        body: AsyncIterator[bytes] | None = None,
    ) -> UpstreamAnswer:
        """Send a request and wait for the head of its answer.

        Args:
            method: of HTTP.
            resource: relative to the root, checked before.
            query: of the address, or "".
            headers: of the client, in small letters; two of them go on.
            body: of a request that stores.

        Raises:
            Refused: if the server says what is wrong with the request, or all connections are busy.
            DicomWebError: if it cannot be reached, is too slow, does not take our login (or that
                cannot be read), or packs its answer.
        """
        sent = {name: headers[name] for name in _FORWARDED if name in headers}
        if not all(value.isascii() for value in sent.values()):
            raise Refused(400, f"{' and '.join(_FORWARDED)} hold letters of ASCII only.")
        # A packed answer could inflate beyond any bound, and its addresses could not be replaced.
        ours = {"accept-encoding": "identity", **self._login()}
        request = self._client.build_request(
            method, httpx.URL(f"{self._server.url}/{resource}", query=query.encode() or None),
            headers={**sent, **ours}, content=body,
        )  # fmt: skip
        try:
            answer = await self._client.send(request, stream=True)
        except httpx.PoolTimeout:
            raise Refused(503, "Too many images are being fetched.", retry_after=5) from None
        except httpx.ConnectTimeout as error:
            raise self._trouble("unreachable", error) from error
        except httpx.TimeoutException as error:
            raise self._trouble("slow", error) from error
        except httpx.TransportError as error:
            raise self._trouble("unreachable", error) from error
        if not answer.is_success:
            await answer.aclose()
            if answer.status_code in _PASSED_ON:
                raise Refused(answer.status_code, _PASSED_ON[answer.status_code])
            raise self._trouble(trouble_of(answer.status_code), answer.status_code)
        if answer.headers.get("content-encoding", "identity").lower() != "identity":
            await answer.aclose()
            raise self._trouble("wrong", "it packs its answers, which it was asked not to")
        return UpstreamAnswer(answer, self._most)

    async def close(self) -> None:
        """End all connections."""
        await self._client.aclose()

    def _login(self) -> dict[str, str]:
        try:
            return self._server.headers()
        except ConfigError as error:  # no fault of the client; the text names the file
            logger.warning("%s", error)
            raise self._trouble("unauthorised", "its credentials cannot be used") from error

    def _trouble(self, trouble: Trouble, why: Exception | int | str) -> DicomWebError:
        """An error for the client, and a line for the log, which holds no address of a request."""
        reason = type(why).__name__ if isinstance(why, Exception) else why
        if isinstance(why, int):
            reason = f"HTTP {why}"
        message = f"The DICOMweb server {self._server.url} did not do its part ({reason})."
        logger.warning("%s", message)
        return DicomWebError(trouble, message)


class UpstreamAnswer:
    """An answer whose body still has to come.

    Args:
        answer: of the DICOMweb server.
        most: bytes that it may have.
    """

    def __init__(self, answer: httpx.Response, most: int) -> None:
        self._answer, self._most = answer, most
        self.status = answer.status_code
        self.headers = {name: answer.headers[name] for name in _RETURNED if name in answer.headers}

    async def blocks(self) -> AsyncIterator[bytes]:
        """The body.

        Raises:
            httpx.TransportError: if it breaks off; the client's answer then breaks off too.
            Refused: if it is too large.
        """
        size = 0
        async for block in self._answer.aiter_raw(_BLOCK):
            size += len(block)
            if size > self._most:
                raise Refused(502, "The answer of the DICOMweb server is too large.")
            yield block

    async def close(self) -> None:
        """Want no more of it; also in a task that is being cancelled."""
        await asyncio.shield(self._answer.aclose())
