"""The words that name a patient, so that they are found where none belong.

A table of attributes cannot know that someone typed a name into a segment's label. What identifies
the patient in the attributes made for it (names, identifiers, dates; :mod:`.collect`) is therefore
searched for in everything that is kept (:mod:`.finder`). Words of all files of a patient and of a
study belong together: see :meth:`IdentityWords.__or__`.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Any

from medseg_nca.io.dicom.deid.dates import has_full_date
from medseg_nca.io.dicom.deid.finder import UID, finder, holds_sign


@dataclass(frozen=True)
class IdentityWords:
    """What identifies a patient and the staff, in the form in which it is compared.

    Attributes:
        names: parts of names, composed, lower case; those of two letters and more.
        joined: names written as one word, with short parts and initials.
        wholes: identifiers and addresses, plain.
        numbers: digits of identifiers, without zeros at their start.
        initials: of the patient, the letters in one word.
        days: every date of the header.
        births: those of them that are dates of birth.
    """

    names: frozenset[str] = frozenset()
    joined: frozenset[str] = frozenset()
    wholes: frozenset[str] = frozenset()
    numbers: frozenset[str] = frozenset()
    initials: frozenset[str] = frozenset()
    days: frozenset[datetime.date] = frozenset()
    births: frozenset[datetime.date] = frozenset()

    def __or__(self, other: IdentityWords) -> IdentityWords:
        """The words of both."""
        return self if self == other else united([self, other])

    def found_in(self, text: str, *, loose: bool = True) -> bool:
        """Whether a text names the patient or someone of the staff, or a date of the header.

        Args:
            text: any.
            loose: False for codes: forms that stand in a code by chance do not count.
        """
        return finder(self, loose)(text)

    def found_in_label(self, text: str) -> bool:
        """:meth:`found_in`, or any whole date: a person typed it, so it is one."""
        return self.found_in(text) or has_full_date(text)

    def found_in_bytes(self, content: bytes) -> bool:
        """Whether a binary value holds such a word, in any 8-bit coding or UTF-16."""
        return holds_sign(content, self)

    def listed(self) -> list[list[str]]:
        """All of it as plain sorted values, from which a fingerprint is made."""
        return [sorted(map(str, getattr(self, f.name))) for f in fields(self)]


def united(several: Iterable[IdentityWords]) -> IdentityWords:
    """The words of all."""
    several = list(several)
    if len(several) == 1:
        return several[0]
    return IdentityWords(
        **{f.name: frozenset().union(*(getattr(one, f.name) for one in several))
           for f in fields(IdentityWords)}
    )  # fmt: skip


def uids_in(text: str) -> Iterator[re.Match[str]]:
    """Yield everything in a text that looks like a UID."""
    return UID.finditer(text)


def is_several(value: Any) -> bool:
    """Whether the value of an element is a list of values."""
    return isinstance(value, list | tuple) or type(value).__name__ == "MultiValue"
