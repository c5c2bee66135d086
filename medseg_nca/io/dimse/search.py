"""Search an archive by C-FIND in the study root (PS3.4 C.4.1 and C.6.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medseg_nca.io.dicom.files.attributes import Attributes, tag_of
from medseg_nca.io.dicom.query import OF_SERIES, OF_STUDIES, SeriesQuery
from medseg_nca.io.dicom.quiet import quiet
from medseg_nca.io.dicom.remote import RemoteSeries, may_be_uid
from medseg_nca.io.dimse.contexts import FIND
from medseg_nca.io.dimse.errors import DimseError
from medseg_nca.io.dimse.status import refusal_of

if TYPE_CHECKING:
    from pydicom.dataset import Dataset
    from pynetdicom.association import Association

# Matches of one request, and series of all: a selection that finds more is none.
_MOST = 10_000
_COUNT, _STUDY, _SERIES = "NumberOfSeriesRelatedInstances", "StudyInstanceUID", "SeriesInstanceUID"


@dataclass(frozen=True)
class RemoteInstance:
    """An instance that an archive says it has.

    Attributes:
        uid: SOPInstanceUID.
        sop_class: SOPClassUID; "" where the archive does not tell.
    """

    uid: str
    sop_class: str


class Search:
    """Searches over an association that has accepted :data:`.contexts.FIND`.

    Args:
        association: that is open.
        name: of the archive, for messages.
        broken: returns the error of a request that got no answer, by its name.
    """

    def __init__(
        self, association: Association, name: str, broken: Callable[[str], DimseError]
    ) -> None:
        self._association, self._name, self._broken = association, name, broken

    def series(self, query: SeriesQuery) -> tuple[RemoteSeries, ...]:
        """All series that a query finds.

        An archive need not search for series but within one study (PS3.4 C.4.1.3.1.1). Studies are
        therefore searched first; a series that is named alone is tried without, as most archives
        know that.

        Raises:
            DimseError: if the archive cannot be asked, or finds more than 10,000.
        """
        of_study = query.only(OF_STUDIES)
        if "Modality" in query.keys:
            of_study["ModalitiesInStudy"] = query.keys["Modality"]
        if not of_study and _SERIES in query.keys:
            found = self._directly(query)
            if found:
                return found
        series: dict[str, RemoteSeries] = {}
        for study in self._find("STUDY", of_study, (_STUDY, *query.wanted(OF_STUDIES))):
            uid = study.text(_STUDY)
            if not may_be_uid(uid):
                continue
            tags = {keyword: study.text(keyword) for keyword in query.wanted(OF_STUDIES)}
            series |= {one.uid: one for one in self._of_study(uid, tags, query)}
            if len(series) >= _MOST:
                raise self._too_many("series")
        return tuple(series.values())

    def instances(self, series: RemoteSeries) -> tuple[RemoteInstance, ...]:
        """The instances of a series, as far as the archive names them.

        Raises:
            DimseError: if the archive cannot be asked.
        """
        keys = {_STUDY: series.study_uid, _SERIES: series.uid}
        found = self._find("IMAGE", keys, ("SOPInstanceUID", "SOPClassUID"), most=100_000)
        told = (
            RemoteInstance(one.text("SOPInstanceUID"), one.text("SOPClassUID")) for one in found
        )
        return tuple({one.uid: one for one in told if one.uid}.values())

    def _directly(self, query: SeriesQuery) -> tuple[RemoteSeries, ...]:
        """Series without their studies; () where the archive knows no such search."""
        fields = query.wanted((*OF_STUDIES, *OF_SERIES))
        try:
            found = list(self._find("SERIES", query.only(OF_SERIES), (_STUDY, _COUNT, *fields)))
        except DimseError as error:
            if error.trouble != "faulty":
                raise
            return ()
        return tuple(one for item in found for one in _series(item, item.text(_STUDY), {}, fields))

    def _of_study(
        self, study: str, tags: Mapping[str, str], query: SeriesQuery
    ) -> Iterator[RemoteSeries]:
        fields = query.wanted(OF_SERIES)
        keys = {**query.only(OF_SERIES), _STUDY: study}
        for item in self._find("SERIES", keys, (_SERIES, "Modality", _COUNT, *fields)):
            yield from _series(item, study, tags, fields)

    def _find(
        self, level: str, keys: Mapping[str, str], fields: Sequence[str], most: int = _MOST
    ) -> list[Attributes]:
        """The matches of one request."""
        found: list[Attributes] = []
        identifier = _identifier({"QueryRetrieveLevel": level, **dict.fromkeys(fields, ""), **keys})
        for status, match in self._association.send_c_find(identifier, FIND):
            code = status.get("Status")
            if code not in (0xFF00, 0xFF01):
                if code is None:
                    raise self._broken("C-FIND")
                if code != 0x0000:
                    raise refusal_of(self._name, "C-FIND", code)
                break
            if match is not None:
                with quiet():
                    found.append(Attributes(match))
            if len(found) > most:
                raise self._too_many("matches")
        return found

    def _too_many(self, what: str) -> DimseError:
        return DimseError(
            "too-large", f"{self._name}: finds more than {_MOST:,} {what}.",
            hint="Select by PatientID, StudyDate or StudyInstanceUID, which archives search for.",
        )  # fmt: skip


def _series(
    item: Attributes, study: str, tags: Mapping[str, str], fields: Sequence[str]
) -> Iterator[RemoteSeries]:
    """The series that a match names, if it names one."""
    uid = item.text(_SERIES)
    if may_be_uid(uid) and may_be_uid(study):
        count = item.number(_COUNT)
        told = {**tags, **{keyword: item.text(keyword) for keyword in fields}}
        instances = None if count is None else int(count)
        yield RemoteSeries(uid, study, item.text("Modality"), instances, told)


def _identifier(values: Mapping[str, str]) -> Dataset:
    """A data set of texts, whatever they are: the archive decides what it can match."""
    from pydicom import config
    from pydicom.datadict import dictionary_VR
    from pydicom.dataelem import DataElement
    from pydicom.dataset import Dataset

    identifier = Dataset()
    if not all(value.isascii() for value in values.values()):
        identifier.SpecificCharacterSet = "ISO_IR 192"
    for keyword, value in values.items():
        tag: Any = tag_of(keyword)
        element = DataElement(tag, dictionary_VR(tag), value, validation_mode=config.IGNORE)
        identifier.add(element)
    return identifier
