"""Choose series by their tags: ``Modality=MR,SeriesDescription~T1``."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from medseg_nca.errors import ConfigError
from medseg_nca.io.dicom.records import Series, Stack
from medseg_nca.io.dicom.series.instances import TAGS
from medseg_nca.suggest import unknown

# Beside DICOM's keywords: name of the stack, and the size of its planes.
OF_STACKS = ("Stack", "Slices", "Rows", "Columns")
MAX_LENGTH = 1000

_CONDITION = re.compile(r"\s*(\w+)\s*(!=|!~|<=|>=|=|~|<|>)\s*(.*?)\s*", re.ASCII | re.DOTALL)
_PARTS = re.compile(r'(?:[^,"]|"[^"]*"?)+')
_ORDER: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
}
_EXAMPLE = "For example: Modality=MR,SeriesDescription~T1,Slices>20."


@dataclass(frozen=True)
class Condition:
    """One comparison; ``value`` is lower case text, or a number for <, >, <= and >=."""

    keyword: str
    relation: str
    value: str

    def __str__(self) -> str:
        """As it is written in a selection."""
        value = f'"{self.value}"' if "," in self.value else self.value
        return f"{self.keyword}{self.relation}{value}"

    def holds(self, found: str) -> bool:
        """Compare with the text of a tag, "" if there is none."""
        text = found.lower()
        if self.relation in _ORDER:
            number = _number(text)
            return number is not None and _ORDER[self.relation](number, float(self.value))
        if self.relation.endswith("~"):
            # A set of literal brackets; * and ? are the only signs with a meaning.
            pattern = f"*{self.value.replace('[', '[[]')}*"
            return fnmatchcase(text, pattern) == (self.relation == "~")
        # One of the values of ImageType, or all of them.
        equal = self.value in (text, *text.split("\\")) or _equal_numbers(text, self.value)
        return equal == (self.relation == "=")


@dataclass(frozen=True)
class Unmet:
    """A condition that does not hold.

    Attributes:
        condition: the one.
        found: what the series has in its place; "" if it has nothing, and one text for each of its
            volumes where the condition is on them.
    """

    condition: Condition
    found: tuple[str, ...]


@dataclass(frozen=True)
class Selection:
    """Conditions that all have to hold; none at all choose everything."""

    conditions: tuple[Condition, ...] = ()

    @property
    def of_stacks(self) -> bool:
        """Whether a condition tells the volumes of a series apart."""
        return any(condition.keyword in OF_STACKS for condition in self.conditions)

    def matches(self, series: Series, stack: Stack | None = None) -> bool:
        """Whether a series, or one of its stacks, is chosen.

        Args:
            series: its tags are compared.
            stack: without one, conditions on stacks hold if they all hold for any stack.
        """
        return not self.unmet(series, stack)

    def unmet(self, series: Series, stack: Stack | None = None) -> tuple[Unmet, ...]:
        """The conditions that keep a series, or one of its stacks, from being chosen.

        Args:
            series: its tags are compared.
            stack: without one, conditions on stacks hold if they all hold for any stack. Where each
                holds for another one, all of them are told.
        """
        on_series = [c for c in self.conditions if c.keyword not in OF_STACKS]
        on_stacks = [c for c in self.conditions if c.keyword in OF_STACKS]
        found = [(c, series.tags.get(c.keyword, "")) for c in on_series]
        missed = tuple(Unmet(c, (text,)) for c, text in found if not c.holds(text))
        stacks = [_of_stack(s) for s in (series.stacks if stack is None else (stack,))]
        if any(all(c.holds(facts[c.keyword]) for c in on_stacks) for facts in stacks):
            return missed
        alone = [c for c in on_stacks if not any(c.holds(facts[c.keyword]) for facts in stacks)]
        return missed + tuple(
            Unmet(c, tuple(facts[c.keyword] for facts in stacks)) for c in alone or on_stacks
        )


def parse_selection(text: str | None) -> Selection:
    """Parse conditions with commas between them.

    ``=`` and ``!=`` compare whole values (of several, as in ImageType, one is enough); ``~`` and
    ``!~`` look for a part, in which ``*`` stands for any text and ``?`` for one character; ``<``,
    ``>``, ``<=``, ``>=`` compare numbers. Case does not matter; values with commas stand in double
    quotes.

    Args:
        text: for example ``Modality=MR,SeriesDescription~T1``; None and "" choose everything.

    Raises:
        ConfigError: for an unknown keyword, or what is no condition.
    """
    text = text or ""
    if len(text) > MAX_LENGTH:
        raise ConfigError(f"The selection has {len(text)} characters; {MAX_LENGTH} are read.")
    return Selection(tuple(_conditions(text)))


def _conditions(text: str) -> Iterator[Condition]:
    known = {name.lower(): name for name in (*TAGS, *OF_STACKS)}
    for part in _PARTS.findall(text):
        if not part.strip():
            continue
        match = _CONDITION.fullmatch(part)
        if match is None:
            raise ConfigError(f"Selection: {part.strip()!r} is no condition.", hint=_EXAMPLE)
        word, relation, value = match.groups()
        if len(value) > 1 and value.startswith('"') and value.endswith('"'):
            value = value[1:-1]
        keyword = known.get(word.lower())
        if keyword is None:
            raise ConfigError(f"Selection: {unknown('keyword', word, known.values())}")
        yield _checked(Condition(keyword, relation, value.lower()))


def _checked(condition: Condition) -> Condition:
    value = condition.value
    if condition.relation in _ORDER and _number(value) is None:
        raise ConfigError(
            f"Selection: {condition.keyword}{condition.relation}{value} compares numbers.",
            hint=_EXAMPLE,
        )
    regular = ".*" in value or value.startswith("^") or value.endswith("$")
    if condition.relation.endswith("~") and regular:
        raise ConfigError(
            f"Selection: {value!r} looks like a regular expression.",
            hint="~ looks for a part of the text; * stands for any text, ? for one character.",
        )
    return condition


def _of_stack(stack: Stack) -> dict[str, str]:
    rows, columns = stack.planes[0].shape
    numbers = {"Slices": len(stack.planes), "Rows": rows, "Columns": columns}
    return {"Stack": stack.name} | {name: str(number) for name, number in numbers.items()}


def _number(text: str) -> float | None:
    try:
        return float(text.split("\\")[0])
    except ValueError:
        return None


def _equal_numbers(first: str, second: str) -> bool:
    a, b = _number(first), _number(second)
    return a is not None and a == b
