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


class Concept(NamedTuple):
    """A name and, where there is one, a code.

    ``modifiers`` tell apart what shares a code, for example Kidney with Left, and with Right.
    """

    name: str
    code: Code | None = None
    modifiers: tuple[Code, ...] = ()


def clean_name(name: str, fallback: str = "segment") -> str:
    """Return a name without control characters and runs of blanks, at most 64 characters long."""
    normal = unicodedata.normalize("NFC", name)
    visible = (" " if unicodedata.category(c).startswith(("C", "Z")) else c for c in normal)
    return " ".join("".join(visible).split())[:_NAME_LENGTH].strip() or fallback


def side(name: str) -> str:
    """Return "left" or "right" if a name says so in English or ends in l or r; else ""."""
    words = re.findall(r"[a-z]+", name.casefold())
    sides = {"left": "left", "l": "left", "right": "right", "r": "right"}
    found = {sides[word] for word in words if word in sides}
    return found.pop() if len(found) == 1 else ""


def read_codes(dataset: Dataset, keyword: str) -> tuple[Code, ...]:
    """Return the usable codes of a code sequence (PS3.3 8.8); none where it is absent.

    Legacy SNOMED codes (SRT, for example T-62000) become SCT where pydicom's table (PS3.16
    Annex O) knows them, and stay as they are where it does not. No code is made up.
    """
    found = (_read_code(item) for item in items(dataset, keyword))
    return tuple(code for code in found if code is not None)


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
