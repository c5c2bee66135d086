"""The side that a name speaks of, in the languages that labels come in."""

from __future__ import annotations

import pytest

from medseg_nca.io.dicom.annotations.qualifiers import is_neutral, qualifiers
from medseg_nca.io.dicom.annotations.sides import plain, side, words


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("Left kidney", "right kidney"),
        ("KIDNEY, LEFT", "KIDNEY, RIGHT"),
        ("Niere links", "Niere rechts"),
        ("linke Niere", "rechte Niere"),
        ("Niere li.", "Niere re."),
        ("Li Niere", "Re Niere"),
        ("rein gauche", "rein droit"),
        ("riñón izquierdo", "riñón derecho"),
        ("riñon izq", "riñon der"),
        ("rene sinistro", "rene destro"),
        ("rene sn", "rene dx"),
        ("ren sinister", "ren dexter"),
        ("kidney (sin.)", "kidney (dex.)"),
        ("rim esquerdo", "rim direito"),
        ("linker nier", "rechter nier"),
        ("levá ledvina", "pravá ledvina"),
        ("lewa nerka", "prawa nerka"),
        ("vänster njure", "höger njure"),
        ("venstre nyre", "høyre nyre"),
        ("vasen munuainen", "oikea munuainen"),
        ("левая почка", "правая почка"),
        ("ПОЧКА Л.", "ПОЧКА ПР."),
        ("αριστερός νεφρός", "δεξιός νεφρός"),
        ("左肾", "右肾"),
        ("左腎", "右腎"),
        ("왼쪽 신장", "오른쪽 신장"),
        ("좌측 신장", "우측 신장"),
        ("좌신장", "우신장"),
        ("신장(좌)", "신장(우)"),
        ("الكلية اليسرى", "الكلية اليمنى"),
        ("כליה שמאלית", "כליה ימנית"),
        ("sol böbrek", "sağ böbrek"),
        ("kidney_L", "kidney_R"),
        ("L Kidney", "R Kidney"),
        ("L", "R"),
        ("LK", "RK"),
        ("Kidney-lt", "Kidney-rt"),
        ("lh_hippocampus", "rh_hippocampus"),
        ("KidneyL", "KidneyR"),
        ("leftKidney", "rightKidney"),
        ("nierelinks", "niererechts"),
        ("kidney_left_1", "kidney_right_1"),
        ("Kidney left2", "Kidney right2"),
    ],
)
def test_left_and_right(left: str, right: str) -> None:
    assert (side(left), side(right)) == ("left", "right")
    decomposed = {"ñ": "n\u0303", "ó": "o\u0301", "ä": "a\u0308", "ö": "o\u0308", "á": "a\u0301"}
    for whole, parts in decomposed.items():
        assert side(left.replace(whole, parts)) == "left"


@pytest.mark.parametrize(
    "name",
    [
        "kidney",
        "L5",
        "vertebra L1",
        "upright liver",
        "bright spot",
        "Kopf der Drüse",
        "좌골",
        "A",
        "LV",
        "",
    ],
)
def test_no_side(name: str) -> None:
    assert side(name) == ""


@pytest.mark.parametrize("name", ["both kidneys", "left and right kidney", "Nieren beidseits"])
def test_both(name: str) -> None:
    assert side(name) == "both"


def test_short_forms_count_only_where_no_word_does() -> None:
    assert side("right lobe L") == "right"
    assert side("Kidney L", short=False) == ""


def test_words_are_plain() -> None:
    assert words("Höger_njure (KidneyL) L5") == ["hoger", "njure", "kidney", "l", "l5"]
    assert plain("Ｌｅｆｔ łewa") == "Left lewa"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Vertebra L1", "Vertebra L2"),
        ("rib 3", "rib 4"),
        ("Liver segment IVa", "Liver segment IVb"),
        ("Lesion A", "Lesion B"),
        ("upper lobe", "lower lobe"),
        ("Lunge oben", "Lunge unten"),
        ("Oberlappen", "Unterlappen"),
        ("hippocampus anterior", "hippocampus posterior"),
        ("Liver", "Liver tumour"),
        ("Niere", "Nierentumor"),
        ("renal cortex", "renal medulla"),
        ("LV", "RV"),
    ],
)
def test_what_tells_names_apart(one: str, other: str) -> None:
    assert qualifiers(one) != qualifiers(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("Liver", "hepar"), ("Leber", "foie"), ("Segment_1", "Segment_2"), ("tumor", "tumour")],
)
def test_what_does_not(one: str, other: str) -> None:
    assert qualifiers(one) == qualifiers(other)


def test_names_that_programs_make_up() -> None:
    assert all(map(is_neutral, ("Segment_1", "ROI 2", "label3", "New Region")))
    assert not any(map(is_neutral, ("Liver 1", "12", "Liver segment", "")))
