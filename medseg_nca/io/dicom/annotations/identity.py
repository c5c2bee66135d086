"""What decides whether two segments, of one case or of two, are the same label."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, NamedTuple

from medseg_nca.config.labels import Code
from medseg_nca.io.dicom.annotations.concepts import Concept
from medseg_nca.io.dicom.annotations.qualifiers import is_neutral, qualifiers
from medseg_nca.io.dicom.annotations.sides import is_side_word, side, words
from medseg_nca.io.dicom.objects.codes import is_lesion

_SIDES = {"SCT:7771000": "left", "SCT:24028007": "right", "SCT:51440002": "both"}
# Types that name no particular organ: those of PS3.16 CID 7150, and general words that are used in
# the same way (organ, body structure, region of interest).
_GENERIC = {
    "SCT:91723000", "SCT:91720002", "SCT:246464006", "SCT:49755003", "SCT:260787004",
    "SCT:309825002", "SCT:105590001", "SCT:85756007", "SCT:113343008", "SCT:123037004",
    "DCM:111030", "DCM:113076", "DCM:130488",
}  # fmt: skip
_PRIVATE = "99"
_WORDINESS = re.compile(r"\([^)]*\)|\bstructure( of)?\b|\bentire\b", re.IGNORECASE)


class Identity(NamedTuple):
    """What tells segments apart: equal ones are one label.

    Codes count by scheme and value, as their meanings are free text, and in any order.

    Attributes:
        type, category: the property type and its category; "" where there is none.
        modifiers, regions, region_modifiers: all codes but those of a side.
        side: of the codes, else of the name; both of them where they contradict each other.
        detail: what only the name says: all of it where the type names no organ, else numbers and
            words such as "upper" or "tumour", and the name of an organ that the code is not.
    """

    type: str
    category: str
    modifiers: tuple[str, ...]
    regions: tuple[str, ...]
    region_modifiers: tuple[str, ...]
    side: str
    detail: tuple[str, ...]


def identity(concept: Concept) -> Identity:
    """Return what a segment is; one without a code of its type is what it is called."""
    name = concept.name.casefold()
    which, category = _coded_side(concept), ""
    detail: tuple[str, ...] = (name,)
    if concept.code is not None:
        which = _side(concept.name, which)
        detail, category = _detail(concept), _text(concept.category)
    return Identity(
        _text(concept.code),
        category,
        _texts(concept.modifiers),
        _texts(concept.regions),
        _texts(concept.region_modifiers),
        which,
        detail,
    )


def by_codes(concept: Concept) -> Identity:
    """Return what a segment is by its codes alone, whatever it is called."""
    return identity(concept)._replace(side=_coded_side(concept), detail=())


def contradicts_itself(concept: Concept) -> bool:
    """Tell whether name and codes of a segment speak of different sides."""
    coded, named = _coded_side(concept), side(concept.name, short=False)
    return bool(coded and named and coded != named)


def _side(name: str, coded: str) -> str:
    named = side(name, short=not coded)
    if coded and named and coded != named:
        return f"{coded}, called {named}"
    return coded or named


def _coded_side(concept: Concept) -> str:
    """The side by the codes: modifiers first, else types and regions such as "Left atrium"."""
    modifiers = (*concept.modifiers, *concept.region_modifiers)
    found = {_SIDES.get(_text(code), "") for code in modifiers} - {""}
    if not found:
        organs = (code for code in (concept.code, *concept.regions) if code is not None)
        found = {str(side(_meaning(code), short=False)) for code in organs} - {""}
    return found.pop() if len(found) == 1 else "both" if found else ""


def _detail(concept: Concept) -> tuple[str, ...]:
    code = concept.code
    if code is None or _names_no_organ(code, concept.regions):
        return (concept.name.casefold(),)
    return (*qualifiers(concept.name), *_other_organ(concept.name, code))


def _names_no_organ(code: Code, regions: tuple[Code, ...]) -> bool:
    if code.scheme.startswith(_PRIVATE) or _text(code) in _GENERIC:
        return True
    return is_lesion(code) and not regions


def _other_organ(name: str, code: Code) -> tuple[str, ...]:
    """The name where it is the standard's word for another code of the same scheme."""
    if is_neutral(name):
        return ()
    found = [word for word in words(name) if not word.isdigit()]
    bare = " ".join(word for word in found if not is_side_word(word))
    if bare == " ".join(words(_WORDINESS.sub(" ", _meaning(code)))):
        return ()
    meant = {*_values(code.scheme, bare), *_values(code.scheme, " ".join(found))}
    return (bare,) if meant and code.value not in meant else ()


def _text(code: Code | None) -> str:
    return "" if code is None else f"{code.scheme}:{code.value}"


def _texts(codes: Iterable[Code]) -> tuple[str, ...]:
    return tuple(sorted({_text(code) for code in codes} - set(_SIDES)))


def _meaning(code: Code) -> str:
    """The standard's name of a code, in plain words; "" where it has none."""
    return _names(code.scheme).get(code.value, "")


def _values(scheme: str, name: str) -> frozenset[str]:
    """The codes that the standard calls so."""
    return _codes(scheme).get(name, frozenset())


@cache
def _names(scheme: str) -> dict[str, str]:
    return {value: meaning for _, value, meaning in _concepts(scheme)}


@cache
def _codes(scheme: str) -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for keyword, value, meaning in _concepts(scheme):
        for name in (keyword, _WORDINESS.sub(" ", meaning)):
            found.setdefault(" ".join(words(name)), set()).add(value)
    return {name: frozenset(values) for name, values in found.items()}


def _concepts(scheme: str) -> Iterator[tuple[str, str, str]]:
    """Keyword, value and meaning of every concept of a scheme that the standard names."""
    from pydicom.sr import _concepts_dict  # there is no public way from a value to its name

    concepts: dict[str, Any] = _concepts_dict.concepts
    for keyword, known in concepts.get(scheme, {}).items():
        for value, (meaning, *_) in known.items():
            yield keyword, value, meaning
