"""Whether codes exist and mean what they say, as far as pydicom's tables know them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

from medseg_nca.io.dicom.check.rules import ObjectFinding, error, warning
from medseg_nca.io.dicom.objects.codes import PRIVATE_SCHEME, private_code

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# Tables of the Verhoeff check digit, which ends every SNOMED CT identifier.
_TIMES = (
    "0123456789", "1234067895", "2340178956", "3401289567", "4012395678",
    "5987604321", "6598710432", "7659821043", "8765932104", "9876543210",
)  # fmt: skip
_TURNS = (
    "0123456789", "1576283094", "5803796142", "8916043527",
    "9453126870", "4286573901", "2793806415", "7046913258",
)  # fmt: skip


def code_rules(item: Dataset, where: str) -> Iterator[ObjectFinding]:
    """Check one item of a code sequence (PS3.3 8.8).

    Args:
        item: the item.
        where: what it describes, for messages.
    """
    value, scheme = str(item.get("CodeValue", "")), str(item.get("CodingSchemeDesignator", ""))
    meaning = str(item.get("CodeMeaning", ""))
    if not meaning or (
        not value and not item.get("LongCodeValue") and not item.get("URNCodeValue")
    ):
        yield error(f"{where}: its code has no value or no meaning")
    if scheme == PRIVATE_SCHEME and value != private_code(meaning).value:
        yield error(f"{where}: its private code is not that of its name")
    if scheme != "SCT" or not value:
        return
    if not is_snomed(value):
        yield error(f"{where}: {value} is no SNOMED CT code (its check digit is wrong)")
        return
    known = _meanings().get(value)
    if known is None:
        yield warning(f"{where}: SCT {value} is not in the tables of PS3.16 that pydicom knows")
    elif not any(_same(meaning, other) for other in known):
        yield warning(f"{where}: SCT {value} means {known[0]!r} in PS3.16, not {meaning!r}")


def is_snomed(value: str) -> bool:
    """Tell whether a text can be a SNOMED CT identifier: 6 to 18 digits with their check digit."""
    if not (value.isascii() and value.isdigit() and 6 <= len(value) <= 18):
        return False
    check = 0
    for place, digit in enumerate(reversed(value)):
        check = int(_TIMES[check][int(_TURNS[place % 8][int(digit)])])
    return check == 0


def _same(first: str, second: str) -> bool:
    """Equal but for case and the word in brackets that ends SNOMED's full names."""
    names = (text.split(" (")[0].casefold().strip() for text in (first, second))
    one, other = (name.removesuffix(" structure") for name in names)
    return one == other


@cache
def _meanings() -> dict[str, list[str]]:
    from pydicom.sr import _concepts_dict

    concepts: Any = _concepts_dict.concepts
    found: dict[str, list[str]] = {}
    for codes in concepts["SCT"].values():
        for value, (meaning, _) in codes.items():
            found.setdefault(value, []).append(meaning)
    return found
