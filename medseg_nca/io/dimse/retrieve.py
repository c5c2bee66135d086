"""Fetch series from an archive by C-GET, or by C-MOVE to a port of our own (PS3.4 C.4.2, C.4.3)."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from medseg_nca.errors import ConfigError
from medseg_nca.io.dicom.query import SeriesQuery
from medseg_nca.io.dicom.remote import (
    Arrived,
    Fault,
    FetchLimits,
    RemoteSeries,
    fault_of,
    look_at,
)
from medseg_nca.io.dimse.address import DimseAddress, check_aet
from medseg_nca.io.dimse.association import opened, prepare_pynetdicom
from medseg_nca.io.dimse.awaited_series import AwaitedSeries
from medseg_nca.io.dimse.contexts import (
    GET,
    MOVE,
    find_contexts,
    get_contexts,
    store_contexts,
)
from medseg_nca.io.dimse.errors import DimseError
from medseg_nca.io.dimse.faults import why_broken
from medseg_nca.io.dimse.link import Link
from medseg_nca.io.dimse.search import RemoteInstance, Search
from medseg_nca.io.dimse.status import refusal_of
from medseg_nca.io.dimse.tls import DimseTls

if TYPE_CHECKING:
    from pydicom.dataset import Dataset
    from pynetdicom.association import Association

Method = Literal["auto", "get", "move"]
# Seconds between two looks at what has arrived.
_LOOK = 0.1
_WARNING = 0xB000  # some sub-operations failed
_HOW_TO_MOVE = "Give --move-port, and register it at the archive for the AE title of --calling."


class _Line(NamedTuple):
    """An association, and what makes the error of a request that got no answer on it."""

    association: Association
    broken: Callable[[str], DimseError]


class DimseArchive:
    """An archive to search by C-FIND and to fetch from; for one thread.

    Args:
        address: of the archive.
        calling_aet: AE title of this side.
        method: ``auto`` takes C-MOVE where the archive offers no C-GET and there is a port.
        move_port: where objects are received by C-MOVE; 0 takes any that is free. It is open while
            a series is fetched, on the address that the archive is reached from.
        tls: certificates; None speaks without TLS.
        timeout: seconds without an answer or a byte after which the archive is given up.

    Raises:
        ConfigError: if C-MOVE is wanted without a port, or the AE title can be none.
        DependencyError: if pynetdicom is not installed.
    """

    def __init__(
        self, address: DimseAddress, calling_aet: str, *, method: Method = "auto",
        move_port: int | None = None, tls: DimseTls | None = None, timeout: float = 30.0,
    ) -> None:  # fmt: skip
        if method == "move" and move_port is None:
            raise ConfigError("C-MOVE needs a port to receive at.", hint=_HOW_TO_MOVE)
        prepare_pynetdicom()
        self._address, self._calling, self._method = address, check_aet(calling_aet), method
        self._port, self._tls, self._timeout = move_port, tls, timeout

    @property
    def name(self) -> str:
        """Its address."""
        return str(self._address)

    def close(self) -> None:
        """Nothing is open between two calls."""

    def search(self, query: SeriesQuery) -> tuple[RemoteSeries, ...]:
        """The series that a query finds, of any modality.

        Raises:
            DimseError: if the archive cannot be asked, or finds more than 10,000.
        """
        with self._searching() as search:
            return search.series(query)

    def fetch(
        self, series: RemoteSeries, folder: Path, limits: FetchLimits, arrived: Arrived
    ) -> tuple[Path, ...]:
        """Bring the instances of a series into an empty folder, in the syntax that they come in.

        Args:
            series: that the archive has.
            folder: for the files; their names say nothing of the patient.
            limits: what is taken.
            arrived: told how many instances there are, a few times a second.

        Raises:
            DimseError: if it cannot be fetched, is larger than allowed, or is less than the archive
                says the series has.
            OSError: if it cannot be written.
        """
        with self._searching() as search:
            instances = search.instances(series)
        if len(instances) > (series.instances or 0):
            series = replace(series, instances=len(instances))
        incoming = AwaitedSeries(series, folder, limits, self._timeout, self.name)
        failed = self._bring(series, instances, incoming, arrived)
        fault = fault_of(series, map(look_at, incoming.paths))
        if fault is None and failed and not series.instances:
            fault = Fault("incomplete", f"sends {len(incoming.paths)} instances")
        if fault is None:
            return tuple(incoming.paths)
        trouble, text = fault
        if incoming.strange:
            trouble, text = "wrong", "sends instances of another series"
        elif failed:
            trouble, text = "incomplete", f"{text}; it could not send {failed} of them"
        raise DimseError(trouble, f"{self.name}: {text}.", hint="Look into its log.")

    def _bring(
        self, series: RemoteSeries, instances: Iterable[RemoteInstance], incoming: AwaitedSeries,
        arrived: Arrived,
    ) -> int:  # fmt: skip
        """Let the archive send; how many instances it says it could not."""
        if self._method != "move":
            try:
                classes = {one.sop_class for one in instances}
                return self._get(series, classes, incoming, arrived)
            except DimseError as error:
                if error.trouble != "unsupported" or self._method == "get":
                    raise
                if self._port is None:
                    raise DimseError("unsupported", error.message, hint=_HOW_TO_MOVE) from error
                self._method = "move"
        return self._move(series, incoming, arrived)

    @contextmanager
    def _searching(self) -> Iterator[Search]:
        with self._opened(find_contexts()) as line:
            yield Search(line.association, self.name, line.broken)

    @contextmanager
    def _opened(
        self, contexts: Sequence[Any], roles: Sequence[Any] = (), handlers: Sequence[Any] = ()
    ) -> Iterator[_Line]:
        """An association, and what tells why it gave no answer."""
        link = Link(self._timeout)

        def broken(what: str) -> DimseError:
            return why_broken(self._address, self._calling, link, what, tls=self._tls is not None)

        with opened(
            self._address, self._calling, contexts, tls=self._tls, timeout=self._timeout,
            roles=roles, handlers=handlers, link=link,
        ) as association:  # fmt: skip
            yield _Line(association, broken)

    def _get(
        self, series: RemoteSeries, classes: set[str], incoming: AwaitedSeries, arrived: Arrived
    ) -> int:
        from pynetdicom import evt

        contexts, roles = get_contexts(classes)
        handlers = [(evt.EVT_C_STORE, incoming.store), (evt.EVT_DATA_RECV, incoming.hear)]
        with self._opened(contexts, roles, handlers) as line:
            if not any(one.abstract_syntax == GET for one in line.association.accepted_contexts):
                raise DimseError("unsupported", f"{self.name}: offers no C-GET.")
            answers = lambda: line.association.send_c_get(_identifier(series), GET)  # noqa: E731
            return self._attend(line, answers, "C-GET", incoming, arrived)

    def _move(self, series: RemoteSeries, incoming: AwaitedSeries, arrived: Arrived) -> int:
        from pynetdicom import build_context

        with (
            self._receiving(incoming) as (host, port),
            self._opened([build_context(MOVE)]) as line,
        ):
            answers = lambda: line.association.send_c_move(  # noqa: E731
                _identifier(series), self._calling, MOVE
            )
            try:
                return self._attend(line, answers, "C-MOVE", incoming, arrived)
            except DimseError as error:
                if error.trouble in ("slow", "too-large", "unsupported", "unreachable"):
                    raise
                hint = f"Register the AE title {self._calling} there with {host}, port {port}."
                raise DimseError(error.trouble, error.message, hint=hint) from error

    @contextmanager
    def _receiving(self, incoming: AwaitedSeries) -> Iterator[tuple[str, int]]:
        """A storage SCP of our own, on the address that the archive is reached from."""
        from pynetdicom import AE, evt

        context = None if self._tls is None else self._tls.server_context()
        entity = AE(self._calling)
        entity.acse_timeout = entity.network_timeout = entity.dimse_timeout = self._timeout
        entity.require_called_aet = True
        entity.supported_contexts = store_contexts()
        host = _own_address(self._address)
        handlers = [(evt.EVT_C_STORE, incoming.store), (evt.EVT_DATA_RECV, incoming.hear)]
        try:
            server = entity.start_server(
                (host, self._port), block=False, evt_handlers=handlers, ssl_context=context
            )
        except OSError as error:
            raise ConfigError(
                f"The port {self._port} of {host} cannot be used ({error.strerror}).",
                hint="Name another one with --move-port.",
            ) from error
        assert server is not None
        try:
            yield host, server.server_address[1]
        finally:
            entity.shutdown()

    def _attend(
        self, line: _Line,
        answers: Callable[[], Iterator[tuple[Dataset, Dataset | None]]], what: str,
        incoming: AwaitedSeries, arrived: Arrived,
    ) -> int:  # fmt: skip
        """Let an archive send until its last answer, and look after it meanwhile.

        Returns:
            How many instances the archive says it could not send.
        """
        association = line.association
        association.dimse_timeout = None  # it is given up when no byte comes

        def talk() -> Any:
            last: Any = None
            for status, _ in answers():
                last = status
            return last

        with ThreadPoolExecutor(1, "dimse") as pool:
            talking: Future[Any] = pool.submit(talk)
            try:
                while not wait((talking,), _LOOK).done:
                    arrived(len(incoming.paths))
                    incoming.check()
            except BaseException:
                # The thread that talks gives up by itself: an abort from here could meet an answer
                # that it is sending.
                incoming.stop()
                association.dimse.msg_queue.put((None, None))
                raise
            final = talking.result()
        arrived(len(incoming.paths))
        incoming.check()
        code = None if final is None else final.get("Status")
        if code is None:
            raise line.broken(what)
        if code not in (0x0000, _WARNING):
            raise refusal_of(self.name, what, code)
        return int(final.get("NumberOfFailedSuboperations") or 0)


def _identifier(series: RemoteSeries) -> Dataset:
    from pydicom.dataset import Dataset

    identifier = Dataset()
    identifier.QueryRetrieveLevel = "SERIES"
    identifier.StudyInstanceUID = series.study_uid
    identifier.SeriesInstanceUID = series.uid
    return identifier


def _own_address(address: DimseAddress) -> str:
    """Our address on the way to an archive; nothing is sent to find it."""
    try:
        family, _, _, _, target = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_DGRAM
        )[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(target)
            return str(probe.getsockname()[0])
    except OSError as error:
        raise DimseError(
            "unreachable", f"{address}: has no address that can be reached ({error.strerror}).",
            hint="Is the host right?",
        ) from error  # fmt: skip
