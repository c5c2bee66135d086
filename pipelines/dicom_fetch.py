"""Fetch series from an archive, by DICOMweb or DIMSE, into a folder that all commands take."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from medseg_nca.errors import ConfigError, DataError
from medseg_nca.io.atomic import atomic_folder
from medseg_nca.io.dicom.query import can_be_asked, holds, open_conditions, query_of
from medseg_nca.io.dicom.remote import Archive, FetchLimits, RemoteSeries
from medseg_nca.io.dicom.scan import read_files
from medseg_nca.io.dicom.select import Selection, parse_selection
from medseg_nca.io.dicomweb.errors import DicomWebError
from medseg_nca.io.dimse.errors import DimseError
from medseg_nca.job import Job
from medseg_nca.pipelines.dicom_fetched import Fetched, FetchedFolder, TwoObjects, settle_names

logger = logging.getLogger(__name__)

# Instances of one series, more than any scanner makes, and seconds for one: a day's link is slow.
_INSTANCES, _SECONDS = 100_000, 4 * 3600.0
# Troubles that the next series would meet too.
_OF_ALL = frozenset(("unreachable", "unauthorised", "refused", "unsupported"))


@dataclass(frozen=True)
class FetchRequest:
    """What is to be fetched, and from where.

    Attributes:
        archive: that is asked; whoever made it closes it.
        select: conditions; see :func:`medseg_nca.io.dicom.select.parse_selection`.
        everything: whether no condition means all series of the archive.
        most_series: more than these are not begun.
        most_bytes: of all that is fetched in one run.
    """

    archive: Archive
    select: str | None = None
    everything: bool = False
    most_series: int = 100
    most_bytes: int = 50_000_000_000


@dataclass(frozen=True)
class Listing:
    """What an archive has of what was asked for.

    Attributes:
        series: those that are selected, as far as the archive tells.
        undecided: conditions that only the files' headers decide.
    """

    series: tuple[RemoteSeries, ...]
    undecided: Selection = field(default_factory=Selection)

    @property
    def instances(self) -> int | None:
        """Of all series; None if the archive does not tell of one."""
        counts = [series.instances for series in self.series]
        return None if None in counts else sum(count or 0 for count in counts)

    def to_dict(self) -> dict[str, Any]:
        """Plain values with fixed keys."""
        return {
            "series": [
                {"study_uid": one.study_uid, "uid": one.uid, "modality": one.modality,
                 "instances": one.instances, "tags": dict(one.tags)}
                for one in self.series
            ],
            "undecided": [condition.keyword for condition in self.undecided.conditions],
        }  # fmt: skip


@dataclass(frozen=True)
class FailedSeries:
    """A series that could not be fetched.

    Attributes:
        folder: where it would lie.
        series_uid: of it.
        kind: a fixed word: the trouble of the archive, or ``too-large`` for the bound of the run.
        message: why, for people.
    """

    folder: str
    series_uid: str
    kind: str
    message: str


@dataclass
class FetchReport:
    """What became of each series.

    Attributes:
        out: the folder.
        fetched: that came now.
        there: how many were there already.
        not_selected: how many came, and were given up by a condition that only headers decide.
        failed: that could not be fetched.
    """

    out: Path
    fetched: list[Fetched] = field(default_factory=list)
    there: int = 0
    not_selected: int = 0
    failed: list[FailedSeries] = field(default_factory=list)

    @property
    def files(self) -> int:
        """That came now."""
        return sum(one.files for one in self.fetched)

    @property
    def bytes(self) -> int:
        """That came now."""
        return sum(one.bytes for one in self.fetched)

    def to_dict(self) -> dict[str, Any]:
        """Plain values with fixed keys."""
        return {
            "folder": str(self.out), "files": self.files, "bytes": self.bytes,
            "there": self.there, "not_selected": self.not_selected,
            "fetched": [asdict(one) for one in self.fetched],
            "failed": [asdict(one) for one in self.failed],
        }  # fmt: skip


def find(request: FetchRequest) -> Listing:
    """Ask the archive what it has, and fetch nothing.

    Raises:
        ConfigError: if the selection cannot be used, or chooses nothing in particular.
        DicomWebError, DimseError: if the archive cannot be asked.
    """
    selection = parse_selection(request.select)
    if not (request.everything or can_be_asked(selection)):
        what = "chooses by what only headers tell" if selection.conditions else "chooses nothing"
        raise ConfigError(
            f"The selection {what}: all series of the archive would be fetched.",
            hint="Add what an archive can search for, such as PatientID=..., StudyDate=... or "
            "Modality=MR; or give --all.",
        )
    found = request.archive.search(query_of(selection))
    undecided = open_conditions(selection, found)
    chosen = (series for series in found if holds(selection, undecided, series))
    return Listing(tuple(sorted(chosen, key=_order)), undecided)


def _order(series: RemoteSeries) -> tuple[str, str, float, str]:
    number = series.tags.get("SeriesNumber", "")
    place = float(number) if number.isdecimal() else 0.0
    return series.tags.get("StudyDate", ""), series.study_uid, place, series.uid


def run(request: FetchRequest, out: Path, job: Job | None = None) -> FetchReport:
    """Fetch what is selected and not there yet.

    Each series appears whole, and stays when the run is stopped: the same request goes on from
    there. A series that fails is in the report, and stops no other one.

    Args:
        request: what, and from where.
        out: a new folder, or one of an earlier fetch.
        job: told how far it is, under the phases "series" and "instances".

    Returns:
        A report; a part of it is in ``out/fetch.json``.

    Raises:
        ConfigError: as :func:`find`.
        DataError: if the archive has nothing that is selected, or more series than are allowed.
        OutputError: if the folder holds something else, or cannot be written.
        DicomWebError, DimseError: if the archive cannot be used at all.
        Interrupted: if the job was cancelled.
    """
    job = job or Job()
    listing = find(request)
    _check(listing, request)
    folder = FetchedFolder(out)
    report, wanted = FetchReport(out), []
    for series in listing.series:
        if folder.is_passed_over(series, request.select):
            report.not_selected += 1
        elif folder.has(series):
            report.there += 1
        else:
            wanted.append(series)
    _announce(listing, len(wanted))
    try:
        if wanted:
            _Run(request, listing.undecided, folder, report, job).fetch(wanted)
    finally:
        folder.write()
    return report


def _check(listing: Listing, request: FetchRequest) -> None:
    """Refuse to begin with nothing, or with more than was allowed."""
    count = len(listing.series)
    if not count:
        raise DataError(
            f"{request.archive.name}: has no series that is selected.",
            hint="Select less strictly, and look with --dry-run; UIDs and PatientID are compared "
            "by the archive, with case.",
        )
    if count > request.most_series:
        raise DataError(
            f"{request.archive.name}: {count:,} series are selected, and --limit allows "
            f"{request.most_series:,}. Nothing was fetched.",
            hint=f"Select more strictly, or give --limit {count}; --dry-run lists them.",
        )


def _announce(listing: Listing, wanted: int) -> None:
    count = "an unknown number of" if listing.instances is None else f"{listing.instances:,}"
    logger.info(
        "%d series with %s instances are selected; %d of them are fetched now.",
        len(listing.series), count, wanted,
    )  # fmt: skip
    if listing.undecided.conditions:
        words = ", ".join(dict.fromkeys(c.keyword for c in listing.undecided.conditions))
        logger.info("The archive does not tell %s: the headers decide after the fetch.", words)


class _NotSelected(Exception):  # noqa: N818
    """The headers of a series say that it was not wanted."""


class _Run:
    """Fetches one series after the other."""

    def __init__(
        self, request: FetchRequest, undecided: Selection, folder: FetchedFolder,
        report: FetchReport, job: Job,
    ) -> None:  # fmt: skip
        self._request, self._undecided = request, undecided
        self._folder, self._report, self._job = folder, report, job
        self._left = request.most_bytes
        # Instances of the series that are done with, that were reported, and of all; None if the
        # archive does not tell.
        self._came = self._told = 0
        self._total: int | None = 0

    def fetch(self, wanted: Sequence[RemoteSeries]) -> None:
        """Fetch them; failures go to the report."""
        self._total = Listing(tuple(wanted)).instances
        for number, series in enumerate(wanted):
            self._job.report("series", number, len(wanted), unit="series")
            try:
                self._one(series)
            except _NotSelected:
                self._folder.pass_over(series, self._request.select)
                self._report.not_selected += 1
            except (DicomWebError, DimseError) as error:
                if error.trouble in _OF_ALL:
                    raise
                self._fail(series, error.trouble, str(error))
            except TwoObjects as error:
                self._fail(series, "wrong", error.message)
            self._came += series.instances or 0
            self._tell(0)
        self._job.report("series", len(wanted), len(wanted), unit="series")

    def _one(self, series: RemoteSeries) -> None:
        if self._left <= 0:
            self._fail(series, "too-large", "It was not begun: the bound of bytes is reached.")
            return
        most = 0

        def arrived(count: int) -> None:
            nonlocal most
            most = max(most, count)  # it begins anew after a broken connection
            self._tell(most)

        place = self._folder.root / self._folder.place(series)
        limits = FetchLimits(self._left, _INSTANCES, _SECONDS)
        with atomic_folder(place) as part:
            paths = settle_names(self._request.archive.fetch(series, part, limits, arrived))
            self._left -= sum(path.stat().st_size for path in paths)
            if not self._is_selected(series, paths):
                raise _NotSelected
        self._report.fetched.append(self._folder.add(series, self._request.archive.name))

    def _tell(self, count: int) -> None:
        """Report how many instances of the series at work have come."""
        done = self._came + count
        done = done if self._total is None else min(done, self._total)
        self._told = max(self._told, done)
        self._job.report("instances", self._told, self._total, unit="instances")

    def _is_selected(self, series: RemoteSeries, paths: Sequence[Path]) -> bool:
        """Whether the headers meet what the archive could not tell."""
        if not self._undecided.conditions:
            return True
        found = read_files(paths).series
        return any(self._undecided.matches(one) for one in found if one.uid == series.uid)

    def _fail(self, series: RemoteSeries, kind: str, message: str) -> None:
        place = self._folder.place(series)
        logger.error("Series %s is not fetched: %s", place, message)
        self._report.failed.append(FailedSeries(place, series.uid, kind, message))
