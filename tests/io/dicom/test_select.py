"""Selections of series by their tags."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg_nca.errors import ConfigError
from medseg_nca.io.dicom.records import Plane, Series, Stack
from medseg_nca.io.dicom.select import parse_selection

TAGS = {
    "Modality": "MR",
    "SeriesDescription": "T1w MPRAGE, sag [iso]",
    "SeriesNumber": "4",
    "ImageType": "ORIGINAL\\PRIMARY\\M\\ND",
    "EchoTime": "2.46",
    "SliceThickness": "1.0",
}


def a_series(*names: str, slices: int = 3) -> Series:
    plane = Plane(Path("a"), None, "1", None, None, None, None, (8, 6))
    stacks = tuple(Stack(name, (plane,) * slices, (6, 8, slices), np.eye(4)) for name in names)
    return Series("1.2", "1.3", "p", None, "image", (Path("a"),), TAGS, stacks)


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        (None, True),
        ("", True),
        ("Modality=MR", True),
        ("modality = mr", True),
        ("Modality=M", False),
        ("Modality!=CT", True),
        ("Modality=MR,SeriesDescription~t1", True),
        ("Modality=CT,SeriesDescription~t1", False),
        ("SeriesDescription~T1*sag", True),
        ("SeriesDescription~sag*T1", False),
        ("SeriesDescription~T?w", True),
        ("SeriesDescription!~T2", True),
        ("SeriesDescription~[iso]", True),
        ("SeriesDescription~[x]", False),
        ('SeriesDescription="T1w MPRAGE, sag [iso]"', True),
        ('SeriesDescription~", sag",SeriesNumber=4', True),
        ("ImageType=M", True),
        ("ImageType=P", False),
        ("SeriesNumber=4.0", True),
        ("SeriesNumber<5,SeriesNumber>=4", True),
        ("EchoTime>2.46", False),
        ("EchoTime<=2.46", True),
        ("RepetitionTime>0", False),
        ("RepetitionTime=", True),
        ("SliceThickness=1", True),
    ],
)
def test_conditions(text: str | None, chosen: bool) -> None:
    assert parse_selection(text).matches(a_series("")) is chosen


def test_conditions_on_stacks() -> None:
    series = a_series("b-0", "b-1000")
    selection = parse_selection("Stack=b-0,Slices>2,Rows=8,Columns=6")
    assert selection.matches(series)
    assert [selection.matches(series, stack) for stack in series.stacks] == [True, False]
    assert not parse_selection("Slices>3").matches(series)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Modalty=MR", "did you mean 'Modality'"),
        ("Modality", "no condition"),
        ("=MR", "no condition"),
        ("SeriesNumber<x", "compares numbers"),
        ("SeriesDescription~^T1", "regular expression"),
        ("SeriesDescription~T1.*", "regular expression"),
        ("Modality=" + "M" * 1000, "characters"),
    ],
)
def test_what_is_no_condition_is_refused(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_selection(text)


@given(st.text(max_size=60))
def test_any_text_is_a_selection_or_refused(text: str) -> None:
    try:
        selection = parse_selection(text)
    except ConfigError:
        return
    selection.matches(a_series(""))


def test_a_pattern_cannot_take_for_ever() -> None:
    selection = parse_selection("SeriesDescription~" + "*a" * 200)
    series = Series("1", "1", "p", None, "image", (), {"SeriesDescription": "a" * 64 + "b"})
    begin = time.perf_counter()
    assert not selection.matches(series)
    assert time.perf_counter() - begin < 1
