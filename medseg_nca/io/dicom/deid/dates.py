"""Dates as people write them: which day does a text speak of?

A text is searched for numbers and names of months that can be read as a day; readings are compared
with the days that a header names, so that a version "3.14.2" is a date only for who was there then.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Collection, Iterator
from functools import lru_cache

from medseg_nca.io.dicom.deid.spelling import plain, readable

# Year (four digits, two, or None where it is not written), month, day.
Reading = tuple[str | None, int, int]

_OLDEST = 1850
# What a label may call a day.
_YEARS = (
    range(1900, 2101),
    range(1350, 1481),  # Persian and Islamic
    range(2540, 2571),  # Thai
)
# Years of other calendars that run along with ours: Thai, Taiwan's, Reiwa, Heisei, Showa.
_ERAS = (543, -1911, -2018, -1988, -1925)
# How the names of months begin, in lower case and without accents.
_MONTHS = (
    "jan jän jaen ene gen janv sty led sij siječ ian oca tammi янв січ сiч ιαν يناير ינואר",
    "feb fév fev úno uno lut vel šubat sub helmi фев лют φεβ فبراير פברואר",
    "mar mär maer mrz bře bre mars märz maa mart maalis мар бер μαρ مارس מרץ",
    "apr avr abr dub kwi tra nis huhti апр кві απρ ابريل אפריל",
    "may mai mag kvě kve maj máj mei svi touko май мая трав μαι μαϊ مايو מאי",
    "jun juin giu čer cze lip haz kesä июн черв ιουν يونيو יוני",
    "jul juil lug juillet červenec srp heinä tem июл лип ιουλ يوليو יולי",
    "aug aoû aou ago srp sie kol elo ağu agu ав сер αυγ اغسطس אוגוסט",
    "sep set zář zar wrz ruj eyl syys сен вер σεπ سبتمبر ספטמבר",
    "oct okt ott out říj rij paź paz lis eki loka окт жов οκτ اكتوبر אוקטובר",
    "nov lis stu kas marras ноя лист νοε نوفمبر נובמבר",
    "dec dez dic déc pro gru dez ara joulu дек груд δεκ ديسمبر דצמבר",
)
_STEMS = tuple(tuple(plain(stem) for stem in line.split()) for line in _MONTHS)
_ROMAN_WORDS = "i ii iii iv v vi vii viii ix x xi xii"
_ROMAN = {name: number for number, name in enumerate(_ROMAN_WORDS.split(), start=1)}
_FILLING = {"de", "del", "of", "the", "st", "nd", "rd", "th", "den", "d", "der", "er", "o", "a"}
_SEPARATOR = r"\s?[-./_,:;|'’·•–—−‐‑\\ 年月日號号년월일]\s?"
# Within a lookahead, so that dates may begin within what looks like another.
_SEPARATED = re.compile(
    rf"(?<!\d)(?=(\d{{1,4}})({_SEPARATOR})(\d{{1,2}})({_SEPARATOR})(\d{{1,4}})(?!\d))"
)
_WITHOUT_YEAR = (
    re.compile(r"(?<![\w.,/-])(\d{1,2})/(\d{1,2})(?![\w/])"),
    re.compile(r"(?<![\w.,/-])(\d{1,2})\. ?(\d{1,2})\.(?!\d)"),
    re.compile(r"(?<!\d)(\d{1,2})\s?[月월]\s?(\d{1,2})\s?(?=[日号號일]|\b)"),
)
_OF_MONTH = re.compile(r"(?<![\w./-])(\d{1,2})[-./](\d{4})(?![\w]|[-./]\d)")
_MONTH_OF = re.compile(r"(?<![\w./-])(\d{4})[-/年](\d{1,2})(?![\w]|[-./]\d)")
_ORDINAL = re.compile(r"(?<!\d)(\d{4})[-./_ ]?(\d{3})(?!\d)")
_WEEK = re.compile(
    r"(?<!\d)(?P<year>\d{4})[-_/ ]?(?:k?w|cw|week|woche)[ -]?(?P<week>\d{1,2})(?!\d)"
    r"|(?<![^\W_])(?:k?w|cw|wk|week|woche)[ .-]?(?P<first>\d{1,2})[ ,/-]{1,2}(?P<then>\d{4})(?!\d)"
)
_CHINESE_DIGITS = str.maketrans("〇零一二三四五六七八九", "00123456789")
_CHINESE = re.compile(r"[〇零一二三四五六七八九十]+(?=[年月日号號])")
_DAY = datetime.timedelta(days=1)
# Offsets of time zones, for seconds since 1970.
_ZONES_S = range(-12 * 3600, 14 * 3600 + 1, 3600)


def days_of(value: str) -> Iterator[datetime.date]:
    """The days that a value of VR DA or DT names, a range has two."""
    for match in re.finditer(r"(?<!\d)(\d{4})[.\-]?(\d{2})[.\-]?(\d{2})", value):
        day = _date(int(match[1]), int(match[2]), int(match[3]))
        if day is not None and day.year >= _OLDEST:
            yield day


def names_day(text: str, days: Collection[datetime.date], *, loose: bool = True) -> bool:
    """Whether a text speaks of one of some days.

    Found are day, month and year in any order and with any marks between them, years of two
    digits, months as words in some twenty languages or in Roman numerals, the month with the
    year, the day with the month where it cannot be much else (14/3, 14.3., 14 Mar), 3月14日, eras
    of East Asia, the day of the year, the week, seconds since 1970.

    Args:
        text: any.
        days: to look for.
        loose: also forms that codes and counts may have by chance: six digits, no year.
    """
    if not days or not re.search(r"\d|[〇一二三四五六七八九十]", text := readable(text)):
        return False
    text = _western(text)
    return any(_is(reading, days) for reading in _readings(text, loose)) or (
        _is_counted(text, days) or (loose and (_is_month(text, days) or _is_spelled(text, days)))
    )


@lru_cache(maxsize=4096)
def has_full_date(text: str) -> bool:
    """Whether a text has some date with a year of four digits in it, whichever day it is."""
    text = _western(readable(text))
    return any(
        year is not None
        and any(int(year) in years for years in _YEARS)
        and _date(int(year), month, day) is not None
        for year, month, day in (*_readings(text, loose=False), *_spelled(text))
    )


def _is(reading: Reading, days: Collection[datetime.date]) -> bool:
    year, month, day = reading
    return any(
        (found.month, found.day) == (month, day) and (year is None or _is_year(year, found.year))
        for found in days
    )


def _is_year(written: str, year: int) -> bool:
    if len(written) == 2 and int(written) == year % 100:
        return True
    return int(written) == year or any(int(written) == year + era for era in _ERAS)


def _readings(text: str, loose: bool) -> Iterator[Reading]:
    for match in re.finditer(r"\d{6,}", text):
        yield from _compact(match[0], loose)
    for match in _SEPARATED.finditer(text):
        first, middle, last = match[1], match[3], match[5]
        if loose or len(first) == 4 or len(last) == 4:
            yield from _orders(first, middle, last)
    for form in _WITHOUT_YEAR if loose else ():
        for match in form.finditer(text):
            yield None, int(match[1]), int(match[2])
            yield None, int(match[2]), int(match[1])


def _orders(first: str, middle: str, last: str) -> Iterator[Reading]:
    """Year, month and day of three numbers, in the orders that are used somewhere."""
    one, two, three = int(first), int(middle), int(last)
    if len(last) <= 2:
        yield first, two, three
        yield first, three, two
    if len(first) <= 2:
        yield last, two, one
        yield last, one, two


def _compact(digits: str, loose: bool) -> Iterator[Reading]:
    """Dates within a run of digits."""
    if len(digits) == 6:
        if loose:
            yield from _orders(digits[:2], digits[2:4], digits[4:])
        return
    for start in range(len(digits) - 7):
        part = digits[start : start + 8]
        yield part[:4], int(part[4:6]), int(part[6:])
        yield part[4:], int(part[2:4]), int(part[:2])
        if len(digits) == 8:
            yield part[4:], int(part[:2]), int(part[2:4])
            yield part[:4], int(part[6:]), int(part[4:6])


def _is_counted(text: str, days: Collection[datetime.date]) -> bool:
    """Days of the year, weeks of the year, seconds since 1970."""
    ordinals = {(int(m[1]), int(m[2])) for m in _ORDINAL.finditer(text)}
    if any((day.year, day.timetuple().tm_yday) in ordinals for day in days):
        return True
    weeks = {
        (int(m["year"] or m["then"]), int(m["week"] or m["first"]))
        for m in _WEEK.finditer(text.lower())
    }
    if any(day.isocalendar()[:2] in weeks for day in days):
        return True
    seconds = [int(m[0][:10]) for m in re.finditer(r"(?<!\d)\d{10}(\d{3})?(?!\d)", text)]
    return any(_day_of(second + zone) in days for second in seconds for zone in _ZONES_S)


def _is_month(text: str, days: Collection[datetime.date]) -> bool:
    """Months with their year: 03/2021, 2021-03."""
    months = {(int(m[2]), int(m[1])) for m in _OF_MONTH.finditer(text)}
    months |= {(int(m[1]), int(m[2])) for m in _MONTH_OF.finditer(text)}
    return any((day.year, day.month) in months for day in days)


def _is_spelled(text: str, days: Collection[datetime.date]) -> bool:
    """A month as a word, with its day or its year beside it."""
    tokens = _tokens(text)
    for place, token in enumerate(tokens):
        months = _months(token)
        if not months:
            continue
        numbers = [int(number) for number in _beside(tokens, place)]
        for day in days:
            if day.month in months and _fits(numbers, day, strict=token in _ROMAN):
                return True
    return False


def _fits(numbers: list[int], day: datetime.date, *, strict: bool) -> bool:
    is_day = day.day in numbers
    is_year = day.year in numbers or (day.year % 100 in numbers and len(numbers) > 1)
    return (
        is_day and is_year
        if strict
        else (is_day and (len(numbers) < 2 or is_year)) or (day.year in numbers)
    )


def _spelled(text: str) -> Iterator[Reading]:
    """Days with a month as a word and a year of four digits."""
    tokens = _tokens(text)
    for place, token in enumerate(tokens):
        numbers = _beside(tokens, place)
        years = [number for number in numbers if len(number) == 4]
        if token in _ROMAN or not years:
            continue
        for month in _months(token):
            yield from (
                (year, month, int(day))
                for year in years
                for day in numbers
                if len(day) <= 2 and int(day)
            )


def _tokens(text: str) -> list[str]:
    """Numbers and words, without the little words that stand in dates."""
    text = re.sub(r"(?<=\d)(st|nd|rd|th)(?=[^\W\d_])", " ", plain(text))
    found = re.findall(r"\d+|[^\W\d_]+", text)
    return [token for token in found if token not in _FILLING]


def _beside(tokens: list[str], place: int) -> list[str]:
    """The numbers next to a word: two before, two after."""
    found = []
    for step in (-1, 1):
        for distance in (1, 2):
            where = place + step * distance
            if not 0 <= where < len(tokens) or not tokens[where].isdigit():
                break
            found.append(tokens[where])
    return found


@lru_cache(maxsize=4096)
def _months(word: str) -> frozenset[int]:
    if word in _ROMAN:
        return frozenset({_ROMAN[word]})
    return frozenset(
        number
        for number, stems in enumerate(_STEMS, start=1)
        if any(word.startswith(stem) for stem in stems)
    )


def _western(text: str) -> str:
    """Chinese numerals before the signs of year, month and day as digits."""
    return _CHINESE.sub(lambda match: _number(match[0]), text)


def _number(numeral: str) -> str:
    digits = numeral.translate(_CHINESE_DIGITS)
    if "十" not in digits:
        return digits
    tens, _, ones = digits.partition("十")
    if "十" in ones or len(tens) > 1 or len(ones) > 1:
        return digits
    return str(int(tens or 1) * 10 + int(ones or 0))


def _date(year: int, month: int, day: int) -> datetime.date | None:
    try:
        return datetime.date(year, month, day)
    except ValueError:
        return None


def _day_of(second: int) -> datetime.date:
    return datetime.date(1970, 1, 1) + (second // 86400) * _DAY
