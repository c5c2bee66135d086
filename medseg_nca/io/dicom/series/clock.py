"""Dates and times of a header as numbers that sort as they followed on each other."""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import date
from itertools import pairwise

# Microseconds.
SECOND = 1_000_000
DAY = 86_400 * SECOND
# No series has a pause of this length within one day.
MOST_OF_A_DAY = DAY * 5 // 6

_ZONE = r"(?P<zone>[+-]\d{4})?"
_TIME = r"(?P<hour>\d\d):?(?P<minute>\d\d)?:?(?P<second>\d\d)?(?:\.(?P<part>\d{1,6})\d*)?"
_DATE = r"(?P<year>\d{4})\.?(?P<month>\d\d)\.?(?P<day>\d\d)"
_DATE_TIME_FORM = re.compile(_DATE + _TIME + _ZONE, re.ASCII)
_DATE_FORM = re.compile(_DATE, re.ASCII)
_TIME_FORM = re.compile(_TIME, re.ASCII)
_ZONE_FORM = re.compile(r"[+-]\d{4}", re.ASCII)


def moment(text: str, zone: str = "") -> int | None:
    """Microseconds of a DT with a time of day, in UTC where it or ``zone`` says the offset.

    Args:
        text: for example ``20200101235958.5+0100``.
        zone: TimezoneOffsetFromUTC, which counts where the text has no offset of its own.

    Returns:
        At least :data:`DAY`; None for what is no date and time.
    """
    match = _DATE_TIME_FORM.fullmatch(text)
    days = None if match is None else _days(match)
    if match is None or days is None:
        return None
    return days + _time(match) - _offset(match["zone"] or zone)


def moment_of(day: str, time: str, zone: str = "") -> int | None:
    """Microseconds of a DA and a TM, as :func:`moment`.

    Without a date, or with one that is none: those since midnight, less than :data:`DAY`.
    """
    match = _TIME_FORM.fullmatch(time)
    if match is None:
        return None
    of_date = _DATE_FORM.fullmatch(day)
    days = None if of_date is None else _days(of_date)
    return _time(match) if days is None else days + _time(match) - _offset(zone)


def in_order(moments: Collection[int]) -> dict[int, int]:
    """Numbers to sort moments by, of planes that belong together.

    Where one has no date, times of day alone are compared; the day then begins behind the longest
    break of more than half a day, so that 23:59:58 comes before 00:00:02. Where all have the same
    date, it was written once for all if there is a break of most of the day.
    """
    days = {one // DAY for one in moments}
    if len(days) > 1 and 0 not in days:
        return {one: one for one in moments}
    longest = DAY // 2 if 0 in days else MOST_OF_A_DAY
    times = sorted({one % DAY for one in moments})
    start = 0
    gaps = [b - a for a, b in pairwise(times)]
    if gaps and max(gaps) > longest:
        start = times[gaps.index(max(gaps)) + 1]
    return {one: (one % DAY - start) % DAY for one in moments}


def _days(match: re.Match[str]) -> int | None:
    try:
        return date(int(match["year"]), int(match["month"]), int(match["day"])).toordinal() * DAY
    except ValueError:
        return None


def _time(match: re.Match[str]) -> int:
    hour, minute, second = (int(match[name] or 0) for name in ("hour", "minute", "second"))
    part = int((match["part"] or "0").ljust(6, "0"))
    return ((hour * 60 + minute) * 60 + second) * SECOND + part


def _offset(zone: str) -> int:
    if not _ZONE_FORM.fullmatch(zone):
        return 0
    minutes = int(zone[1:3]) * 60 + int(zone[3:])
    return (-minutes if zone[0] == "-" else minutes) * 60 * SECOND
