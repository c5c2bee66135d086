"""How one name is written in several ways: other alphabets, umlauts, accents, joined words.

Nothing here decides what is a name. :func:`plain` brings texts to one form, :func:`words_of` cuts
them into words, and :func:`pattern` finds a name however it is spelled: Müller, Mueller, MULLER;
Παπαδόπουλος, Papadopoulos; Жуков, Zhukov, Schukow.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache

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
# Long vowels and umlauts in names that have lost their marks: Mueller and Muller, Tarou and Taro.
_FUZZY = {"a": "ae", "o": "eou", "u": "eu", "s": "s"}
# A shorter name is taken letter by letter: "Noe" is not "no".
_SHORTEST_FUZZY = 4
# Character sets that a file may be in without saying so.
_CODINGS = ("utf-8", "gb18030", "shift_jis", "euc_kr", "cp1251", "iso8859_7", "cp1250", "cp1256")
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
    joins is also given as one word.
    """
    text = readable(text)
    found: dict[str, None] = {}
    for form in dict.fromkeys((text, _JOINTS.sub("", text))):
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


def decodings(text: str) -> Iterator[str]:
    """A text, and what it is if its character set was not told: MÃ¼ller is Müller."""
    yield text
    if text.isascii():
        return
    try:
        raw = text.encode("latin-1")
    except UnicodeEncodeError:
        return
    for coding in _CODINGS if _is_foreign(raw) else _CODINGS[:1]:
        try:
            found = raw.decode(coding)
        except UnicodeDecodeError:
            continue
        yield found
        if coding == "utf-8":  # nothing else looks like it
            return


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


def _is_foreign(raw: bytes) -> bool:
    """Whether most letters are beyond ASCII: not so in the alphabets that Latin-1 is made for."""
    beyond = sum(byte >= 0x80 for byte in raw)
    return beyond > sum(chr(byte).isalpha() for byte in raw if byte < 0x80)
