"""What an archive is asked for a selection, worked out by hand."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from medseg_nca.errors import ConfigError
from medseg_nca.io.dicom.query import can_be_asked, holds, open_conditions, query_of
from medseg_nca.io.dicom.select import parse_selection


@dataclass
class Told:
    """What an archive told of a series."""

    tags: dict[str, str] = field(default_factory=dict)


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("", {}),
        ("PatientID=Ab 12,Modality=mr", {"PatientID": "Ab 12", "Modality": "MR"}),
        ("patientid~b1,AccessionNumber=7?", {"PatientID": "*b1*", "AccessionNumber": "7?"}),
        ("SeriesInstanceUID=1.2.3,StudyInstanceUID=1.2",
         {"SeriesInstanceUID": "1.2.3", "StudyInstanceUID": "1.2"}),
        ("StudyDate=20240102", {"StudyDate": "20240102"}),
        ("StudyDate>=20240102,StudyDate<20241231", {"StudyDate": "20240102-20241231"}),
        ("StudyDate>20240102", {"StudyDate": "20240102-"}),
        # Descriptions are compared here, as archives look at case, and so is what is not equal.
        ("SeriesDescription~Hippo,Modality!=CT,PatientID!=3,Slices>20,StudyDate>2024", {}),
        ('PatientID="a\\\\b"', {}),
    ],
)  # fmt: skip
def test_keys(text: str, keys: dict[str, str]) -> None:
    assert query_of(parse_selection(text)).keys == keys


def test_a_uid_that_is_none_is_refused() -> None:
    for text in ("StudyInstanceUID=abc", "SeriesInstanceUID=1.2*"):
        with pytest.raises(ConfigError, match="no UID"):
            query_of(parse_selection(text))


def test_what_is_compared_is_asked_for() -> None:
    fields = query_of(parse_selection("ProtocolName~tof,EchoTime<10,Slices>3")).fields
    assert "ProtocolName" in fields
    assert not {"EchoTime", "Slices"} & set(fields)
    assert can_be_asked(parse_selection("ProtocolName~tof,EchoTime<10"))
    assert not can_be_asked(parse_selection("EchoTime<10"))


def test_an_attribute_that_no_series_has_is_left_to_the_headers() -> None:
    selection = parse_selection("SeriesDescription~t1,ProtocolName~tof,Slices>3")
    found = [Told({"SeriesDescription": "T1 mprage"}), Told({"SeriesDescription": ""}), Told()]
    undecided = open_conditions(selection, found)
    assert [one.keyword for one in undecided.conditions] == ["ProtocolName", "Slices"]
    assert [holds(selection, undecided, one) for one in found] == [True, False, False]
