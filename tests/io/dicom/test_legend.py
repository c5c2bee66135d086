"""Which segments are the same label, and how the labels of a data set are numbered and called."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from medseg_nca.config import Code
from medseg_nca.errors import DataError
from medseg_nca.io.dicom.annotations.assign import concepts_of
from medseg_nca.io.dicom.annotations.concepts import Concept
from medseg_nca.io.dicom.annotations.legend import Legend, make_legend
from tests.io.dicom import build, referring


def sct(value: str, meaning: str = "") -> Code:
    return Code(scheme="SCT", value=value, meaning=meaning)


LIVER, SPLEEN, KIDNEY = sct("10200004", "Liver"), sct("78961009"), sct("64033007", "Kidney")
LUNG, VERTEBRA, HIPPOCAMPUS = sct("39607008"), sct("51282000"), sct("5366008")
HEART = sct("80891009")
LEFT, RIGHT, ANTERIOR = sct("7771000", "Left"), sct("24028007", "Right"), sct("255549009")
MASS, NEOPLASM, TISSUE, ORGAN = sct("4147007"), sct("108369006"), sct("85756007"), sct("113343008")
ANATOMY, ABNORMAL = sct("91723000"), sct("49755003")
LEFT_ATRIUM, RIGHT_ATRIUM = sct("82471001"), sct("73829009")

Case = list[tuple[Any, ...]]


def names(legend: Legend) -> list[tuple[int, str]]:
    return [(label.values[0], label.name) for label in legend.table.labels]


def kinds(legend: Legend) -> list[str]:
    return sorted({note.kind for note in legend.notes})


def legend_of(*cases: Case) -> Legend:
    """The legend, in which only the numbers depend on the order of the cases."""
    orders = [make_legend(order) for order in itertools.permutations(cases)]
    assert all(meanings(order) == meanings(orders[0]) for order in orders)
    assert len({len(order.notes) for order in orders}) == 1
    return orders[0]


def meanings(legend: Legend) -> set[tuple[str, tuple[str, ...], str]]:
    """Every concept that was met, and what its label is called."""
    names = {label.values[0]: label.name for label in legend.table.labels}
    return {
        (found.name, tuple(code.value for code in found.concept.codes), names[found.value])
        for found in legend.segments
    }


def place(code: Code, *modifiers: Code) -> dict[str, Any]:
    return {"regions": (code,), "region_modifiers": modifiers}


# --- one label ------------------------------------------------------------------------------------


def test_the_same_code_is_the_same_label_whatever_it_is_called() -> None:
    legend = legend_of(
        [("Liver", LIVER), ("tumour", None)],
        [("hepar", Code(scheme="SCT", value="10200004", meaning="other words"))],
        [("LIVER", None), (" Tumour\x00 ", None), ("cyst", None)],
    )
    assert names(legend) == [(1, "Liver"), (2, "tumour"), (3, "cyst")]
    assert legend.table.labels[0].code == LIVER
    for name, code in (("hepar", LIVER), ("liver", None), ("LIVER", LIVER)):
        assert legend.label_of(Concept(name, code)) is legend.table.labels[0]
    assert legend.label_of(Concept("TUMOUR")) is legend.table.labels[1]
    assert legend.label_of(Concept("spleen")) is None
    assert [(note.kind, note.message) for note in legend.notes] == [
        (
            "names-differ",
            "Label 'Liver' unites segments with the same codes and several names: "
            "'liver' (2 cases), 'hepar' (1 case). Look whether they are one.",
        )
    ]


@pytest.mark.parametrize(
    "cases",
    [
        [[("Liver", LIVER)], [("  LIVER\t", LIVER)]],
        [[("Leber", LIVER)], [("foie", LIVER)], [("肝臓", LIVER)]],
        [[("Segment_1", LIVER)], [("Segment_2", LIVER)]],  # names that a program made up
        [[("kidney", KIDNEY, (LEFT,))], [("left kidney", KIDNEY)]],
        [[("Niere links", KIDNEY)], [("rein gauche", KIDNEY)], [("kidney_L", KIDNEY)]],
        [[("k", KIDNEY, (LEFT, ANTERIOR))], [("k", KIDNEY, (ANTERIOR, LEFT))]],
        [[("Liver", LIVER, (), ANATOMY)], [("Liver", LIVER)]],  # an RTSTRUCT has no category
        [[("Liver", LIVER)], [("liver", None)], [("hepar", LIVER)], [("HEPAR", None)]],
        [[("spleen", None)], [("Spleen ", None)]],
        [[("mass", MASS)], [("Mass", MASS)]],
    ],
)
def test_one_thing_is_one_label(cases: list[Case]) -> None:
    assert len(legend_of(*cases).table.labels) == 1


def test_a_lesion_with_a_place_is_known_by_its_codes() -> None:
    legend = legend_of(
        [Concept("Liver mass", MASS, **place(LIVER))],
        [Concept("masse du foie", MASS, **place(LIVER))],
    )
    assert len(legend.table.labels) == 1
    assert kinds(legend) == ["names-differ"]


# --- several --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cases",
    [
        [[("left kidney", KIDNEY), ("right kidney", KIDNEY)]],
        [[("left kidney", KIDNEY)], [("right kidney", KIDNEY)]],  # never both in one case
        [[("Kidney_L", KIDNEY)], [("Kidney_R", KIDNEY)]],
        [[("Niere links", KIDNEY)], [("Niere rechts", KIDNEY)]],
        [[("左腎", KIDNEY)], [("右腎", KIDNEY)]],
        [[("left kidney", KIDNEY)], [("kidney", KIDNEY)]],
        [[("kidney", KIDNEY, (LEFT,))], [("kidney", KIDNEY, (RIGHT,))]],
        [[("kidney", KIDNEY, (LEFT,))], [("kidney", KIDNEY)]],
        [[("k", KIDNEY, (LEFT, ANTERIOR))], [("k", KIDNEY, (RIGHT, ANTERIOR))]],
        [[("atrium", LEFT_ATRIUM)], [("atrium", RIGHT_ATRIUM)]],
        [[("Segment_1", KIDNEY)], [("Segment_1", LIVER)]],
        [[("Segment_1", LIVER), ("Segment_2", LIVER)]],  # someone told them apart
        [[("liver", TISSUE)], [("tumour", TISSUE)]],  # what 3D Slicer writes if nobody chooses
        [[("liver", ORGAN)], [("spleen", ORGAN)]],
        [[("Liver", LIVER)], [("Spleen", LIVER)]],  # the word for another code
        [[("Liver", LIVER)], [("Liver tumour", LIVER)]],
        [[("Liver mass", MASS)], [("Kidney mass", MASS)]],
        [[("Tumor 1", NEOPLASM)], [("Tumor 2", NEOPLASM)]],
        [[("Vertebra L1", VERTEBRA)], [("Vertebra L2", VERTEBRA)]],
        [[("upper lobe", LUNG)], [("lower lobe", LUNG)]],
        [[("Myocardium", HEART)], [("LV cavity", HEART)]],
        [[("heart", HEART)], [("Transition zone", HEART)]],
        [[("좌신장", KIDNEY)], [("우신장", KIDNEY)]],
        [[("anterior", HIPPOCAMPUS)], [("posterior", HIPPOCAMPUS)]],
        [[("x", LIVER, (), ANATOMY)], [("x", LIVER, (), ABNORMAL)]],
        [[Concept("m", MASS, **place(LIVER))], [Concept("m", MASS, **place(KIDNEY))]],
        [
            [Concept("m", MASS, **place(KIDNEY, LEFT))],
            [Concept("m", MASS, **place(KIDNEY, RIGHT))],
        ],
        [[Concept("m", MASS, **place(KIDNEY))], [Concept("m", MASS)]],
        [[Concept("k", None, **place(KIDNEY, LEFT))], [Concept("k", None, **place(KIDNEY, RIGHT))]],
        [[("a", Code(scheme="99X", value="1", meaning="organ"))],
         [("b", Code(scheme="99X", value="1", meaning="organ"))]],
        [[("liver", None)], [("liver 2", None)]],
    ],
)  # fmt: skip
def test_labels_are_not_merged_that_are_not_the_same(cases: list[Case]) -> None:
    legend = legend_of(*cases)
    assert len(legend.table.labels) == 2
    found = [legend.label_of(Concept(*item)) for case in cases for item in case]
    assert None not in found
    assert found[0] != found[1]


def test_a_segment_without_a_code_joins_no_label_of_two() -> None:
    legend = legend_of([("mass", MASS, (), ABNORMAL)], [("mass", LIVER)], [("Mass", None)])
    assert len(legend.table.labels) == 3
    assert "name-of-several" in kinds(legend)


def test_a_name_that_contradicts_its_codes_is_told_and_joins_neither_side() -> None:
    legend = legend_of(
        [("left kidney", KIDNEY, (LEFT,)), ("right kidney", KIDNEY, (RIGHT,))],
        [("rechte Niere", KIDNEY, (LEFT,))],
        [("Right atrium", LEFT_ATRIUM)],
    )
    assert [name for _, name in names(legend)] == [
        "left kidney", "right kidney", "rechte Niere", "Right atrium",
    ]  # fmt: skip
    told = [note.message for note in legend.notes if note.kind == "sides-differ"]
    assert len(told) == 2
    assert "'rechte Niere'" in told[0]


def test_labels_that_only_their_names_tell_apart_are_told() -> None:
    named = legend_of([("Niere links", KIDNEY)], [("Niere rechts", KIDNEY)])
    assert [note.message for note in named.notes] == [
        "Labels with the same codes (SCT:64033007) are told apart by their names only: "
        "'Niere links', 'Niere rechts'."
    ]
    coded = legend_of([("left", KIDNEY, (LEFT,))], [("right", KIDNEY, (RIGHT,))])
    assert coded.notes == ()


def test_a_name_that_tells_segments_apart_in_one_case_does_so_in_all() -> None:
    legend = legend_of([("core", LIVER), ("shell", LIVER)], [("core", LIVER)], [("foie", LIVER)])
    assert [name for _, name in names(legend)] == ["core", "shell", "foie"]


# --- numbers, names -------------------------------------------------------------------------------


def test_labels_are_numbered_as_they_first_appear() -> None:
    legend = legend_of(
        [("tumour", None)], [("organ", None), ("Tumour", None), ("b", None)], [("organ", None)]
    )
    assert names(legend) == [(1, "tumour"), (2, "organ"), (3, "b")]


def test_a_label_is_called_as_in_most_cases() -> None:
    legend = legend_of([("hepar", LIVER)], [("Leber", LIVER)], [("Leber", LIVER)])
    assert names(legend) == [(1, "Leber")]


def test_a_modifier_goes_into_the_table() -> None:
    legend = legend_of([("a", KIDNEY, (LEFT,)), ("b", KIDNEY, (RIGHT,))])
    assert [label.modifier for label in legend.table.labels] == [LEFT, RIGHT]
    assert legend.label_of(Concept("B", KIDNEY, (RIGHT,))) is legend.table.labels[1]


def test_equal_names_get_their_codes_and_uncoded_ones_keep_theirs() -> None:
    case: Case = [("organ", KIDNEY), ("Organ", LIVER), ("ORGAN", None)]
    legend = legend_of(case)
    assert names(legend) == [(1, "organ (64033007)"), (2, "Organ (10200004)"), (3, "ORGAN")]
    assert [legend.label_of(Concept(*item)) for item in case] == list(legend.table.labels)
    sides = legend_of([("kidney", KIDNEY, (LEFT,))], [("kidney", KIDNEY, (RIGHT,))])
    assert names(sides) == [(1, "kidney (64033007, 7771000)"), (2, "kidney (64033007, 24028007)")]


_ITEMS = st.tuples(
    st.sampled_from(["a", "A", "b", "left b", "right b", "", "\x00"]),
    st.sampled_from([None, LIVER, KIDNEY, MASS]),
    st.sampled_from([(), (LEFT,), (LEFT, RIGHT)]),
    st.sampled_from([None, ANATOMY]),
)


@given(st.lists(st.lists(_ITEMS, min_size=1, max_size=4), min_size=1, max_size=4))
def test_every_segment_finds_a_label_with_its_code(cases: list[Case]) -> None:
    legend = make_legend(cases)
    assert meanings(legend) == meanings(make_legend(cases[::-1]))
    assert [label.values for label in legend.table.labels] == [
        (n,) for n in range(1, len(legend.table.labels) + 1)
    ]
    for item in (item for case in cases for item in case):
        label = legend.label_of(Concept(*item))
        assert label is not None
        assert item[1] is None or label.code == item[1]
    part = legend.part([Concept(*item) for item in cases[0]])
    assert all(part.label_of(Concept(*i)) == legend.label_of(Concept(*i)) for i in cases[0])
    assert Legend.model_validate_json(legend.model_dump_json()) == legend.model_copy(
        update={"notes": ()}
    )


def test_no_segments_are_no_table() -> None:
    with pytest.raises(DataError, match="no segments"):
        make_legend([[], []])


# --- what objects say -----------------------------------------------------------------------------


def item(code: Code) -> Dataset:
    result = Dataset()
    result.CodeValue, result.CodingSchemeDesignator = code.value, code.scheme
    result.CodeMeaning = code.meaning or "meaning"
    return result


def seg(folder: Path, **segment: Any) -> Concept:
    """What a SEG of one segment says, with more elements in the item that describes it."""
    planes = build.classic(build.pixels())
    masks = np.ones((5, 8, 6, 1), np.uint8)
    dataset = referring.seg(planes, masks, names=["m"], codes=[("SCT", "4147007", "Mass")])
    for keyword, value in segment.items():
        setattr(dataset if keyword == "Laterality" else dataset.SegmentSequence[0], keyword, value)
    (path,) = build.write(folder, [dataset])
    (concept,) = concepts_of(path, "seg")
    return concept


def values(codes: tuple[Code, ...]) -> list[str]:
    return [code.value for code in codes]


def test_a_seg_says_where_a_segment_is(tmp_path: Path) -> None:
    region = item(KIDNEY)
    region.AnatomicRegionModifierSequence = [item(LEFT)]
    concept = seg(tmp_path / "a", AnatomicRegionSequence=[region])
    assert concept.code is not None
    assert concept.code.value == MASS.value
    assert concept.category is not None
    assert concept.category.value == "123037004"
    assert values(concept.regions) == [KIDNEY.value]
    assert values(concept.region_modifiers) == [LEFT.value]
    structure = item(Code(scheme="SRT", value="T-62000", meaning="Liver"))
    concept = seg(tmp_path / "b", PrimaryAnatomicStructureSequence=[structure])
    assert values(concept.regions) == [LIVER.value]


@pytest.mark.parametrize(("written", "found"), [("R", [RIGHT.value]), ("B", []), ("", [])])
def test_the_laterality_of_the_file(written: str, found: list[str], tmp_path: Path) -> None:
    assert values(seg(tmp_path, Laterality=written).region_modifiers) == found


def test_the_laterality_of_the_frames(tmp_path: Path) -> None:
    planes = build.classic(build.pixels())
    masks = np.ones((5, 8, 6, 2), np.uint8)
    codes = [("SCT", "64033007", "Kidney")] * 2
    dataset = referring.seg(planes, masks, names=["a", "b"], codes=codes)
    for group in dataset.PerFrameFunctionalGroupsSequence:
        number = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        anatomy = Dataset()
        anatomy.AnatomicRegionSequence = [item(KIDNEY)]
        anatomy.FrameLaterality = "L" if number == 1 else "R"
        group.FrameAnatomySequence = [anatomy]
    (path,) = build.write(tmp_path, [dataset])
    found = [values(concept.region_modifiers) for concept in concepts_of(path, "seg")]
    assert found == [[LEFT.value], [RIGHT.value]]


def test_a_structure_set_says_it_too(tmp_path: Path) -> None:
    planes = build.classic(build.pixels())
    corners = referring.square(build.AXIAL, 2, 1.0, 4.0)
    dataset = referring.rtstruct(planes, {"m": [(2, corners)]})
    code = item(MASS)
    code.SegmentedPropertyTypeModifierCodeSequence = [item(RIGHT)]
    observation = dataset.RTROIObservationsSequence[0]
    observation.RTROIIdentificationCodeSequence = [code]
    observation.AnatomicRegionSequence = [item(KIDNEY)]
    (path,) = build.write(tmp_path, [dataset])
    (concept,) = concepts_of(path, "rtstruct")
    assert (concept.name, values(concept.modifiers)) == ("m", [RIGHT.value])
    assert values(concept.regions) == [KIDNEY.value]
