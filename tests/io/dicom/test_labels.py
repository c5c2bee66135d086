"""Segments, one label table for many cases, and label maps of segments that overlap."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydicom.dataset import Dataset

from medseg_nca.config import Code, LabelTable
from medseg_nca.errors import DataError
from medseg_nca.io.dicom.annotations.concepts import (
    Concept,
    clean_name,
    modern,
    public_code,
    read_codes,
)
from medseg_nca.io.dicom.annotations.labels import (
    Overlap,
    Segment,
    compose,
    find_label,
    merge_tables,
)
from medseg_nca.io.dicom.annotations.packed import Packed
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
    return Segment.from_mask(number, name or f"s{number}", code, mask)


def names(table: LabelTable) -> list[tuple[int, str]]:
    return [(label.values[0], label.name) for label in table.labels]


@given(arrays(bool, st.tuples(*[st.integers(0, 6)] * 3)))
def test_a_packed_mask_is_the_mask(mask: np.ndarray) -> None:
    packed = Packed.pack(mask)
    again = np.zeros(mask.shape, bool)
    packed.paint(again, True)
    assert (again == mask).all()
    assert packed.voxels == mask.sum()
    assert (Packed.pack(mask, (1, 2, 3)).part() == packed.part()).all()


def test_a_hundred_organs_are_held_in_less_than_one_mask() -> None:
    mask = np.zeros((64, 64, 64), bool)
    mask[5:60, 5:60, 5:60] = np.random.default_rng(0).random((55, 55, 55)) < 0.5
    worst = Segment.from_mask(1, "noise", None, mask)
    assert len(worst.packed.bits) < mask.nbytes / 7
    assert (worst.mask == mask).all()


def test_the_same_code_is_the_same_label_whatever_it_is_called() -> None:
    table = merge_tables(
        [
            [("Liver", LIVER), ("tumour", None)],
            [("hepar", Code(scheme="SCT", value="10200004", meaning="other words"))],
            [("LIVER", None), (" Tumour\x00 ", None), ("cyst", None)],
        ]
    )
    assert names(table) == [(1, "Liver"), (2, "tumour"), (3, "cyst")]
    assert table.labels[0].code == LIVER
    assert find_label(Concept("hepar", LIVER), table) is table.labels[0]
    assert find_label(Concept("liver"), table) is table.labels[0]
    assert find_label(Concept("TUMOUR"), table) is table.labels[1]
    assert find_label(Concept("spleen"), table) is None


@pytest.mark.parametrize(
    "cases",
    [
        [[("left kidney", KIDNEY), ("right kidney", KIDNEY)]],
        [[("left kidney", KIDNEY)], [("right kidney", KIDNEY)]],  # never both in one case
        [[("Kidney_L", KIDNEY)], [("Kidney_R", KIDNEY)]],
        [[("kidney", KIDNEY, (LEFT,))], [("kidney", KIDNEY, (RIGHT,))]],
        [[("k", KIDNEY, (LEFT, RIGHT))], [("m", KIDNEY, (RIGHT, LEFT))]],
        [[("Segment_1", KIDNEY)], [("Segment_1", LIVER)]],
    ],
)
def test_labels_are_not_merged_that_are_not_the_same(cases: list[list[tuple]]) -> None:
    table = merge_tables(cases)
    assert len(table.labels) == 2
    found = [find_label(Concept(*item), table) for case in cases for item in case]
    assert found == list(table.labels)


def test_a_modifier_goes_into_the_table() -> None:
    table = merge_tables([[("a", KIDNEY, (LEFT,)), ("b", KIDNEY, (RIGHT,))]])
    assert [label.modifier for label in table.labels] == [LEFT, RIGHT]
    assert find_label(Concept("other name", KIDNEY, (RIGHT,)), table) is table.labels[1]


def test_equal_names_get_their_codes_and_uncoded_ones_keep_theirs() -> None:
    cases = [[("organ", KIDNEY), ("Organ", LIVER), ("ORGAN", None)]]
    table = merge_tables(cases)
    assert names(table) == [(1, "organ (64033007)"), (2, "Organ (10200004)"), (3, "ORGAN")]
    assert [find_label(Concept(*item), table) for item in cases[0]] == list(table.labels)


_ITEMS = st.tuples(
    st.sampled_from(["a", "A", "b", "left b", "right b", "", "\x00"]),
    st.sampled_from([None, LIVER, KIDNEY]),
    st.sampled_from([(), (LEFT,), (LEFT, RIGHT)]),
)


@given(st.lists(st.lists(_ITEMS, min_size=1, max_size=4), min_size=1, max_size=4))
def test_every_segment_finds_a_label_with_its_code(cases: list[list[tuple]]) -> None:
    table = merge_tables(cases)
    assert [label.values for label in table.labels] == [
        (n,) for n in range(1, len(table.labels) + 1)
    ]
    for item in (item for case in cases for item in case):
        label = find_label(Concept(*item), table)
        assert label is not None
        assert item[1] is None or label.code == item[1]


def test_no_segments_are_no_table() -> None:
    with pytest.raises(DataError, match="no segments"):
        merge_tables([[], []])


def test_the_last_segment_covers_and_the_report_says_what() -> None:
    first, second = segment(7, np.s_[:3]), segment(2, np.s_[2:])
    table = merge_tables([[s.concept for s in (second, first)]])
    result = compose([first, second], table, IMAGE)
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
    table = merge_tables([[small.concept, large.concept]])
    hidden = compose([small, large], table, IMAGE)
    shown = compose([small, large], table, IMAGE, overlap="smallest")
    assert (hidden.label_map.array == 2).all()
    assert shown.label_map.array[0, 2, 2, 2] == 1
    assert shown.overlaps == (Overlap("s2", "s1", 1),)


def test_overlaps_can_be_refused_by_name_and_number() -> None:
    parts = [segment(1, np.s_[0], name="a"), segment(2, np.s_[0, :2], name="b")]
    table = merge_tables([[s.concept for s in parts]])
    with pytest.raises(DataError, match=r"6 voxels of label 'a' also belong to 'b'"):
        compose(parts, table, IMAGE, overlap="refuse")
    apart = [segment(1, np.s_[0], name="a"), segment(2, np.s_[1], name="b")]
    assert compose(apart, table, IMAGE, overlap="refuse").overlaps == ()


def test_two_segments_of_one_label_are_united() -> None:
    parts = [segment(1, np.s_[:2], name="x", code=LIVER), segment(2, np.s_[1:3], code=LIVER)]
    table = merge_tables([[("liver", LIVER)]])
    result = compose(parts, table, IMAGE, overlap="refuse")
    assert (result.label_map.array[0, :3] == 1).all()
    assert not result.label_map.array[0, 3].any()


def test_many_labels_need_a_wider_type() -> None:
    table = merge_tables([[(f"l{n}", None) for n in range(1, 300)]])
    result = compose([segment(1, np.s_[0], name="l299")], table, IMAGE)
    assert result.label_map.array.dtype == np.uint16
    assert result.label_map.array.max() == 299


def test_a_segment_must_fit_table_and_grid() -> None:
    table = merge_tables([[("a", None)]])
    with pytest.raises(DataError, match="Segment 4 has no label"):
        compose([segment(4, name="b")], table, IMAGE)
    other = Segment.from_mask(4, "a", None, np.zeros((2, 2, 2), bool))
    with pytest.raises(DataError, match=r"\(2, 2, 2\)"):
        compose([other], table, IMAGE)


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
