"""Find words that identify a patient in a text or in bytes, however they are written."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from itertools import permutations
from typing import TYPE_CHECKING

import numpy as np

from medseg_nca.io.dicom.deid.dates import names_day
from medseg_nca.io.dicom.deid.spelling import (
    decodings,
    is_ideographic,
    is_transliterable,
    latin,
    pattern,
    plain,
    readable,
    words_of,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from medseg_nca.io.dicom.deid.words import IdentityWords

# A name of this many letters is also found within a word. A shorter one is found only as a word of
# its own or as a part in camel case, because "Li" begins "Liver".
_SHORTEST_WITHIN = 5
_SHORTEST_WHOLE = 4
# Numbers of this many digits are also found with marks between the digits: 778 812, 77-88-12.
_SHORTEST_MARKED = 6
# Software cuts a text at these lengths (SH, LO).
_CUT_LENGTHS = frozenset({16, 64})
_SHORTEST_CUT = 3
# A UID has five dots or more, or more characters than a version number. The numbers in it are not
# searched for dates, because the whole UID is replaced.
UID = re.compile(r"(?<![\d.])(?=(?:\d+\.){5}|[\d.]{20})[0-2](?:\.\d+){2,}(?![\d.]*\d)")
_DOTTED = re.compile(
    r"(?<![^\W_])([^\W\d_])[.][\s_-]*([^\W\d_])(?:[.][\s_-]*([^\W\d_]))?[.]?(?![^\W_])"
)
# Clinical words that a name may follow without a blank, as in GTVXU.
_BEFORE = re.compile(r"^(?:i?gtv|ctv|ptv|itv|roi|oar|seg|tumou?r|patient|pat)+")
_BORN = re.compile(r"(?<![^\W_])([^\W\d_]{2,3})[\W_]*(\d{4}|\d{2})(?!\d)")
_MARKS = r"[ .,\-/_'’:]?"


@lru_cache(maxsize=64)
def finder(words: IdentityWords, loose: bool) -> Callable[[str], bool]:
    """A function that tells whether a text holds one of the words; it remembers its answers."""
    finder = _Finder(words, loose)
    return lru_cache(maxsize=4096)(finder.finds)


class _Finder:
    """The words as regular expressions."""

    def __init__(self, words: IdentityWords, loose: bool) -> None:
        self.words, self.loose = words, loose
        names = words.names if loose else {n for n in words.names if len(n) >= _SHORTEST_WHOLE}
        joined = words.joined if loose else frozenset()
        long = {n for n in {*names, *joined} if len(n) >= _SHORTEST_WITHIN and n not in joined}
        long |= {n for n in joined if len(n) >= 2 * _SHORTEST_CUT}
        self.short = _compiled(pattern(name) for name in {*names, *joined})
        self.long = _compiled(pattern(name) for name in long)
        self.ideographs = tuple(
            plain(name) for name in {*names, *joined} if len(name) > 1 and is_ideographic(name)
        )
        self.names = tuple(plain(name) for name in names)
        self.latin_names = tuple(name for name in self.names if name.isascii())
        self.identifiers = _compiled(
            [*map(_identifier_pattern, words.wholes), *map(_number_pattern, words.numbers)]
            if loose
            else [_identifier_pattern(w) for w in words.wholes if re.search(r"\d.*\d.*\d", w)]
        )

    def finds(self, text: str) -> bool:
        return any(self._finds(reading) for reading in decodings(text, every=True))

    def _finds(self, text: str) -> bool:
        whole = plain(text)
        if any(name in whole for name in self.ideographs):
            return True
        if self.identifiers is not None and self.identifiers.search(whole):
            return True
        if any(self._is_named(word) for word in words_of(text)):
            return True
        without_uids = UID.sub(" ", text)
        if names_day(without_uids, self.words.days, loose=self.loose):
            return True
        return self.loose and (self._has_initials(text) or self._is_cut(text))

    def _is_named(self, word: str) -> bool:
        known = plain(word)
        forms = (known, _BEFORE.sub("", known))
        if self.short is not None and any(map(self.short.fullmatch, forms)):
            return True
        if self.long is not None and self.long.search(known):
            return True
        if not is_transliterable(word):
            return False
        spelled = re.compile(pattern(word))
        if any(spelled.fullmatch(name) for name in self.latin_names):
            return True
        return self.long is not None and bool(self.long.search(latin(word)))

    def _has_initials(self, text: str) -> bool:
        """Letters with dots, Z.H., or with the year of birth, ZH41."""
        orders = {
            "".join(order) for one in self.words.initials for order in permutations(one, len(one))
        }
        orders |= {order[:2] for order in orders}
        text = readable(text)
        for match in _DOTTED.finditer(text):
            if plain("".join(letter for letter in match.groups() if letter)) in orders:
                return True
        years = {day.year for day in self.words.births}
        years |= {year % 100 for year in years}
        return any(
            match[1].isupper() and plain(match[1]) in orders and int(match[2]) in years
            for match in _BORN.finditer(text)
        )

    def _is_cut(self, text: str) -> bool:
        """Whether a text that fills its element ends with the beginning of a name."""
        ends = words_of(text)[-1:] if len(text) in _CUT_LENGTHS else ()
        return any(
            len(end) >= _SHORTEST_CUT and text.endswith(end) and name.startswith(plain(end))
            for end in ends
            for name in self.names
        )


def _compiled(patterns: Iterable[str]) -> re.Pattern[str] | None:
    ordered = sorted(set(patterns), key=lambda p: (-len(p), p))
    return re.compile("|".join(f"(?:{one})" for one in ordered)) if ordered else None


def _identifier_pattern(whole: str) -> str:
    """An identifier with any mark, or none, between its letters and digits."""
    characters = [c for c in whole if c.isalnum()]
    if len(whole) < _SHORTEST_WHOLE:
        return rf"(?<![^\W_]){re.escape(whole)}(?![^\W_])"
    if len(characters) < _SHORTEST_WITHIN or not any(c.isdigit() for c in characters):
        return re.escape(whole)
    before = r"(?<!\d)" if characters[0].isdigit() else ""
    after = r"(?!\d)" if characters[-1].isdigit() else ""
    return before + r"[\W_]?".join(map(re.escape, characters)) + after


def _number_pattern(digits: str) -> str:
    """A whole number, with zeros before it and marks in it."""
    marks = _MARKS if len(digits) >= _SHORTEST_MARKED else ""
    return rf"(?<!\d)(?:0{marks})*{marks.join(digits)}(?!\d)"


def holds_sign(content: bytes, words: IdentityWords) -> bool:
    """Whether bytes hold one of the words, in any case and in one of some codings."""
    signs = _signs(words)
    if not signs or len(content) < _SHORTEST_WITHIN:
        return False
    content = content.lower()
    begins = _beginnings(content)
    candidates = np.flatnonzero(np.isin(begins, np.array(list(signs), np.uint64)))
    return any(
        content.startswith(signs[begin], place)
        for place, begin in zip(candidates.tolist(), begins[candidates].tolist(), strict=True)
    )


def _beginnings(content: bytes) -> NDArray[np.uint64]:
    """The first bytes from every place on, as one number; as many as the shortest sign has."""
    single = np.frombuffer(content, np.uint8)
    count = len(single) - _SHORTEST_WITHIN + 1
    made = np.zeros(count, np.uint64)
    for place in range(_SHORTEST_WITHIN):
        made = (made << np.uint64(8)) | single[place : place + count]
    return made


@lru_cache(maxsize=64)
def _signs(words: IdentityWords) -> dict[int, tuple[bytes, ...]]:
    """Words as bytes, long enough not to be there by chance, by their first bytes."""
    texts = {word for word in words.wholes if len(word) >= _SHORTEST_WITHIN}
    texts |= {number for number in words.numbers if len(number) >= _SHORTEST_MARKED}
    for name in words.names:
        for form in {name, plain(name), latin(name)}:
            if len(form.encode()) >= _SHORTEST_WITHIN:  # bytes.lower() knows ASCII alone
                texts |= {form, form.title(), form.upper()}
    for day in words.days:
        texts |= {day.strftime(form) for form in ("%Y%m%d", "%Y-%m-%d", "%d.%m.%Y", "%Y:%m:%d")}
    codings = ("utf-8", "latin-1", "utf-16-le", "utf-16-be", "shift_jis", "gb18030", "euc_kr",
               "iso2022_jp", "iso8859_5", "iso8859_7", "cp1251")  # fmt: skip
    signs = {text.encode(coding, "ignore").lower() for text in texts for coding in codings}
    found: dict[int, tuple[bytes, ...]] = {}
    for sign in sorted(sign for sign in signs if len(sign) >= _SHORTEST_WITHIN):
        begin = int.from_bytes(sign[:_SHORTEST_WITHIN])
        found[begin] = (*found.get(begin, ()), sign)
    return found
