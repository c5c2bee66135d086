"""Coded concepts: what DICOM objects say that a label is.

A label's own code is taken from the label table and nowhere else. A label without one gets a code
of the private scheme ``99MEDSEG`` whose value is derived from its name, so that the same name has
the same code everywhere and no label passes for an organ that it is not (PS3.3 8.2, private coding
schemes start with 99).
"""

from __future__ import annotations

import colorsys
import hashlib
from functools import cache
from typing import TYPE_CHECKING, Any

from medseg_nca.config.labels import Code, Label
from medseg_nca.io.dicom.objects.values import text

if TYPE_CHECKING:
    from highdicom.sr import CodedConcept

PRIVATE_SCHEME = "99MEDSEG"
ANATOMICAL_STRUCTURE = Code(scheme="SCT", value="91723000", meaning="Anatomical Structure")
ABNORMAL_STRUCTURE = Code(
    scheme="SCT", value="49755003", meaning="Morphologically Abnormal Structure"
)
# Says that the segment is a region of space, and nothing about what the region is.
SPATIAL_CONCEPT = Code(scheme="SCT", value="309825002", meaning="Spatial and Relational Concept")
# PS3.16 CID 7150, Segmentation Property Category, and CID 7159, Lesion Segmentation Type. CID 7159
# also lists "Normal", which is no abnormality.
_LESIONS, _NORMAL = 7159, "17621005"
# Each next hue is a golden ratio away from the last, so any number of labels stay apart.
_GOLDEN = 0.618033988749895


def coded(label: Label) -> Code:
    """Return the code of a label: its own, or a private one derived from its name."""
    return label.code or private_code(label.name)


def private_code(name: str) -> Code:
    """Return the code of the private scheme for a name; case and outer blanks do not matter."""
    meaning = text(name) or "unnamed"
    digest = hashlib.sha256(meaning.casefold().encode()).hexdigest()
    return Code(scheme=PRIVATE_SCHEME, value=digest[:12].upper(), meaning=meaning)


def category(code: Code) -> Code:
    """Return the category of a segment with this code (PS3.16 CID 7150).

    Lesions (the codes of CID 7159) are morphologically abnormal structures, other public codes are
    anatomical structures; a private code is a mere region.
    """
    if code.scheme.startswith("99"):
        return SPATIAL_CONCEPT
    return ABNORMAL_STRUCTURE if is_lesion(code) else ANATOMICAL_STRUCTURE


def is_lesion(code: Code) -> bool:
    """Tell whether a code is of a lesion (PS3.16 CID 7159), whatever the organ."""
    return code.value in _lesions()


def concept(code: Code) -> CodedConcept:
    """Turn a code into highdicom's coded concept."""
    from highdicom.sr import CodedConcept

    return CodedConcept(value=code.value, scheme_designator=code.scheme, meaning=code.meaning)


def scheme_items(codes: list[Code]) -> list[Any]:
    """Return what names the private scheme in an object's header, if one of the codes is of it.

    PS3.3 C.12.1, Coding Scheme Identification Sequence.
    """
    from highdicom.coding_schemes import CodingSchemeIdentificationItem

    if not any(code.scheme == PRIVATE_SCHEME for code in codes):
        return []
    return [
        CodingSchemeIdentificationItem(
            designator=PRIVATE_SCHEME,
            name="Label names of medseg_nca models",
            responsible_organization="medseg_nca",
        )
    ]


def colour(index: int) -> tuple[int, int, int]:
    """Return the display colour (RGB, 0 to 255) of the label at an index of the label table."""
    hue = (0.02 + index * _GOLDEN) % 1.0
    lightness = (0.55, 0.7, 0.4)[index // 8 % 3]
    red, green, blue = colorsys.hls_to_rgb(hue, lightness, 0.9)
    return round(255 * red), round(255 * green), round(255 * blue)


@cache
def _lesions() -> frozenset[str]:
    from pydicom.sr.codedict import codes

    members = {str(code.value) for code in codes.cid7159.concepts.values()}
    return frozenset(members - {_NORMAL})
