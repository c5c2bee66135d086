"""Which side of the body a name speaks of, in the languages and short forms that labels are in."""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

Side = Literal["", "left", "right", "both"]

# As `plain` writes them: without accents, in lower case. Whole words, in any place of a name.
_LEFT = """
left links linke linker linkes linken linkem linkse linkszijdig gauche gauches sinister sinistra
sinistro sinistrum sinistri sinistre izquierda izquierdo izquierdas izquierdos esquerda esquerdo
esquerdas esquerdos esquerra esquerre leva levy leve levou levem levej levo vlevo lijeva lijevi
lijevo lewa lewy lewe lewej lewego lewostronny vanster vanstra venstre vasen vasemman vasak stang
stanga levi kiri trai левый левая левое левой левого левом лева слева левосторонний ліва лівий
ліве лівої ляво лява αριστερα αριστερος αριστερη αριστερο يسار ايسر الايسر اليسرى يسرى שמאל שמאלי
שמאלית ซ้าย
"""
_RIGHT = """
right rechts rechte rechter rechtes rechten rechtem rechtse rechtszijdig droite droit droites droits
dexter dextra dextro dextrum dextri dextre destra destro destri destre derecha derecho derechas
derechos direita direito direitas direitos dreta dret prava pravy prave pravou pravem pravej pravo
vpravo desna desni desno prawa prawy prawe prawej prawego prawostronny hoger hogra hojre hoyre oikea
oikean dreapta drept kanan phai правый правая правое правой правого правом права справа
правосторонний правий праве правої дясно дясна δεξια δεξιος δεξι δεξιο يمين ايمن الايمن اليمنى يمنى
ימין ימני ימנית ขวา
"""
_BOTH = """
both bilateral bilat beide beider beidseits beidseitig bds bilaterale bilaterales bilaterais ambos
ambas entrambi entrambe obie oba обе оба двусторонний beidseitige 좌우 양측
"""
# Words of languages without blanks between words: they count anywhere in a name.
_LEFT_PARTS = ("左", "왼", "좌측", "ひだり", "שמאל")
_RIGHT_PARTS = ("右", "오른", "우측", "みぎ", "ימין")
# Korean syllables in front of an organ; the third is a bone (ischium) and not the left of anything.
_LEFT_START, _RIGHT_START, _OTHER_START = "좌", "우", "좌골"
# Words that are joined to an organ without a blank, as in Niererechts or lefthippocampus.
_LEFT_ENDS = ("left", "links", "gauche", "izquierda", "izquierdo", "sinistra", "esquerda")
_RIGHT_ENDS = ("right", "rechts", "droite", "derecha", "derecho", "dextra", "direita")
_OTHER_WORDS = frozenset({"bright", "upright", "cleft"})
# Short forms, as the first or the last word of a name.
_SHORT_LEFT = """
l li lt lft lh lks lk sin sn gch ga izq izqda izqdo iz esq lev lew va bal sol stg лев л
"""
_SHORT_RIGHT = """
r re rt rgt rh rts rks rk dex dext dx dr drt dte der dcha dcho dir prav praw pr ho jobb sag пр п
"""

# Letters with a stroke are none with an accent to Unicode.
_STROKES = str.maketrans("øØłŁđĐıßħĦ", "oOlLdDishH")
_MARKS_OF_CASE = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_WORDS = re.compile(r"[^\W_]+")


def plain(name: str) -> str:
    """Return a name without accents and differences of width; upper and lower case are kept."""
    if name.isascii():
        return name
    apart = unicodedata.normalize("NFKD", name.translate(_STROKES))
    bare = "".join(c for c in apart if unicodedata.category(c) != "Mn" or not _removable(c))
    return unicodedata.normalize("NFKC", bare)


def words(name: str) -> list[str]:
    """Return the words of a name in plain lower case; ``KidneyL`` has two, ``L5`` is one."""
    return [word.casefold() for word in _WORDS.findall(_MARKS_OF_CASE.sub(" ", plain(name)))]


def side(name: str, *, short: bool = True) -> Side:
    """Return the side that a name speaks of.

    Whole words count in any place, and only where there is none, short forms (``L``, ``re``,
    ``dx``, ``izq``) as the first or last word. A name that speaks of left and right is of both.

    Args:
        name: of a segment.
        short: whether short forms count.
    """
    found = words(name)
    left, right = any(map(_is_left, found)), any(map(_is_right, found))
    if (left and right) or any(word in _BOTH_WORDS for word in found):
        return "both"
    if left or right:
        return "left" if left else "right"
    if not short or not found:
        return ""
    outer = {found[0], found[-1]}
    left, right = bool(outer & _SHORT_LEFT_WORDS), bool(outer & _SHORT_RIGHT_WORDS)
    if left and right:
        return "both"
    return "left" if left else "right" if right else ""


def is_side_word(word: str) -> bool:
    """Tell whether a word, as of :func:`words`, may name a side."""
    short = word in _SHORT_LEFT_WORDS or word in _SHORT_RIGHT_WORDS
    return short or word in _BOTH_WORDS or _is_left(word) or _is_right(word)


def _is_left(word: str) -> bool:
    before = word.startswith(_LEFT_START) and not word.startswith(_OTHER_START)
    return before or _has(word, _LEFT_WORDS, _LEFT_PARTS, _LEFT_ENDS)


def _is_right(word: str) -> bool:
    before = word.startswith(_RIGHT_START)
    return before or _has(word, _RIGHT_WORDS, _RIGHT_PARTS, _RIGHT_ENDS)


def _has(word: str, whole: frozenset[str], parts: tuple[str, ...], ends: tuple[str, ...]) -> bool:
    bare = word.strip("0123456789")
    if bare in whole or any(plain(part) in word for part in parts):
        return True
    return bare not in _OTHER_WORDS and (bare.endswith(ends) or bare.startswith(ends))


def _removable(mark: str) -> bool:
    """Accents; the vowels of Thai and the sound marks of Japanese are letters of their own."""
    return not ("\u0e00" <= mark <= "\u0e7f" or mark in "\u3099\u309a")


def _set(text: str) -> frozenset[str]:
    return frozenset(plain(word).casefold() for word in text.split())


_LEFT_WORDS, _RIGHT_WORDS, _BOTH_WORDS = _set(_LEFT), _set(_RIGHT), _set(_BOTH)
_SHORT_LEFT_WORDS, _SHORT_RIGHT_WORDS = _set(_SHORT_LEFT), _set(_SHORT_RIGHT)
