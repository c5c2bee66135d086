"""Slopes, tables and how a picture is shown: which values a voxel gets, and what is refused."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from medseg_nca.io.dicom.read import read_dicom
from medseg_nca.io.dicom.scan import scan
from tests.io.dicom import build
from tests.io.dicom.test_stored_bits import array_of, refusal

DX = "1.2.840.10008.5.1.4.1.1.1.1"
SC = "1.2.840.10008.5.1.4.1.1.7"
NM = "1.2.840.10008.5.1.4.1.1.20"
SHOWN_INVERTED = {"PhotometricInterpretation": "MONOCHROME1"}


def stored(signed: bool = False) -> NDArray[Any]:
    values = np.arange(4 * 8 * 6).reshape(4, 8, 6) * 20
    return (values - 2000).astype("int16") if signed else values.astype("uint16")


def table(entries: list[int], first: int = 0, bits: int = 16, kind: str = "US") -> Dataset:
    item = Dataset()
    item.LUTDescriptor = [len(entries), first & 0xFFFF, bits]
    item.LUTData = struct.pack(f"<{len(entries)}H", *entries)
    item["LUTDescriptor"].VR = "US"
    item["LUTData"].VR = "OW"
    item.ModalityLUTType = kind
    return item


@pytest.mark.parametrize("unit", ["HU", None, "US"])
def test_a_ct_is_in_hu_however_it_is_shown(unit: str | None, tmp_path: Path) -> None:
    made = build.classic(
        stored(), intercept=-1024, BitsStored=12, HighBit=11, RescaleType=unit, **SHOWN_INVERTED
    )
    build.write(tmp_path, made)
    np.testing.assert_array_equal(array_of(tmp_path), stored().astype(int) - 1024)


@pytest.mark.parametrize(
    ("modality", "tags"),
    [
        ("MR", {}),
        ("PT", {"Units": "BQML"}),
        ("PT", {"Units": None}),
        ("PT", {"SOPClassUID": NM, "Modality": "NM", "Units": None}),
        ("OT", {"SOPClassUID": SC, "Modality": "CT", "RescaleIntercept": "-1000"}),
        ("OT", {"SOPClassUID": DX, "Modality": "DX", "RescaleType": "OD"}),
    ],
)
def test_what_is_measured_is_not_turned(
    modality: str, tags: dict[str, Any], tmp_path: Path
) -> None:
    made = build.classic(stored(), modality=modality, **{**SHOWN_INVERTED, **tags})
    build.write(tmp_path, made)
    intercept = int(tags.get("RescaleIntercept", 0))
    np.testing.assert_array_equal(array_of(tmp_path), stored().astype(int) + intercept)


@pytest.mark.parametrize("slope", [2.0, -1.0])
@pytest.mark.parametrize("unit", [None, "US"])
def test_projections_are_turned_within_the_range_of_the_values(
    unit: str | None, slope: float, tmp_path: Path
) -> None:
    made = build.classic(
        stored(), modality="OT", SOPClassUID=DX, slope=slope, intercept=5, BitsStored=12,
        HighBit=11, RescaleType=unit, **{**SHOWN_INVERTED, "Modality": "DX"},
    )  # fmt: skip
    build.write(tmp_path, made)
    expected = (4095 - stored().astype(int)) * int(slope) + 5
    np.testing.assert_array_equal(array_of(tmp_path), expected)


@pytest.mark.parametrize("kind", ["US", "HU"])
def test_a_table_is_looked_up_before_values_are_turned(kind: str, tmp_path: Path) -> None:
    steps = np.array([[[0, 1, 2], [3, 3, 0]]] * 2, "uint16")
    made = build.classic(steps, modality="OT", SOPClassUID=DX, **SHOWN_INVERTED)
    for dataset in made:
        dataset.Modality = "DX"
        dataset.ModalityLUTSequence = [table([0, 10, 500, 4095], bits=12, kind=kind)]
    build.write(tmp_path, made)
    expected = np.array([0, 10, 500, 4095])[steps]
    np.testing.assert_array_equal(array_of(tmp_path), expected if kind == "HU" else 4095 - expected)


@pytest.mark.parametrize("syntax", build.NATIVE, ids=lambda s: s.keyword)
def test_a_table_that_starts_below_zero(syntax: str, tmp_path: Path) -> None:
    """The first mapped value of signed pixels is signed, whatever VR it is written with."""
    values = np.array([[[-3, -2, -1], [0, 1, -20]]] * 2, "int16")
    made = build.classic(values)
    for dataset in made:
        item = table([7, 70, 700, 7000], first=-2)
        if syntax == build.ExplicitVRBigEndian:
            item.LUTData = struct.pack(">4H", 7, 70, 700, 7000)
        dataset.ModalityLUTSequence = [item]
    build.write(tmp_path, made, syntax)
    expected = [[7, 7, 70], [700, 7000, 7]]
    np.testing.assert_array_equal(array_of(tmp_path), [expected] * 2)


def test_a_table_of_bytes_and_one_that_is_cut(tmp_path: Path) -> None:
    made = build.classic(np.array([[[0, 1, 2, 3]]] * 2, "uint8"))
    for dataset in made:
        item = table([0, 0, 0, 0], bits=8)
        item.LUTData = bytes([9, 8, 7, 250])
        dataset.ModalityLUTSequence = [item]
    build.write(tmp_path / "a", made)
    np.testing.assert_array_equal(array_of(tmp_path / "a"), [[[9, 8, 7, 250]]] * 2)
    for dataset in made:
        dataset.ModalityLUTSequence[0].LUTDescriptor = [9, 0, 8]
    build.write(tmp_path / "b", made)
    kind, message = refusal(tmp_path / "b")
    assert kind == "bad-value"
    assert "LUTData has 4 bytes for 9 entries" in message


def replaced(path: Path, keyword: str, text: str) -> None:
    """Put a text into a DS element of 16 characters, whatever it says."""
    data = path.read_bytes()
    tag = pydicom.tag.Tag(keyword)
    head = struct.pack("<HH2sH", tag.group, tag.element, b"DS", 16)
    start = data.index(head) + len(head)
    path.write_bytes(data[:start] + text.encode().ljust(16) + data[start + 16 :])


@pytest.mark.parametrize("keyword", ["RescaleSlope", "RescaleIntercept"])
@pytest.mark.parametrize("text", ["abc", "nan", "inf", "1,5", "1\\2", "1\\1", "--1"])
def test_what_is_no_single_number_is_refused_by_the_scan(
    text: str, keyword: str, tmp_path: Path
) -> None:
    made = build.classic(
        stored(), RescaleSlope="1.00000000000000", RescaleIntercept="-1024.0000000000"
    )
    paths = build.write(tmp_path, made)
    replaced(paths[2], keyword, text)
    (series,) = scan(tmp_path).series
    assert [problem.kind for problem in series.problems] == ["bad-value"]
    assert f"{keyword} cannot be understood as one number" in series.problems[0].message
    assert not series.stacks
    assert refusal(tmp_path)[0] == "bad-value"


@pytest.mark.parametrize("text", ["0", "0.000", "-0", "0e5"])
def test_a_slope_of_zero_is_refused(text: str, tmp_path: Path) -> None:
    build.write(tmp_path / "a", build.classic(stored(), RescaleSlope=text))
    assert refusal(tmp_path / "a")[0] == "bad-value"
    frames = build.enhanced(stored(), slope=[1, 0, 1, 1])
    build.write(tmp_path / "b", [frames])
    kind, message = refusal(tmp_path / "b")
    assert kind == "bad-value"
    assert "RescaleSlope is 0" in message


@pytest.mark.parametrize("value", [None, ""])
def test_an_empty_slope_is_none(value: str | None, tmp_path: Path) -> None:
    build.write(tmp_path, build.classic(stored(), RescaleSlope=value, intercept=-1024))
    np.testing.assert_array_equal(array_of(tmp_path), stored().astype(int) - 1024)
    assert [note.kind for note in scan(tmp_path).series[0].notes] == ["assumed-slope"]


def test_real_world_values_are_told_and_not_applied(tmp_path: Path) -> None:
    mapping = Dataset()
    mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept = 0.25, 3.0
    classic = build.classic(stored(), modality="MR")
    for dataset in classic:
        dataset.RealWorldValueMappingSequence = [mapping]
    build.write(tmp_path / "a", classic)
    frames = build.enhanced(stored())
    frames.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence = [mapping]
    build.write(tmp_path / "b", [frames])
    for folder in ("a", "b"):
        np.testing.assert_array_equal(array_of(tmp_path / folder), stored())
        (note,) = scan(tmp_path / folder).series[0].notes
        assert note.kind == "real-world-values"


def test_monochrome1_of_a_cross_section_is_told(tmp_path: Path) -> None:
    build.write(tmp_path, build.classic(stored(), modality="MR", **SHOWN_INVERTED))
    (note,) = scan(tmp_path).series[0].notes
    assert note.kind == "monochrome1"
    assert "stay as they are stored" in note.message


@pytest.mark.parametrize("syntax", build.NATIVE, ids=lambda s: s.keyword)
@pytest.mark.parametrize("scale", [256, 1])
def test_palettes_of_sixteen_bits(scale: int, syntax: str, tmp_path: Path) -> None:
    """Some devices write entries of 8 bits into 16 and do not scale them."""
    made = build.classic(np.array([[[0, 1, 2, 1]]], "uint8"), modality="OT")[0]
    made.PhotometricInterpretation = "PALETTE COLOR"
    order = ">" if syntax == build.ExplicitVRBigEndian else "<"
    for colour, entries in (("Red", (0, 255, 9)), ("Green", (0, 128, 8)), ("Blue", (0, 1, 7))):
        setattr(made, f"{colour}PaletteColorLookupTableDescriptor", [3, 0, 16])
        made[f"{colour}PaletteColorLookupTableDescriptor"].VR = "US"
        data = struct.pack(f"{order}3H", *(entry * scale for entry in entries))
        setattr(made, f"{colour}PaletteColorLookupTableData", data)
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient"):
        delattr(made, keyword)
    build.write(tmp_path, [made], syntax)
    found = read_dicom([tmp_path]).array[:, :, 0].T
    np.testing.assert_array_equal(found, [[0, 0, 0], [255, 128, 1], [9, 8, 7], [255, 128, 1]])


def changed(made: list[Dataset], **tags: Any) -> list[Dataset]:
    """With other tags in the second slice; None deletes one."""
    for keyword, value in tags.items():
        if value is None:
            del made[1][keyword]
        else:
            setattr(made[1], keyword, value)
    return made


@pytest.mark.parametrize(
    ("made", "tags", "text"),
    [
        (
            {"modality": "PT", "slope": [2, 3, 4, 5]},
            {"RescaleSlope": None, "RescaleIntercept": None},
            "1 of 4 slices have no RescaleSlope and RescaleIntercept",
        ),
        ({"intercept": -1024}, {"RescaleSlope": "", "RescaleIntercept": ""}, "1 of 4 slices"),
        ({"modality": "PT"}, {"Units": "CNTS"}, "several units: BQML (3), CNTS (1)"),
        ({}, {"RescaleType": "OD"}, "several units: HU (3), OD (1)"),
        ({"modality": "OT"}, SHOWN_INVERTED, "opposite ways: MONOCHROME1 (1), MONOCHROME2 (3)"),
    ],
)
def test_slices_whose_values_mean_other_things_make_no_volume(
    made: dict[str, Any], tags: dict[str, Any], text: str, tmp_path: Path
) -> None:
    build.write(tmp_path, changed(build.classic(stored(), **made), **tags))
    kind, message = refusal(tmp_path)
    assert kind == "mixed-values"
    assert text in message


def test_a_frame_without_the_slope_of_the_others_makes_no_volume(tmp_path: Path) -> None:
    frames = build.enhanced(stored(), slope=[2, 3, 4, 5])
    del frames.PerFrameFunctionalGroupsSequence[2].PixelValueTransformationSequence
    build.write(tmp_path, [frames])
    assert refusal(tmp_path)[0] == "mixed-values"


@pytest.mark.parametrize(
    ("made", "tags"),
    [
        # Slices that need no slope, beside some that say so.
        ({"modality": "MR"}, {"RescaleSlope": None, "RescaleIntercept": None}),
        ({"intercept": -1024}, {"RescaleType": None}),
        # Measured values are not turned.
        ({"modality": "MR"}, SHOWN_INVERTED),
    ],
)
def test_slices_that_mean_the_same_in_other_words_are_a_volume(
    made: dict[str, Any], tags: dict[str, Any], tmp_path: Path
) -> None:
    build.write(tmp_path, changed(build.classic(stored(), **made), **tags))
    expected = stored().astype(int) + made.get("intercept", 0)
    np.testing.assert_array_equal(array_of(tmp_path), expected)


def test_volumes_of_one_series_may_have_other_units(tmp_path: Path) -> None:
    """A diffusion series with its map."""
    made = build.classic(stored(), modality="MR")
    for number, dataset in enumerate(build.classic(stored(), modality="MR", slope=2)):
        dataset.ImageType = ["DERIVED", "SECONDARY", "ADC"]
        dataset.RescaleType = "10^-6 mm2/s"
        dataset.SOPInstanceUID = build.uid("map", number)
        made.append(dataset)
    build.write(tmp_path, made)
    (series,) = scan(tmp_path).series
    assert (len(series.stacks), series.problems) == (2, ())


@pytest.mark.parametrize(
    "tags", [{"RescaleIntercept": None}, {"RescaleIntercept": None, "RescaleSlope": None}]
)
def test_a_ct_without_an_intercept_is_told(tags: dict[str, Any], tmp_path: Path) -> None:
    build.write(tmp_path, build.classic(stored(), **tags))
    (series,) = scan(tmp_path).series
    assert [note.kind for note in series.doubts] == ["assumed-intercept"]
    np.testing.assert_array_equal(array_of(tmp_path), stored())
