"""What a segment is called: its name and its code, as read from a DICOM object."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, NamedTuple

from medseg_nca.config.labels import Code
from medseg_nca.io.dicom.files.attributes import items
from medseg_nca.io.dicom.objects.codes import PRIVATE_SCHEME

if TYPE_CHECKING:
    from pydicom import Dataset

# Designators of the SNOMED codes that DICOM used before 2018 (PS3.16 8.1).
_LEGACY_SNOMED = frozenset({"SRT", "SNM3", "99SDM"})
_NAME_LENGTH = 64
_SIDES = {
    "L": Code(scheme="SCT", value="7771000", meaning="Left"),
    "R": Code(scheme="SCT", value="24028007", meaning="Right"),
}


class Concept(NamedTuple):
    """All that an object says of what a segment is.

    Attributes:
        name: SegmentLabel or ROIName.
        code: the type; None where there is none, or one of ours.
        modifiers: tell apart what shares a code, for example Kidney with Left, and with Right.
        category: of the type, for example Anatomical Structure.
        regions: where it is: anatomic region and primary anatomic structure.
        region_modifiers: of the regions, for example the side.
    """

    name: str
    code: Code | None = None
    modifiers: tuple[Code, ...] = ()
    category: Code | None = None
    regions: tuple[Code, ...] = ()
    region_modifiers: tuple[Code, ...] = ()

    @property
    def codes(self) -> tuple[Code, ...]:
        """All codes but the category."""
        own = () if self.code is None else (self.code,)
        return (*own, *self.modifiers, *self.regions, *self.region_modifiers)


def clean_name(name: str, fallback: str = "segment") -> str:
    """Return a name without control characters and runs of blanks, at most 64 characters long."""
    normal = unicodedata.normalize("NFC", name)
    visible = (" " if unicodedata.category(c).startswith(("C", "Z")) else c for c in normal)
    return " ".join("".join(visible).split())[:_NAME_LENGTH].strip() or fallback


def read_codes(dataset: Dataset, keyword: str) -> tuple[Code, ...]:
    """Return the usable codes of a code sequence (PS3.3 8.8); none where it is absent.

    Legacy SNOMED codes (SRT, for example T-62000) become SCT where pydicom's table (PS3.16
    Annex O) knows them, and stay as they are where it does not. No code is made up.
    """
    found = (_read_code(item) for item in items(dataset, keyword))
    return tuple(code for code in found if code is not None)


def read_concept(name: str, item: Dataset, keyword: str, laterality: str = "") -> Concept:
    """Read what a segment or a ROI is.

    Args:
        name: as it is to be shown.
        item: that describes it, with its codes and those of its place.
        keyword: of the sequence with the codes of its type.
        laterality: L or R, where the file or its frames say so; other values say nothing.
    """
    modifiers: list[Code] = []
    for holder in (item, *items(item, keyword)):
        modifiers += read_codes(holder, "SegmentedPropertyTypeModifierCodeSequence")
    regions: list[Code] = []
    region_modifiers: list[Code] = []
    for what in ("AnatomicRegion", "PrimaryAnatomicStructure"):
        regions += read_codes(item, f"{what}Sequence")
        for holder in (item, *items(item, f"{what}Sequence")):
            region_modifiers += read_codes(holder, f"{what}ModifierSequence")
    if laterality in _SIDES:
        region_modifiers.append(_SIDES[laterality])
    categories = read_codes(item, "SegmentedPropertyCategoryCodeSequence")
    return Concept(
        name,
        public_code(read_codes(item, keyword)),
        tuple(dict.fromkeys(modifiers)),
        categories[0] if categories else None,
        tuple(dict.fromkeys(regions)),
        tuple(dict.fromkeys(region_modifiers)),
    )


def public_code(codes: tuple[Code, ...]) -> Code | None:
    """Return the first code, or None if it is one of ours.

    Our private codes are made of a label's name and say nothing more; a label that had no code has
    none after a round trip.
    """
    return codes[0] if codes and codes[0].scheme != PRIVATE_SCHEME else None


def _read_code(item: Dataset) -> Code | None:
    value = next(
        (
            str(item.get(keyword)).strip()
            for keyword in ("CodeValue", "LongCodeValue", "URNCodeValue")
            if item.get(keyword)
        ),
        "",
    )
    scheme = str(item.get("CodingSchemeDesignator") or "").strip()
    if not re.fullmatch(r"[\x21-\x7e]{1,256}", value) or not re.fullmatch(
        r"[\x21-\x7e]{1,16}", scheme
    ):
        return None
    return modern(
        Code(scheme=scheme, value=value, meaning=clean_name(str(item.get("CodeMeaning") or ""), ""))
    )


def modern(code: Code) -> Code:
    """Return the SCT code of a legacy SNOMED code, where it is known; else the code itself."""
    if code.scheme not in _LEGACY_SNOMED:
        return code
    from pydicom.sr._snomed_dict import mapping  # its own codes compare by it; no public name

    value = mapping["SRT"].get(code.value)
    return code if value is None else Code(scheme="SCT", value=value, meaning=code.meaning)
