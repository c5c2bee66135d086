"""Tell how good the segmentations of a run probably are, once for all of them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from medseg_nca.trust.estimate import VERDICTS, Estimate, Verdict, unknown

logger = logging.getLogger(__name__)

# Cases that are named one by one; the list of results has all of them.
_NAMED = 20
_DOING = {"review": "should be reviewed", "reject": "was rejected"}


def read_estimate(tree: Any) -> Estimate:
    """Read the estimate in a record; a record of an older version has none.

    Args:
        tree: what :meth:`Estimate.to_dict` returned; None where there is none.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: if the tree is something else.
    """
    return not_estimated() if tree is None else Estimate.from_dict(tree)


def not_estimated() -> Estimate:
    """Return what is known of a result that no estimate was made of."""
    return unknown("The quality of this result was not estimated.")


def as_written(estimate: Estimate) -> Estimate:
    """Return an estimate with its figures rounded as files hold them.

    So a record that was read says the same as the one that was written.
    """
    return Estimate.from_dict(estimate.to_dict())


def verdict_counts(estimates: Iterable[Estimate]) -> dict[Verdict, int]:
    """Return how many segmentations have each verdict, from good to bad."""
    found = Counter(estimate.verdict for estimate in estimates)
    return {verdict: found[verdict] for verdict in VERDICTS}


def counts_in_words(counts: Mapping[Verdict, int]) -> str:
    """Return counts of verdicts as words, such as ``3 accept, 1 review, 0 reject, 0 unknown``."""
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.items())


def in_words(estimate: Estimate) -> str:
    """Return verdict and reasons as a sentence or more, for a result that is doubtful.

    Raises:
        ValueError: if the verdict is neither "review" nor "reject".
    """
    if estimate.verdict not in _DOING:
        raise ValueError(f"nothing is wrong with the verdict {estimate.verdict!r}")
    about = "" if estimate.dice is None else f" (predicted Dice about {estimate.dice:.2f})"
    said = " ".join(text if text.endswith(".") else f"{text}." for text in estimate.reasons)
    return f"{_DOING[estimate.verdict]}{about}. {said}".rstrip()


def tell_of_verdicts(estimates: Collection[Estimate]) -> None:
    """Log how many of several results have each verdict, unless no quality was estimated."""
    counts = verdict_counts(estimates)
    if len(estimates) > 1 and counts["unknown"] < len(estimates):
        logger.info(
            "Estimated quality of %d segmentations: %s.", len(estimates), counts_in_words(counts)
        )


def tell_of_quality(estimates: Mapping[str, Estimate], place: Path) -> None:
    """Log how many results have each verdict, and which need a look and why.

    Args:
        estimates: of each result that there is, by the name that messages call it.
        place: the file that lists all of them.
    """
    tell_of_verdicts(estimates.values())
    for note in _doubts(estimates, place):
        logger.warning("%s", note)


def _doubts(estimates: Mapping[str, Estimate], place: Path) -> Iterator[str]:
    """The worst first; of many results the first reason only."""
    doubtful = [
        (name, one)
        for verdict in ("reject", "review")
        for name, one in estimates.items()
        if one.verdict == verdict
    ]
    for name, one in doubtful[:_NAMED]:
        said = one if len(estimates) == 1 else replace(one, reasons=one.reasons[:1])
        yield f"{name} {in_words(said)}"
    if len(doubtful) > _NAMED:
        yield f"{len(doubtful) - _NAMED} more are doubtful; {place} has all of them."
