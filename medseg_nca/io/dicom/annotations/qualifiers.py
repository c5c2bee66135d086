"""What tells two names of the same organ apart, beside the side: numbers, positions, parts."""

from __future__ import annotations

import re

from medseg_nca.io.dicom.annotations.sides import is_side_word, words

# Words that say nothing of what is drawn: names that programs make up.
_NEUTRAL_WORDS = """
segment segments segmentation seg label labels roi region regions structure object mask contour
annotation untitled unnamed new segmento segmentacion struktur kontur maske
"""
# Words of one line mean the same. Those of at most four letters must be a whole word, longer ones
# may be a part of one (Nierentumor).
_GROUPS = """
ant anter vorder vorne
post poster hinter hinten
sup superi upper oberer obere oberes oben oberl oberp
inf inferi lower unterer untere unteres unten unterl unterp
mid middle mittler mittell moyen
crani krani
caud kaudal
medial
lateral
proxim
dist distal
intern inner
extern outer aussen
ventral
dorsal
central zentral
periph
ascend aszend
descend deszend
tumor tumour tumeur tumore neoplas опухол 腫瘍 肿瘤
lesion lasion lesione
cyst zyste kyste quist ciste cista киста
metas
mass masse masa massa
nodul nodule knoten
cancer krebs krebs karzin carcin
edema oedem odem
necro nekro
hemor haemor hamor
stone stein calcul
absce absze
aneury
throm
infar
fract frakt
cortex cortic kortex rinde
medull mark
cavity hohle
myocard myokard
zone zona
transition ubergang
wall wand paroi pared parete
lumen
vessel gefass vaisseau
vein vene veine vena
artery arteri arter
lobe lobus lappen lobo
capsul kapsel
parenchym
head kopf tete testa
body korper corps corpo
tail schwanz queue coda
neck hals
gtv
ctv
ptv
itv
prv
boost
ring
minus without ohne sans
"""
_STEMS = [(stem, line.split()[0]) for line in _GROUPS.splitlines() for stem in line.split()]
_NEUTRAL = frozenset(_NEUTRAL_WORDS.split())
_WHOLE, _SHORT = 4, 3
_ROMAN = re.compile(r"(?:i{1,3}|iv|vi{0,3}|ix|xi{0,2})[ab]?")
_NUMBERED = re.compile(r"\D{0,2}\d+\D?")


def qualifiers(name: str) -> tuple[str, ...]:
    """Return what a name says beyond an organ and its side, sorted.

    Numbers (also ``L5``, ``IVb``), single letters, and words of position, disease and part. A name
    of one word of two or three letters (``LV``) is a short form of who knows what. A name that is
    made of neutral words and numbers (``Segment_1``) says nothing.
    """
    found = words(name)
    if is_neutral(name):
        return ()
    result: set[str] = set()
    only = found[0] if len(found) == 1 and found[0].isascii() else ""
    if 0 < len(only) <= _SHORT and not is_side_word(only):
        result.add(only)
    for word in found:
        if re.search(r"\d", word):
            result.add(word if _NUMBERED.fullmatch(word) else "".join(re.findall(r"\d+", word)))
        elif (len(word) == 1 and not is_side_word(word)) or _ROMAN.fullmatch(word):
            result.add(word)
        result |= {group for stem, group in _STEMS if _matches(word, stem)}
    return tuple(sorted(result))


def is_neutral(name: str) -> bool:
    """Tell whether a name says nothing of what is drawn (``Segment_1``, ``ROI-2``)."""
    rest = [re.sub(r"\d+", "", word) for word in words(name)]
    return any(rest) and all(word in _NEUTRAL for word in rest if word)


def _matches(word: str, stem: str) -> bool:
    if len(stem) <= _WHOLE and stem.isascii():
        return word == stem
    return stem in word
