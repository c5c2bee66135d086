"""Codes: taken from the label table, or private and derived from the name; never made up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg_nca.config import Label, LabelTable
from medseg_nca.config.labels import Code
from medseg_nca.io.dicom.check.codes import is_snomed
from medseg_nca.io.dicom.objects.codes import category, coded, colour, private_code

LIVER = Code(scheme="SCT", value="10200004", meaning="Liver")


def test_a_label_has_its_own_code_or_one_from_its_name() -> None:
    assert coded(Label(name="x", values=(1,), code=LIVER)) == LIVER
    private = coded(Label(name="Liver", values=(1,)))
    assert (private.scheme, private.meaning) == ("99MEDSEG", "Liver")
    assert private.value == private_code(" liver ").value == "EBAF48A97257"
    assert private_code("spleen").value != private.value


@given(st.text())
def test_private_codes_fit_into_dicom(name: str) -> None:
    code = private_code(name)
    assert len(code.value) == 12
    assert 1 <= len(code.meaning) <= 64
    assert "\\" not in code.meaning
    assert code == private_code(code.meaning)


def test_categories() -> None:
    neoplasm = Code(scheme="SCT", value="108369006", meaning="Neoplasm")
    assert category(LIVER).meaning == "Anatomical Structure"
    assert category(neoplasm).meaning == "Morphologically Abnormal Structure"
    assert category(private_code("tumour")).meaning == "Spatial and Relational Concept"


def test_colours_differ() -> None:
    colours = [colour(index) for index in range(60)]
    assert len(set(colours)) == 60
    for index, one in enumerate(colours[:12]):
        for other in colours[:index]:
            assert sum(abs(a - b) for a, b in zip(one, other, strict=True)) > 60


@pytest.mark.parametrize(
    ("value", "valid"),
    [
        ("5366008", True), ("78961009", True), ("41216001", True), ("10200004", True),
        ("64033007", True), ("255549009", True), ("5366009", False), ("5360668", False),
        ("12345", False), ("1020000٤", False), ("T-62000", False), ("", False),
    ],
)  # fmt: skip
def test_check_digits_of_snomed_codes(value: str, valid: bool) -> None:
    assert is_snomed(value) == valid


def test_labels_of_shipped_models_are_coded(repository: Path) -> None:
    specs = sorted((repository / "medseg_nca" / "zoo").glob("*/model.json"))
    assert specs
    for spec in specs:
        table = LabelTable.model_validate(json.loads(spec.read_text())["labels"])
        identities = [(label.code, label.modifier) for label in table.labels]
        assert len(set(identities)) == len(identities)
        for code in [c for pair in identities for c in pair if c is not None]:
            assert code.scheme == "SCT"
            assert is_snomed(code.value)
        assert all(label.code for label in table.labels)
