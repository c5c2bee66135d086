"""Which model computes a series: rules on its tags, of which the first that fits counts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from medseg_nca.errors import ConfigError
from medseg_nca.io.dicom.objects.source import MANUFACTURER
from medseg_nca.io.dicom.records import Scan, Series
from medseg_nca.io.dicom.select import Selection, parse_selection
from medseg_nca.serving.catalogue import ServedEntry, parse_models
from medseg_nca.serving.node.settings import ARROW, EXAMPLE

# Modality of the secondary captures of this package.
_OVERLAY = "OT"
_HINT = f"For example: {EXAMPLE!r}"


@dataclass(frozen=True)
class Route:
    """One rule.

    Attributes:
        selection: what a series has to be.
        models: as ``serve --models`` takes them; each makes a job of its own.
        text: the whole rule, as it was written.
        conditions: the text of the selection; "" takes every series of images.
    """

    selection: Selection
    models: tuple[str, ...]
    text: str
    conditions: str = ""


@dataclass(frozen=True)
class RuleVerdict:
    """What a rule says to a series.

    Attributes:
        route: the rule.
        reasons: which conditions fail, with the value of the series; () if the rule fits.
        keywords: of these conditions, without any value, for logs.
    """

    route: Route
    reasons: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether the rule takes the series."""
        return not self.reasons


@dataclass(frozen=True)
class Choice:
    """Which rule takes a series.

    Attributes:
        route: the first that fits; None if none does.
        verdicts: of the rules up to that one, in their order.
        refused: why no rule was asked at all, without any value of the series; "" if they were.
    """

    route: Route | None
    verdicts: tuple[RuleVerdict, ...] = ()
    refused: str = ""


def parse_route(text: str) -> Route:
    """Read a rule: conditions of :func:`parse_selection`, an arrow, and one or more models.

    Raises:
        ConfigError: naming the rule and its part that is wrong.
    """
    conditions, arrow, models = text.rpartition(ARROW)
    if not arrow:
        raise ConfigError(
            f"--route {text!r}: has no arrow {ARROW} between the conditions and the model.",
            hint=_HINT,
        )
    names = tuple(part.strip() for part in models.split(",") if part.strip())
    if not names:
        raise ConfigError(f"--route {text!r}: names no model behind the arrow.", hint=_HINT)
    try:
        selection = parse_selection(conditions)
    except ConfigError as error:
        raise ConfigError(
            f"--route {text!r}: its conditions are wrong. {error.message}", hint=_HINT
        ) from error
    try:
        parse_models(dict.fromkeys(names))
    except ConfigError as error:
        message = error.message.removeprefix("--models: ")
        raise ConfigError(f"--route {text!r}: its model is wrong: {message}", hint=_HINT) from error
    return Route(selection, tuple(dict.fromkeys(names)), text.strip(), conditions.strip())


def parse_routes(texts: Iterable[str]) -> tuple[Route, ...]:
    """Read the rules of a node, in their order.

    Raises:
        ConfigError: naming the rule that is wrong, or if there is none.
    """
    routes = tuple(parse_route(text) for text in texts)
    if not routes:
        raise ConfigError(
            "No rule says which model computes a series.", hint=f"Give --route {EXAMPLE!r}"
        )
    return routes


def entries_of(
    routes: Sequence[Route], served: Iterable[str] = ()
) -> tuple[tuple[ServedEntry, ...], dict[str, ServedEntry]]:
    """The models that a node needs.

    Args:
        routes: of the node.
        served: what ``serve --models`` names, where both run in one process.

    Returns:
        All entries of the catalogue, and for each model of the rules its own.

    Raises:
        ConfigError: if two have the same name.
    """
    named = (part.strip() for text in served for part in text.split(","))
    words = list(dict.fromkeys([*filter(None, named), *(m for r in routes for m in r.models)]))
    entries = parse_models(words)
    return entries, dict(zip(words, entries, strict=True))


def choose(routes: Sequence[Route], series: Series) -> Choice:
    """Find the first rule that takes a series.

    Only images are asked for: results that come back from an archive (segmentations, reports, and
    the overlays of this package) would otherwise be computed again and again.
    """
    if series.kind != "image" and series.files:
        return Choice(None, refused="It holds no images.")
    made = (series.tags.get("Manufacturer"), series.tags.get("Modality"))
    if made == (MANUFACTURER, _OVERLAY):
        return Choice(None, refused="It is an overlay of medseg_nca, which is not computed again.")
    verdicts = []
    for route in routes:
        verdicts.append(_verdict(route, series))
        if verdicts[-1].fits:
            return Choice(route, tuple(verdicts))
    return Choice(None, tuple(verdicts))


def series_of(scan: Scan, series_uid: str = "") -> Series:
    """The series of a folder that rules are asked about: its images, where it has any.

    Args:
        scan: of the folder.
        series_uid: for the series of a folder in which no file can be read; it has no tags.
    """
    if scan.series:
        return min(scan.series, key=lambda one: one.kind != "image")
    return Series(series_uid, "", "", None, "image", (), {}, damaged=tuple(scan.unreadable))


def _verdict(route: Route, series: Series) -> RuleVerdict:
    reasons, unmets = [], route.selection.unmet(series)
    for unmet in unmets:
        found = " or ".join(repr(text) for text in dict.fromkeys(unmet.found))
        reasons.append(f"{unmet.condition} fails: the series has {found or 'no volume'}.")
    keywords = dict.fromkeys(unmet.condition.keyword for unmet in unmets)
    return RuleVerdict(route, tuple(reasons), tuple(keywords))
