"""Segments, one label table for many cases, and label maps of segments that overlap."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydicom.dataset import Dataset

from medseg_nca.config import Code
from medseg_nca.errors import DataError
from medseg_nca.io.dicom.annotations.concepts import (
    Concept,
    clean_name,
    modern,
    public_code,
    read_codes,
)
from medseg_nca.io.dicom.annotations.labels import Overlap, Segment, compose
from medseg_nca.io.dicom.annotations.legend import Legend, make_legend
from medseg_nca.io.dicom.annotations.packed import PackedMask
from medseg_nca.io.dicom.objects.codes import private_code
from medseg_nca.io.volume import Volume

LIVER = Code(scheme="SCT", value="10200004", meaning="Liver")
KIDNEY = Code(scheme="SCT", value="64033007", meaning="Kidney")
LEFT = Code(scheme="SCT", value="7771000", meaning="Left")
RIGHT = Code(scheme="SCT", value="24028007", meaning="Right")
SHAPE = (4, 5, 3)
IMAGE = Volume(np.zeros((1, *SHAPE)), np.diag([2.0, 3.0, 4.0, 1.0]))


def segment(number: int, *boxes: tuple[slice, ...], name: str = "", code: Code | None = None):
    mask = np.zeros(SHAPE, bool)
    for box in boxes:
        mask[box] = True
    return Segment.from_mask(number, Concept(name or f"s{number}", code), mask)


def names(legend: Legend) -> list[tuple[int, str]]:
    return [(label.values[0], label.name) for label in legend.table.labels]


@given(arrays(bool, st.tuples(*[st.integers(0, 6)] * 3)))
def test_a_packed_mask_is_the_mask(mask: np.ndarray) -> None:
    packed = PackedMask.pack(mask)
    again = np.zeros(mask.shape, bool)
    packed.paint(again, True)
    assert (again == mask).all()
    assert packed.voxels == mask.sum()
    assert (PackedMask.pack(mask, (1, 2, 3)).part() == packed.part()).all()


def test_a_hundred_organs_are_held_in_less_than_one_mask() -> None:
    mask = np.zeros((64, 64, 64), bool)
    mask[5:60, 5:60, 5:60] = np.random.default_rng(0).random((55, 55, 55)) < 0.5
    worst = Segment.from_mask(1, Concept("noise"), mask)
    assert len(worst.packed.bits) < mask.nbytes / 7
    assert (worst.mask == mask).all()


def test_the_last_segment_covers_and_the_report_says_what() -> None:
    first, second = segment(7, np.s_[:3]), segment(2, np.s_[2:])
    legend = make_legend([[s.concept for s in (second, first)]])
    result = compose([first, second], legend, IMAGE)
    label_map = result.label_map.array
    assert label_map.shape == (1, *SHAPE)
    assert label_map.dtype == np.uint8
    assert (label_map[0, :3] == 2).all()
    assert (label_map[0, 3] == 1).all()
    assert result.overlaps == (Overlap("s2", "s7", 15),)
    assert result.overlapping_voxels == 15
    assert (result.label_map.affine == IMAGE.affine).all()
    assert "dicom" not in result.label_map.header


def test_the_smallest_segment_can_cover() -> None:
    small, large = segment(1, np.s_[2, 2, 2]), segment(2, np.s_[:])
    legend = make_legend([[small.concept, large.concept]])
    hidden = compose([small, large], legend, IMAGE)
    shown = compose([small, large], legend, IMAGE, overlap="smallest")
    assert (hidden.label_map.array == 2).all()
    assert shown.label_map.array[0, 2, 2, 2] == 1
    assert shown.overlaps == (Overlap("s2", "s1", 1),)


def test_overlaps_can_be_refused_by_name_and_number() -> None:
    parts = [segment(1, np.s_[0], name="a"), segment(2, np.s_[0, :2], name="b")]
    legend = make_legend([[s.concept for s in parts]])
    with pytest.raises(DataError, match=r"6 voxels of label 'a' also belong to 'b'"):
        compose(parts, legend, IMAGE, overlap="refuse")
    apart = [segment(1, np.s_[0], name="a"), segment(2, np.s_[1], name="b")]
    assert compose(apart, legend, IMAGE, overlap="refuse").overlaps == ()


def test_two_segments_of_one_label_are_united() -> None:
    parts = [
        segment(1, np.s_[:2], name="Liver", code=LIVER),
        segment(2, np.s_[1:3], name="hepar", code=LIVER),
    ]
    legend = make_legend([[part.concept] for part in parts])
    result = compose(parts, legend, IMAGE, overlap="refuse")
    assert (result.label_map.array[0, :3] == 1).all()
    assert not result.label_map.array[0, 3].any()


def test_many_labels_need_a_wider_type() -> None:
    legend = make_legend([[(f"l{n}", None) for n in range(1, 300)]])
    result = compose([segment(1, np.s_[0], name="l299")], legend, IMAGE)
    assert result.label_map.array.dtype == np.uint16
    assert result.label_map.array.max() == 299


def test_a_segment_must_fit_table_and_grid() -> None:
    legend = make_legend([[("a", None)]])
    with pytest.raises(DataError, match="Segment 4 has no label"):
        compose([segment(4, name="b")], legend, IMAGE)
    other = Segment.from_mask(4, Concept("a"), np.zeros((2, 2, 2), bool))
    with pytest.raises(DataError, match=r"\(2, 2, 2\)"):
        compose([other], legend, IMAGE)


@pytest.mark.parametrize(
    ("given_name", "clean"),
    [("  a\tb\x00c\n", "a b c"), ("", "segment"), ("x" * 99, "x" * 64), ("Nie\u0301re", "Niére")],
)
def test_names_are_clean(given_name: str, clean: str) -> None:
    assert clean_name(given_name) == clean


def code_item(scheme: str, value: str, meaning: str = "m", keyword: str = "CodeValue") -> Dataset:
    item = Dataset()
    item.CodingSchemeDesignator, item.CodeMeaning = scheme, meaning
    setattr(item, keyword, value)
    return item


def test_codes_are_read_and_legacy_ones_translated() -> None:
    dataset = Dataset()
    dataset.SegmentedPropertyTypeCodeSequence = [
        code_item("SRT", "T-62000", "Liver"),
        code_item("SRT", "T-99999X", "unknown"),
        code_item("SCT", "123456789012345678", "long", "LongCodeValue"),
        code_item("", "1"),
        code_item("SCT", ""),
        code_item("SCT", "1 2"),
    ]
    assert read_codes(dataset, "SegmentedPropertyTypeCodeSequence") == (
        LIVER,
        Code(scheme="SRT", value="T-99999X", meaning="unknown"),
        Code(scheme="SCT", value="123456789012345678", meaning="long"),
    )
    assert read_codes(dataset, "SegmentedPropertyCategoryCodeSequence") == ()
    assert modern(Code(scheme="FMA", value="T-62000", meaning="")).scheme == "FMA"


def test_our_private_code_says_no_more_than_the_name() -> None:
    assert public_code((private_code("blob"),)) is None
    assert public_code((LIVER, KIDNEY)) == LIVER
    assert public_code(()) is None
