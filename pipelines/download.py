"""Download one file, and go on where an earlier attempt broke off (RFC 9110, range requests)."""

from __future__ import annotations

import http.client
import logging
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from medseg_nca.errors import DownloadError, OutputError
from medseg_nca.job import Job

CHUNK = 2**18
TIMEOUT = 30.0  # seconds without an answer
WAITS = (1.0, 3.0, 10.0)  # seconds before another attempt
SCHEMES = ("http", "https")
RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)")

log = logging.getLogger(__name__)


class _Response(Protocol):
    """What of an HTTP answer is used."""

    status: int
    headers: Any

    def read(self, amount: int, /) -> bytes: ...


class _BrokeOffError(Exception):
    """The connection ended before the file did; another attempt may go on."""


def download(url: str, path: Path, job: Job | None = None, waits: Sequence[float] = WAITS) -> None:
    """Write what ``url`` holds to ``path``.

    Until it is complete it is called ``<path>.part``; a later call goes on with that file.

    Args:
        url: http or https.
        path: the file to make.
        job: told how far it is, under the phase "downloading", in bytes.
        waits: seconds before each further attempt after a connection broke off.

    Raises:
        DownloadError: if there is no network, the server refuses or the connection keeps breaking.
        OutputError: if the file cannot be written.
        Interrupted: if the job was cancelled; a later call goes on.
    """
    if urlsplit(url).scheme not in SCHEMES or not urlsplit(url).hostname:
        raise DownloadError(f"{url}: is not an http or https address.")
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for wait in (*waits, None):
            try:
                _attempt(url, part, job or Job())
                break
            except _BrokeOffError as error:
                if wait is None:
                    raise _given_up(url, str(error), part) from error
                log.warning("The download broke off (%s); going on in %g s.", error, wait)
                time.sleep(wait)
        part.replace(path)
    except OSError as error:
        raise OutputError(
            f"{part}: cannot be written ({error.strerror or error}).",
            hint="Free some space or choose another folder; the download goes on where it stopped.",
        ) from error


def _attempt(url: str, part: Path, job: Job) -> None:
    """Ask for what is missing and append it."""
    start = part.stat().st_size if part.is_file() else 0
    headers = {"Accept-Encoding": "identity", "User-Agent": "medseg-nca"}
    if start:
        headers["Range"] = f"bytes={start}-"
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            _receive(response, part, start, job)
    except urllib.error.HTTPError as error:
        with error:
            _refused(error, url, part, start)
    except (TimeoutError, ConnectionError) as error:
        raise _BrokeOffError(str(error) or type(error).__name__) from error
    except (urllib.error.URLError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise _unreachable(url, str(reason) or type(error).__name__, part) from error


def _receive(response: _Response, part: Path, start: int, job: Job) -> None:
    """Append the answer to ``part``; a server that ignores the range sends all from the start."""
    match = RANGE.fullmatch(response.headers.get("Content-Range", ""))
    resumed = response.status == http.HTTPStatus.PARTIAL_CONTENT and match is not None
    if resumed and match is not None and match[1] != str(start):
        part.unlink()
        raise _BrokeOffError("the server sent another part than the one asked for")
    done = start if resumed else 0
    length = response.headers.get("Content-Length")
    total = done + int(length) if length and length.isdecimal() else None
    _check_room(part, (total or done) - done)
    with part.open("ab" if resumed else "wb") as stream:
        while chunk := _read(response):
            stream.write(chunk)
            done += len(chunk)
            job.report("downloading", done, total, unit="bytes")
    if total is not None and done < total:
        raise _BrokeOffError(f"{done:,} of {total:,} bytes")


def _read(response: _Response) -> bytes:
    try:
        return response.read(CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _BrokeOffError(str(error) or type(error).__name__) from error


def _refused(error: urllib.error.HTTPError, url: str, part: Path, start: int) -> None:
    """An answer that is no file. 416 says that there is nothing after what we have."""
    if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and start:
        match = RANGE.fullmatch(error.headers.get("Content-Range", ""))
        if match is not None and match[2] == str(start):
            return  # it was complete, only its name was not yet changed
        part.unlink()
        raise _BrokeOffError("what is here is longer than the file") from error
    if error.code >= http.HTTPStatus.INTERNAL_SERVER_ERROR:
        raise _BrokeOffError(f"the server says {error.code} {error.reason}") from error
    raise DownloadError(
        f"{url}: the server says {error.code} {error.reason}.",
        hint="Name a mirror or a file with --from.",
    ) from error


def _check_room(part: Path, needed: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if needed > free:
        raise OutputError(
            f"{part.parent}: the download needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are "
            "free.",
            hint="Free some space or choose another folder.",
        )


def _unreachable(url: str, reason: str, part: Path) -> DownloadError:
    kept = f" What is here is kept in {part}." if part.is_file() else ""
    return DownloadError(
        f"{urlsplit(url).hostname} cannot be reached ({reason}).{kept}",
        hint=f"Is this machine offline? Get {url} on another one and name the file with --from.",
    )


def _given_up(url: str, reason: str, part: Path) -> DownloadError:
    return DownloadError(
        f"{url}: the connection keeps breaking off ({reason}).",
        hint=f"Run the same command again: it goes on with {part}.",
    )
