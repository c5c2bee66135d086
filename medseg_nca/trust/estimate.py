"""The estimate that comes with a segmentation: how good it probably is, and what to do with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Verdict = Literal["accept", "review", "reject", "unknown"]
# From good to bad; of several labels the worst counts. "unknown" is said of a whole case only.
VERDICTS: tuple[Verdict, ...] = ("accept", "review", "reject", "unknown")


@dataclass(frozen=True)
class LabelEstimate:
    """How good the mask of one label probably is.

    Attributes:
        dice: predicted Dice with the truth, 0 to 1.
        low: lower end of the interval of the Dice.
        high: upper end.
        verdict: "accept", "review" or "reject".
        empty: whether the mask has no voxel; its Dice is then 0 by definition if the label is in
            the image, and nothing is known if it is not.
    """

    dice: float
    low: float
    high: float
    verdict: Verdict
    empty: bool = False


@dataclass(frozen=True)
class Estimate:
    """How good a segmentation probably is.

    Attributes:
        verdict: the worst of the labels' verdicts; "unknown" if nothing can be said.
        reasons: why it is not "accept", or what makes the numbers doubtful, as sentences.
        labels: by name; empty if the verdict is "unknown".
        confidence: of the intervals, for example 0.9.
        few: whether the estimate was fitted on too few cases for narrow intervals.
    """

    verdict: Verdict
    reasons: tuple[str, ...] = ()
    labels: Mapping[str, LabelEstimate] = field(default_factory=dict)
    confidence: float | None = None
    few: bool = False

    @property
    def dice(self) -> float | None:
        """The mean predicted Dice over the labels; None if nothing can be said."""
        found = [label.dice for label in self.labels.values()]
        return sum(found) / len(found) if found else None

    @property
    def in_short(self) -> str:
        """A few words for a line on the terminal, such as ``review, Dice about 0.78``."""
        return self.verdict if self.dice is None else f"{self.verdict}, Dice about {self.dice:.2f}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, rounded as they are written everywhere."""
        labels = {
            name: {k: round(v, 4) if isinstance(v, float) else v for k, v in asdict(one).items()}
            for name, one in self.labels.items()
        }
        return {
            "verdict": self.verdict,
            "dice": None if self.dice is None else round(self.dice, 4),
            "confidence": self.confidence,
            "few": self.few,
            "labels": labels,
            "reasons": list(self.reasons),
        }

    @classmethod
    def from_dict(cls, tree: Any) -> Estimate:
        """Read what :meth:`to_dict` returned.

        Raises:
            KeyError, TypeError, ValueError: if the tree is something else.
        """
        verdict = tree["verdict"]
        if verdict not in VERDICTS:
            raise ValueError(f"verdict is {verdict!r}")
        labels = {
            str(name): LabelEstimate(
                float(one["dice"]), float(one["low"]), float(one["high"]), one["verdict"],
                bool(one["empty"]),
            )
            for name, one in tree["labels"].items()
        }  # fmt: skip
        confidence = tree["confidence"]
        return cls(
            verdict, tuple(map(str, tree["reasons"])), labels,
            None if confidence is None else float(confidence), bool(tree["few"]),
        )  # fmt: skip


def unknown(reason: str) -> Estimate:
    """Return the estimate of a segmentation of which nothing can be said.

    Args:
        reason: a sentence that says why.
    """
    return Estimate("unknown", (reason,))


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """Return the worst of some verdicts; "unknown" if there are none."""
    return max(verdicts, key=VERDICTS.index, default="unknown")
