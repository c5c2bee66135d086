"""One label table for the segments of all cases."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

from pydantic import Field

from medseg_nca.config.base import Settings
from medseg_nca.config.labels import Code, Label, LabelTable
from medseg_nca.errors import DataError
from medseg_nca.io.dicom.annotations.concepts import Concept, clean_name
from medseg_nca.io.dicom.annotations.identity import (
    Identity,
    by_codes,
    contradicts_itself,
    identity,
)
from medseg_nca.io.dicom.records import Problem

_Key = tuple[Any, ...]
_MOST_NAMES = 8


class FoundSegment(Settings):
    """What a number in a label map means, in the words of an object."""

    value: int
    name: str
    code: Code | None = None
    modifiers: tuple[Code, ...] = ()
    category: Code | None = None
    regions: tuple[Code, ...] = ()
    region_modifiers: tuple[Code, ...] = ()

    @classmethod
    def of(cls, value: int, concept: Concept) -> Self:
        """Number a concept."""
        return cls(value=value, **concept._asdict())

    @property
    def concept(self) -> Concept:
        """What labels are told apart by."""
        return Concept(**{name: getattr(self, name) for name in Concept._fields})


class Legend(Settings):
    """The labels of a data set, and which of them each of its segments is.

    Attributes:
        table: the labels.
        segments: every concept that was met, with the number of its label.
        notes: what a person should look at: several names of one label, labels of one name.
    """

    table: LabelTable
    segments: tuple[FoundSegment, ...]
    notes: tuple[Problem, ...] = Field(default=(), exclude=True)

    def label_of(self, concept: Concept) -> Label | None:
        """Return the label of a segment that the legend was made from, or None.

        A segment is known by its codes, and by its name without regard to case.
        """
        return self._labels.get(segment_key(concept))

    def part(self, concepts: Iterable[Concept]) -> Self:
        """Return what one object needs of it: the same numbers, of these concepts only."""
        wanted = {segment_key(concept) for concept in concepts}
        kept = tuple(found for found in self.segments if segment_key(found.concept) in wanted)
        return type(self)(table=self.table, segments=kept)

    @cached_property
    def _labels(self) -> Mapping[_Key, Label]:
        by_value = {label.values[0]: label for label in self.table.labels}
        return {segment_key(found.concept): by_value[found.value] for found in self.segments}


@dataclass
class _Met:
    """A concept, in how many cases it was met, and how many others were met before it."""

    place: int
    cases: int = 0
    spellings: Counter[Concept] = field(default_factory=Counter)

    @property
    def concept(self) -> Concept:
        """As it is spelled most often."""
        return min(self.spellings, key=lambda known: (-self.spellings[known], _spelling(known)))


@dataclass
class _Group:
    """The concepts of one label."""

    met: list[_Met] = field(default_factory=list)

    @property
    def concept(self) -> Concept:
        """The one of most cases; of equal ones the first in the alphabet."""
        names = self.names
        concepts = [met.concept for met in self.met]
        return min(concepts, key=lambda known: (-names[known.name.casefold()], _order(known)))

    @property
    def names(self) -> Counter[str]:
        """What its segments are called, and in how many cases."""
        found: Counter[str] = Counter()
        for met in self.met:
            found[met.concept.name.casefold()] += met.cases
        return found

    @property
    def place(self) -> int:
        """Where it was met first."""
        return min(met.place for met in self.met)


def make_legend(cases: Iterable[Iterable[tuple[Any, ...]]]) -> Legend:
    """Make one label table for a data set.

    Segments are the same label when all that tells them apart is equal
    (:class:`medseg_nca.io.dicom.annotations.identity.Identity`), whatever they are called. An
    identity that has two names in one case counts together with the name in all cases. A coded
    segment without a category joins the only one that differs by nothing else, and a segment
    without a code the only coded label that has its name somewhere.

    A label is called as in most cases; names that would be equal get their codes in brackets. What
    is one label and what it is called does not depend on the order of the cases. Labels are
    numbered from 1 as they first appear.

    Args:
        cases: for each case its segments' :class:`Concept`, or the first fields of one, sorted by
            the names of the cases.

    Raises:
        DataError: if there is no segment at all.
    """
    met, named_apart = _collect(cases)
    groups = _grouped(list(met.values()), named_apart)
    if not groups:
        raise DataError("There are no segments, so there is no label table.")
    names = _unique_names(groups)
    labels = [
        Label(
            name=name,
            values=(value,),
            code=group.concept.code,
            modifier=_modifier(group.concept),
        )
        for value, (name, group) in enumerate(zip(names, groups, strict=True), start=1)
    ]
    segments = [
        FoundSegment.of(value, known.concept)
        for value, group in enumerate(groups, start=1)
        for known in sorted(group.met, key=lambda met: _order(met.concept))
    ]
    return Legend(
        table=LabelTable(labels=tuple(labels)),
        segments=tuple(segments),
        notes=tuple(_notes(names, groups)),
    )


def _collect(
    cases: Iterable[Iterable[tuple[Any, ...]]],
) -> tuple[dict[_Key, _Met], set[Identity]]:
    """All concepts by their keys, and the identities that have two names in one case."""
    met: dict[_Key, _Met] = {}
    identities: dict[_Key, Identity] = {}
    named_apart: set[Identity] = set()
    for case in cases:
        names: dict[Identity, str] = {}
        seen: set[_Key] = set()
        for item in case:
            given = Concept(*item)
            concept = given._replace(name=clean_name(given.name))
            key = segment_key(concept)
            known = met.setdefault(key, _Met(len(met)))
            known.spellings[concept] += 1
            known.cases += key not in seen
            seen.add(key)
            if concept.code is not None:
                one = identities.setdefault(key, identity(concept))
                if names.setdefault(one, concept.name.casefold()) != concept.name.casefold():
                    named_apart.add(one)
    return met, named_apart


def _grouped(met: Sequence[_Met], named_apart: set[Identity]) -> list[_Group]:
    groups: dict[_Key, _Group] = {}

    def add(key: _Key, one: _Met) -> None:
        groups.setdefault(key, _Group()).met.append(one)

    coded = [(identity(one.concept), one) for one in met if one.concept.code is not None]
    categories: dict[Identity, set[str]] = defaultdict(set)
    for what, _ in coded:
        categories[what._replace(category="")] |= {what.category} - {""}
    for what, one in coded:
        known = categories[what._replace(category="")]
        joined = what._replace(category=next(iter(known))) if len(known) == 1 else what
        apart = bool({what, joined} & named_apart)
        add((joined, one.concept.name.casefold() if apart else ""), one)
    by_name: dict[str, set[_Key]] = defaultdict(set)
    for key, group in groups.items():
        for one in group.met:
            by_name[one.concept.name.casefold()].add(key)
    for one in met:
        if one.concept.code is not None:
            continue
        what, name = identity(one.concept), one.concept.name.casefold()
        homes = by_name[name] if not one.concept.codes else set()
        add(next(iter(homes)) if len(homes) == 1 else (what, name), one)
    return sorted(groups.values(), key=lambda group: group.place)


def segment_key(concept: Concept) -> tuple[Any, ...]:
    """Return what a segment is known by: its name without case, its codes without meanings."""
    return (
        clean_name(concept.name).casefold(),
        _pairs((concept.code, concept.category)),
        *(
            tuple(sorted(_pairs(codes)))
            for codes in (concept.modifiers, concept.regions, concept.region_modifiers)
        ),
    )


def _pairs(codes: Iterable[Code | None]) -> tuple[tuple[str, str], ...]:
    return tuple(("", "") if code is None else (code.scheme, code.value) for code in codes)


def _spelling(concept: Concept) -> tuple[str, ...]:
    """Chooses one of the spellings and meanings that a key leaves open, "Liver" before "LIVER"."""
    codes = (concept.category, *concept.codes)
    return (concept.name.swapcase(), *(code.meaning for code in codes if code is not None))


def _order(concept: Concept) -> tuple[Any, ...]:
    return concept.name.casefold(), concept.code is None, _spelling(concept), segment_key(concept)


def _modifier(concept: Concept) -> Code | None:
    """The modifier that a label can hold; a label has one or none."""
    return concept.modifiers[0] if len(concept.modifiers) == 1 else None


def _unique_names(groups: Sequence[_Group]) -> list[str]:
    """Labels without a code keep their names, so they are found by them."""
    concepts = [group.concept for group in groups]
    counts = Counter(concept.name.casefold() for concept in concepts)
    taken = {concept.name.casefold() for concept in concepts if concept.code is None}
    result = [concept.name for concept in concepts]
    for index in sorted(range(len(groups)), key=lambda n: _order(concepts[n])):
        concept = concepts[index]
        name = concept.name
        if concept.codes and (counts[name.casefold()] > 1 or name.casefold() in taken):
            codes = ", ".join(code.value for code in concept.codes)
            name = base = f"{concept.name} ({codes})"
            number = 2
            while name.casefold() in taken:
                name, number = f"{base} {number}", number + 1
        taken.add(name.casefold())
        result[index] = name
    return result


def _notes(names: Sequence[str], groups: Sequence[_Group]) -> Iterable[Problem]:
    by_code: dict[Identity, list[str]] = defaultdict(list)
    by_name: dict[str, list[str]] = defaultdict(list)
    for name, group in zip(names, groups, strict=True):
        called = group.names
        for one_name in called:
            by_name[one_name].append(name)
        if len(called) > 1:
            text = f"Label {name!r} unites segments with the same codes and several names: "
            yield Problem("names-differ", f"{text}{_listed(called)}. Look whether they are one.")
        if any(contradicts_itself(one.concept) for one in group.met):
            text = f"Label {name!r}: the name of a segment and its codes name different sides."
            yield Problem("sides-differ", text)
        if group.concept.code is not None:
            by_code[by_codes(group.concept)].append(name)
    for codes, several in by_code.items():
        if len(several) > 1:
            text = f"Labels with the same codes ({codes.type}) are told apart by their names only: "
            yield Problem("codes-of-several", f"{text}{', '.join(map(repr, several))}.")
    for called_so, several in by_name.items():
        if len(set(several)) > 1:
            text = f"Segments called {called_so!r} have different codes and are several labels: "
            yield Problem("name-of-several", f"{text}{', '.join(map(repr, several))}.")


def _listed(called: Counter[str]) -> str:
    ordered = sorted(called.items(), key=lambda pair: (-pair[1], pair[0]))
    shown = [f"{name!r} ({count} case{'s'[: count > 1]})" for name, count in ordered[:_MOST_NAMES]]
    more = len(ordered) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
