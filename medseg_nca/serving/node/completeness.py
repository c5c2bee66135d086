"""When a series is complete."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from medseg_nca.errors import ConfigError
from medseg_nca.io.dicom.files.reader import read_header
from medseg_nca.io.dicom.problems import DicomError
from medseg_nca.serving.node.spool import Spool, SpooledSeries


class Completeness:
    """Complete is what has been quiet for a while, or has as many instances as a tag says.

    Only the time counts in which the node listened: a sender that goes on when a node is there
    again has not been quiet while it was not.

    No DICOM message says that a series has ended. Tags that count images (ImagesInAcquisition,
    0020,1002; NumberOfSeriesRelatedInstances, 0020,1209) often count something else: one is asked
    only where it is named, and a series with fewer instances still ends by its quiet time.

    Args:
        settle: seconds without an instance.
        expect_count: keyword of a tag that says how many instances a series has; "" for none.
        clock: seconds since 1970.
    """

    def __init__(
        self, settle: float, expect_count: str = "", clock: Callable[[], float] = time.time
    ) -> None:
        self._settle, self._keyword, self.clock = settle, expect_count, clock
        self._since = float("-inf")
        # Series from before the clock was set back: as they were, and the clock then.
        self._seen: dict[str, tuple[str, float]] = {}

    def listens(self) -> None:
        """Note that the node listens from now on."""
        self._since = self.clock()

    def holds(self, series: SpooledSeries, spool: Spool) -> bool:
        """Whether a series is complete."""
        if self._quiet(series) >= self._settle:
            self._seen.pop(series.key, None)
            return True
        return bool(self._keyword) and series.files >= self._told(series, spool)

    def _quiet(self, series: SpooledSeries) -> float:
        """Seconds since an instance came, of those in which the node listened.

        Where the clock was set back they count from when the series was first asked about.
        """
        now = self.clock()
        last = max(series.last, self._since)
        if last <= now + self._settle:
            return now - last
        signature, since = self._seen.get(series.key, ("", now))
        if signature != series.signature or since > now:
            since = now
        self._seen[series.key] = series.signature, since
        return now - since

    def _told(self, series: SpooledSeries, spool: Spool) -> float:
        """How many instances its files say that it has; infinite if none says it."""
        counts = [_count(path, self._keyword) for path in spool.files(series.key)[:1]]
        return max((count for count in counts if count > 0), default=float("inf"))


def check_keyword(keyword: str) -> None:
    """Refuse a tag that DICOM does not know, or that holds no whole number.

    Raises:
        ConfigError: naming it.
    """
    from pydicom.datadict import dictionary_VR, tag_for_keyword

    tag = tag_for_keyword(keyword)
    if tag is None or dictionary_VR(tag) not in ("IS", "US", "UL"):
        raise ConfigError(
            f"--expect-count {keyword!r}: is no tag of DICOM that holds a count.",
            hint="For example: --expect-count ImagesInAcquisition",
        )


def _count(path: Path, keyword: str) -> int:
    """What a file says; 0 if it says nothing, or cannot be read."""
    try:
        return int(read_header(path).get(keyword) or 0)
    except (DicomError, ValueError, TypeError):
        return 0
