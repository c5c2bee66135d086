"""What of a selection an archive can be asked, and what is decided by its answer (PS3.4 C.2.2.2).

A selection does not look at case, and an archive mostly does. Descriptions are therefore never
sent, but compared here with what the archive answers: it must not lose a series. Sent are UIDs,
dates, codes (which are upper case), and identifiers as they were typed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from medseg_nca.errors import ConfigError
from medseg_nca.io.dicom.select import OF_STACKS, Condition, Selection

# Attributes that archives give for studies and for series (PS3.4 C.6.2.1, PS3.18 10.6.3.3).
OF_STUDIES = (
    "PatientID", "PatientSex", "PatientAge", "StudyDate", "StudyTime", "StudyDescription",
    "AccessionNumber", "StudyInstanceUID",
)  # fmt: skip
OF_SERIES = (
    "Modality", "SeriesNumber", "SeriesDescription", "ProtocolName", "BodyPartExamined",
    "Laterality", "PatientPosition", "SeriesDate", "SeriesTime", "Manufacturer",
    "ManufacturerModelName", "InstitutionName", "StationName", "SeriesInstanceUID",
)  # fmt: skip
# What is shown of a series, whatever it was selected by.
SHOWN = ("PatientID", "StudyDate", "Modality", "SeriesNumber", "SeriesDescription")
_UIDS = ("StudyInstanceUID", "SeriesInstanceUID")
_TYPED = ("PatientID", "AccessionNumber")
_DATE, _UID = re.compile(r"[0-9]{8}"), re.compile(r"[0-9.]{1,64}")


class _Tagged(Protocol):
    @property
    def tags(self) -> Mapping[str, str]: ...


@dataclass(frozen=True)
class SeriesQuery:
    """What an archive is asked for.

    Attributes:
        keys: values to match by keyword, with * and ? as wildcards; dates may be ranges.
        fields: keywords of what is wanted of each series.
    """

    keys: Mapping[str, str]
    fields: tuple[str, ...]

    def only(self, keywords: Iterable[str]) -> dict[str, str]:
        """The keys with some keywords."""
        wanted = set(keywords)
        return {keyword: value for keyword, value in self.keys.items() if keyword in wanted}

    def wanted(self, keywords: Iterable[str]) -> tuple[str, ...]:
        """The keywords of what is wanted or matched, out of some."""
        return tuple(one for one in keywords if one in self.keys or one in self.fields)


def query_of(selection: Selection) -> SeriesQuery:
    """The query that finds at least the series that a selection chooses.

    Raises:
        ConfigError: if a UID is compared with what can be none.
    """
    keys: dict[str, str] = {}
    for condition in selection.conditions:
        value = _asked(condition)
        if value:
            keys.setdefault(condition.keyword, value)
    dates = _dates(c for c in selection.conditions if c.keyword == "StudyDate")
    if dates:
        keys.setdefault("StudyDate", dates)
    known = (*OF_STUDIES, *OF_SERIES)
    named = (c.keyword for c in selection.conditions if c.keyword in known)
    return SeriesQuery(keys, tuple(dict.fromkeys((*SHOWN, *named))))


def can_be_asked(selection: Selection) -> bool:
    """Whether an archive can tell anything of a selection before files are fetched."""
    return any(c.keyword in (*OF_STUDIES, *OF_SERIES) for c in selection.conditions)


def open_conditions(selection: Selection, found: Iterable[_Tagged]) -> Selection:
    """The conditions that only the headers of the files decide.

    They are about volumes, or about attributes that the archive gave for none of the series: an
    archive leaves empty what it does not keep for searches (PS3.4 C.2.2.1.3).
    """
    told = {keyword for series in found for keyword, value in series.tags.items() if value}
    told -= set(OF_STACKS)
    return Selection(tuple(c for c in selection.conditions if c.keyword not in told))


def holds(selection: Selection, undecided: Selection, series: _Tagged) -> bool:
    """Whether what an archive told of a series meets all conditions that it can decide."""
    return all(
        condition.holds(series.tags.get(condition.keyword, ""))
        for condition in selection.conditions
        if condition not in undecided.conditions
    )


def _asked(condition: Condition) -> str:
    """The value that matches at least what a condition chooses; "" where none can be sent."""
    keyword, relation, value = condition.keyword, condition.relation, condition.typed
    if relation not in ("=", "~") or not value or "\\" in value:
        return ""
    part = f"*{value}*" if relation == "~" else value
    if keyword == "Modality":
        return part.upper()
    if keyword in _TYPED:
        return part
    if relation == "=" and keyword in _UIDS:
        if _UID.fullmatch(value) is None:
            raise ConfigError(f"Selection: {keyword}={value}: the value is no UID.")
        return value
    if relation == "=" and keyword == "StudyDate" and _DATE.fullmatch(value) is not None:
        return value
    return ""


def _dates(conditions: Iterable[Condition]) -> str:
    """A range of dates (PS3.4 C.2.2.2.5), ends included; "" where there is none."""
    first, last = "", ""
    for condition in conditions:
        if _DATE.fullmatch(condition.value) is None:
            continue
        if condition.relation in (">", ">="):
            first = max(first, condition.value)
        elif condition.relation in ("<", "<="):
            last = min(last or condition.value, condition.value)
    return f"{first}-{last}" if first or last else ""
