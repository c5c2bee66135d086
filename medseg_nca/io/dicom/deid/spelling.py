"""How one name is written in several ways: other alphabets, umlauts, accents, joined words.

Nothing here decides what is a name. :func:`plain` brings texts to one form, :func:`words_of` cuts
them into words, and :func:`pattern` finds a name however it is spelled: Müller, Mueller, MULLER;
Παπαδόπουλος, Papadopoulos; Жуков, Zhukov, Schukow.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import pairwise

# Ideographs, kana, Hangul: words stand without blanks between them.
_IDEOGRAPHS = "\u2e80"
_MARK = (
    "[\u0300-\u036f\u0483-\u0487\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7"
    "\u0610-\u061a\u0640\u064b-\u065f\u0670]"
)
_MARKS = re.compile(_MARK)
_WORD = re.compile(rf"[^\W\d_](?:[^\W\d_]|{_MARK})*")
# Letters that Unicode does not take apart, and forms of one letter.
_BASIC = {
    "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i", "ŋ": "n",
    "ħ": "h", "ə": "e", "ĸ": "k", "ŧ": "t", "ƒ": "f", "ς": "σ", "ى": "ي", "ة": "ه", "ی": "ي",
    "ک": "ك", "ך": "כ", "ם": "מ", "ן": "נ", "ף": "פ", "ץ": "צ",
}  # fmt: skip
# What people and offices write for a letter, beside the letter without its marks.
_LATIN = {
    "ä": "ae", "ö": "oe", "ü": "ue|y|v", "ø": "oe|ö", "å": "aa|o", "æ": "a|e", "œ": "o|e",
    "ő": "oe", "ű": "ue", "đ": "dj|dh", "ð": "dh|th", "þ": "t", "ğ": "gh|", "ş": "sh|sch",
    "ș": "sh", "š": "sh|sch", "ç": "ch|tsch", "č": "ch|tsch", "ć": "ch", "ž": "zh|j", "ż": "zh",
    "ź": "zh", "ñ": "ny|nh|gn", "ń": "ny", "ł": "w", "ə": "a|ae", "ř": "rz|rsch", "ý": "i",
    "ā": "aa", "ē": "ee|ei", "ī": "ii", "ō": "ou|oo|oh", "ū": "uu", "ě": "ie", "ț": "ts|tz",
    "ţ": "ts|tz", "í": "ii|y",
}  # fmt: skip
_GREEK = {
    "ου": "ou|u|oo", "αυ": "av|af|au", "ευ": "ev|ef|eu", "μπ": "b|mp|mb", "ντ": "d|nt|nd",
    "γκ": "g|gk|ng", "γγ": "ng|gg", "αι": "ai|e|ae", "ει": "ei|i", "οι": "oi|i|oe", "τζ": "tz|j",
    "α": "a", "β": "v|b", "γ": "g|y|gh", "δ": "d|dh", "ε": "e", "ζ": "z", "η": "i|e|h",
    "θ": "th|t", "ι": "i", "κ": "k|c", "λ": "l", "μ": "m", "ν": "n", "ξ": "x|ks", "ο": "o",
    "π": "p", "ρ": "r|rh", "σ": "s|ss", "τ": "t", "υ": "y|i|u", "φ": "f|ph", "χ": "ch|h|x|kh",
    "ψ": "ps", "ω": "o|w",
}  # fmt: skip
_CYRILLIC = {
    "кс": "x|ks", "дж": "j|dzh|dj|dsch",
    "а": "a", "б": "b", "в": "v|w|ff|f", "г": "g|h", "ґ": "g", "д": "d", "е": "e|ye|je|ie|yo|jo",
    "ё": "e|yo|jo|io|o", "є": "ye|je|ie", "ж": "zh|j|z|sch|sh|g", "з": "z|s", "и": "i|y",
    "і": "i|y", "ї": "i|yi|ji|ii", "й": "y|j|i|", "к": "k|c", "л": "l", "м": "m", "н": "n",
    "о": "o", "п": "p", "р": "r", "с": "s|ss", "т": "t", "у": "u|ou|oo", "ў": "u|w", "ф": "f|ph",
    "х": "kh|h|ch|x", "ц": "ts|tz|c|z", "ч": "ch|tch|tsch|c", "ш": "sh|sch|s|ch",
    "щ": "shch|sch|schtsch|sc|sht|shh|s", "ъ": "|ie", "ы": "y|i", "ь": "|y|j", "э": "e|je",
    "ю": "yu|ju|iu|u", "я": "ya|ja|ia|a", "ђ": "dj|d", "ј": "j|y", "љ": "lj|ly", "њ": "nj|ny",
    "ћ": "c|ch", "џ": "dz|dzh|dj", "ѓ": "gj", "ќ": "kj",
}  # fmt: skip
_ALPHABETS = _GREEK | _CYRILLIC
# Letters that stand for a long vowel or an umlaut and are often dropped: Mueller and Muller, Tarou
# and Taro.
_FUZZY = {"a": "ae", "o": "eou", "u": "eu", "s": "s"}
# Shorter names must match letter by letter, or "no" would be found for "Noe".
_SHORTEST_FUZZY = 4
# Character sets in which names may be written although the file does not say so: first those where
# some letters are beyond ASCII, then those where most are.
_WESTERN = (
    "latin-1", "iso8859_2", "cp1250", "iso8859_9", "iso8859_4", "cp1257", "cp850", "mac_roman",
    "shift_jis",
)  # fmt: skip
_FOREIGN = (
    "gb18030", "big5", "shift_jis", "euc_jp", "euc_kr", "cp1251", "koi8_r", "iso8859_5", "cp866",
    "iso8859_7", "cp1253", "cp1250", "iso8859_2", "iso8859_6", "cp1256", "iso8859_8", "cp1255",
    "cp874",
)  # fmt: skip
_ESCAPED = ("iso2022_jp_2", "iso2022_jp_ext")
_ESCAPE = re.compile(rb"\x1b[$()\-./]{1,2}.")
# What pydicom may have taken such a text for.
_DECLARED = (
    "latin-1", "iso8859_2", "iso8859_3", "iso8859_4", "iso8859_5", "iso8859_6", "iso8859_7",
    "iso8859_8", "iso8859_9", "cp874",
)  # fmt: skip
_SPACED = re.compile(r"(?<![^\W_])[^\W\d_](?:[ ._-][^\W\d_]){3,}(?![^\W_])")
_JOINTS = re.compile(r"(?<=[^\W\d_])[-'’ʼ‘`´‐‑](?=[^\W\d_])")


def readable(text: str) -> str:
    """Composed characters in their usual width, without invisible ones, digits as 0 to 9."""
    visible = "".join(c for c in text if unicodedata.category(c) != "Cf")
    composed = unicodedata.normalize("NFKC", visible)
    if composed.isascii():
        return composed
    return "".join(str(unicodedata.decimal(c, c)) for c in composed)


@lru_cache(maxsize=4096)
def plain(text: str) -> str:
    """A text in lower case without accents; katakana as hiragana. Alphabets stay what they are."""
    text = readable(text).casefold()
    if text.isascii():
        return text
    bare = _MARKS.sub("", unicodedata.normalize("NFD", text))
    composed = unicodedata.normalize("NFC", bare)
    return "".join(_BASIC.get(c) or _hiragana(c) for c in composed)


@lru_cache(maxsize=4096)
def words_of(text: str) -> tuple[str, ...]:
    """The words of a text as they stand in it, and the parts of those written together.

    ``GTVXuBo1`` gives itself without its number, GTV, Xu and Bo. What a hyphen or an apostrophe
    joins is also given as one word, and so are single letters: N O W A K.
    """
    text = readable(text)
    found: dict[str, None] = {}
    joined = _SPACED.sub(lambda match: re.sub(r"[\W_]", "", match[0]), text)
    for form in dict.fromkeys((text, _JOINTS.sub("", text), joined)):
        for word in _WORD.findall(form):
            found[word] = None
            found.update(dict.fromkeys(_parts(word)))
    return tuple(found)


@lru_cache(maxsize=4096)
def pattern(word: str) -> str:
    """A regular expression for the spellings of a word, for texts that are :func:`plain`."""
    word = unicodedata.normalize("NFC", readable(word)).casefold()
    letters = sum(c.isalpha() for c in word)
    made, place = [], 0
    while place < len(word):
        pair, one = plain(word[place : place + 2]), word[place]
        if len(pair) == 2 and pair in _ALPHABETS:
            made.append(_any_of(pair, *_ALPHABETS[pair].split("|")))
            place += 2
            continue
        base = plain(one)
        if one in _LATIN:
            made.append(_any_of(base, *_LATIN[one].split("|")))
        elif base in _ALPHABETS:  # й and ё have spellings of their own
            made.append(_any_of(base, *_ALPHABETS.get(one, _ALPHABETS[base]).split("|")))
        elif base in _FUZZY and letters >= _SHORTEST_FUZZY:
            made.append(f"{base}[{_FUZZY[base]}]?")
            place += word[place + 1 : place + 2] in {*_FUZZY[base]}
        else:
            made.append(re.escape(base))
        place += 1
    return "".join(made)


@lru_cache(maxsize=4096)
def decodings(text: str, every: bool = False) -> tuple[str, ...]:
    """A text, and what it is if its character set was not told, or a wrong one.

    MÃ¼ller is Müller, Wa³êsa is Wałęsa. What was decoded in vain is left out where something else
    makes words.

    Args:
        text: any.
        every: also character sets that are not likely for it: for a text in which known words are
            searched, not for one of which words are made.
    """
    if text.isascii() and "\x1b" not in text:
        return (text,)
    found = {reading: None for raw in _raws(text) for reading in readings(raw, every)}
    own = () if found and not every and not _is_of_words(text) else (text,)
    return tuple(dict.fromkeys((*own, *found)))


def readings(raw: bytes, every: bool = False) -> Iterator[str]:
    """The texts that bytes may be, in character sets in which they are whole words."""
    if b"\x1b" in raw:  # each component begins anew, whether the one before it has ended or not
        parts = [list(_decoded(part, _ESCAPED)) for part in re.split(rb"([\^=\\])", raw)]
        if all(parts):
            yield "".join(part[0] for part in parts)
        raw = _ESCAPE.sub(b"", raw)
    if raw.isascii():
        return
    for found in _decoded(raw, ("utf-8",)):  # nothing else looks like it
        yield found
        return
    letters = sum(chr(byte).isalpha() for byte in raw if byte < 0x80)
    beyond = sum(byte >= 0x80 for byte in raw)
    codings = (*_WESTERN * (every or beyond <= letters), *_FOREIGN * (every or beyond >= letters))
    for found in _decoded(raw, codings):
        if every or not _is_chance(found):
            yield found


def _decoded(raw: bytes, codings: Iterable[str]) -> Iterator[str]:
    for coding in codings:
        try:
            found = raw.decode(coding)
        except UnicodeDecodeError:
            continue
        if _is_of_words(found):
            yield found


def _raws(text: str) -> set[bytes]:
    """The bytes that a text was decoded from by one of the sets of DICOM with one byte a letter."""
    raws = set()
    for coding in _DECLARED:
        try:
            raws.add(text.encode(coding))
        except UnicodeEncodeError:
            continue
    return raws


def _is_of_words(text: str) -> bool:
    """Whether what is not ASCII are letters, one script a word, and capitals where they may be."""
    if any(not c.isascii() and unicodedata.category(c)[0] not in "LM" for c in text):
        return False
    if any(c < " " and c not in "\r\n\t\f" for c in text):
        return False
    return all(
        len({_script(c) for c in word if not c.isascii()} - {""}) <= 1
        and not _has_capital_within(word)
        for word in _WORD.findall(text)
        if not word.isascii()
    )


def _has_capital_within(word: str) -> bool:
    """JosÚ is no word."""
    return any(
        one.islower() and other.isupper() and not (one + other).isascii()
        for one, other in pairwise(word)
    )


def _is_chance(reading: str) -> bool:
    """Whether it has a short Latin word with a letter of its own: many bytes look like one."""
    words = [word for word in _WORD.findall(reading) if not word.isascii()]
    return any(len(word) < _SHORTEST_FUZZY and _script(word[0]) == "LATIN" for word in words)


@lru_cache(maxsize=4096)
def _script(character: str) -> str:
    """The script of a letter; those that Japanese and Korean names are written in are one."""
    if character >= _IDEOGRAPHS:
        return "CJK"
    return "" if _MARKS.match(character) else unicodedata.name(character, "").partition(" ")[0]


def is_ideographic(word: str) -> bool:
    """Whether it is of a script in which a name of two characters is no chance."""
    return bool(word) and all(character >= _IDEOGRAPHS for character in word)


def is_transliterable(word: str) -> bool:
    """Whether it has letters for which :func:`pattern` knows several spellings."""
    return any(c in _LATIN or plain(c) in _ALPHABETS for c in word.casefold())


def latin(text: str) -> str:
    """A text in Latin letters, each in its first spelling; other scripts stay."""
    return "".join(_ALPHABETS.get(c, c).partition("|")[0] for c in plain(text))


def _parts(word: str) -> list[str]:
    """The parts of a word in camel case, or of several scripts."""
    parts: list[str] = []
    for index, character in enumerate(word):
        before = word[index - 1] if index else ""
        after = word[index + 1] if index + 1 < len(word) else ""
        upper = character.isupper()
        starts = (
            not before
            or (upper and not before.isupper())
            or (upper and before.isupper() and after.islower())
            or (character >= _IDEOGRAPHS) != (before >= _IDEOGRAPHS)
        )
        if starts:
            parts.append("")
        parts[-1] += character
    return parts


def _any_of(*spellings: str) -> str:
    ordered = sorted(dict.fromkeys(spellings), key=lambda s: -len(s))
    return f"(?:{'|'.join(map(re.escape, ordered))})"


def _hiragana(character: str) -> str:
    return chr(ord(character) - 0x60) if "ァ" <= character <= "ヶ" else character
