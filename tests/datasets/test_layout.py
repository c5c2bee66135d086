"""Names that come from outside become harmless."""

from __future__ import annotations

import re
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from medseg_nca.datasets.layout import modality_of, safe_id


@given(st.text())
@example("..")
@example("")
@example("-rf")
@example("a/../b")
def test_an_id_is_always_one_plain_file_name(text: str) -> None:
    name = safe_id(text)
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", name)
    assert Path(name).name == name
    assert safe_id(name) == name


def test_modality() -> None:
    assert modality_of(("CT",)) == "CT"
    assert modality_of(("FLAIR", "T1w", "t1gd", "T2w")) == "MRI"
    assert modality_of(("CT", "PET")) == "unknown"
    assert modality_of(("red", "green", "blue")) == "unknown"
