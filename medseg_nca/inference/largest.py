"""Decide, label by label, whether only the largest part of a label should be kept.

Islands are the parts of a label outside of its largest part. The decision is made on validation
cases, never on test data, as nnU-Net does (Isensee et al. 2021): first for all labels taken as one,
then for each label. :func:`judge` has the conditions. It also looks at the truth, so that a label
that normally has several parts (nuclei, lesions) keeps them all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_nca.config.labels import MERGED, Label, LabelTable
from medseg_nca.metrics.segmentation import mask_metrics
from medseg_nca.transforms.islands import remove_islands, share_apart

# File in a run folder: what the removal of islands changed in each validation case.
EVIDENCE = "islands.json"
# With fewer cases, one island that happens to be an error would decide for all patients.
MIN_CASES = 3
# A mean Dice that changes by less than this counts as unchanged.
SAME_DICE = 5e-4
# A true label with more than this share of its voxels outside of its largest part has several
# parts. Single voxels that an annotator left behind make a smaller share.
SEVERAL = 0.05
# Distances are not measured in images of more voxels: they would take minutes for each label.
_MOST_VOXELS = 2**24
# HD95 and NSD are computed together, and NSD needs a tolerance (mm); NSD is not used here.
_TOLERANCE = 1.0

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Change:
    """How a removal of islands changes one case; means are over the labels that it can change.

    Attributes:
        voxels: number of voxels that were changed.
        dice: mean Dice before and after. A label that is in neither map counts as 1.
        hd95: mean HD95 before and after, in mm; None if it was not measured.
        apart: share of the true label that lies outside of its largest part, 0 to 1.
        case: id of the case; changes with the same id count as one case.
    """

    voxels: int
    dice: tuple[float, float]
    hd95: tuple[float, float] | None
    apart: float
    case: str = ""


@dataclass(frozen=True)
class RemovalVerdict:
    """Whether a change of the predictions helps; ``reason`` says why, for the log."""

    helps: bool
    reason: str


def compare_maps(
    before: NDArray[Any], after: NDArray[Any], truth: NDArray[Any], spacing: Sequence[float],
    labels: LabelTable,
) -> Change:  # fmt: skip
    """Return how another way of predicting changes a case, for :func:`judge`.

    Args:
        before: label map ``(*S)`` predicted in the usual way, with the numbers of predictions.
        after: label map ``(*S)`` predicted in the other way.
        truth: true label map ``(*S)`` with source numbers.
        spacing: mm per axis, in array order.
        labels: the label table of the model.
    """
    differing = int(np.count_nonzero(before != after))
    return _Case(labels, truth, tuple(spacing)).change(before, after, differing, labels.labels)


@dataclass
class IslandTrial:
    """Collects, case after case, what would change if only largest parts were kept.

    Only numbers are kept of a case, no images.

    Args:
        labels: the label table of the model.
    """

    labels: LabelTable
    # The key is the label of which the largest part is kept, and whether the islands of all labels
    # taken as one are removed before.
    _found: dict[tuple[str, bool], list[Change]] = field(default_factory=dict)

    def add(
        self, predicted: NDArray[Any], truth: NDArray[Any], spacing: Sequence[float], case_id: str
    ) -> None:
        """Try each removal on a case.

        Args:
            predicted: label map ``(*S)`` with the numbers of predictions, no island removed.
            truth: true label map ``(*S)`` with source numbers.
            spacing: mm per axis, in array order.
            case_id: id of the case.
        """
        case = _Case(self.labels, truth, tuple(spacing), case_id)
        apart = {one.name: share_apart(case.truth_of(one)) for one in self.labels.labels}
        cleared = predicted
        if len(self.labels.labels) > 1:
            cleared = predicted.copy()
            voxels = remove_islands(cleared, (MERGED,), self.labels)
            whole = share_apart(np.isin(truth, sorted(self.labels.known_values - {0})))
            change = case.change(predicted, cleared, voxels, self.labels.labels, whole)
            self._found.setdefault((MERGED, False), []).append(change)
        # Each label is tried both ways, because the union is decided on only at the end.
        for merged, start in ((False, predicted), (True, cleared)):
            for label in self.labels.labels:
                changed = start.copy()
                voxels = remove_islands(changed, (label.name,), self.labels)
                touched = _sharing(label, self.labels)
                change = case.change(start, changed, voxels, touched, apart[label.name])
                self._found.setdefault((label.name, merged), []).append(change)

    def include(self, other: IslandTrial) -> None:
        """Add the changes that another trial found; its model must have the same labels."""
        for key, changes in other._found.items():
            self._found.setdefault(key, []).extend(changes)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        found = [
            {"kept": name, "after_merged": merged, "cases": [asdict(case) for case in cases]}
            for (name, merged), cases in self._found.items()
        ]
        return {"labels": list(self.labels.names), "found": found}

    @classmethod
    def from_dict(cls, labels: LabelTable, tree: Any) -> IslandTrial:
        """Restore a trial from the values that ``to_dict`` returned.

        Raises:
            KeyError, TypeError, ValueError: if these are no values of a trial with such labels.
        """
        if tree["labels"] != list(labels.names):
            raise ValueError("it is of other labels")
        trial = cls(labels)
        for entry in tree["found"]:
            cases = [_change(case) for case in entry["cases"]]
            trial._found[str(entry["kept"]), bool(entry["after_merged"])] = cases
        return trial

    def decide(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the labels of which only the largest part is kept, and the reasons for the log."""
        names: list[str] = []
        reasons: list[str] = []
        for name in (MERGED, *self.labels.names):
            if name == MERGED and len(self.labels.labels) == 1:
                continue
            verdict = judge(self._found.get((name, MERGED in names), []))
            called = "all labels together" if name == MERGED else repr(name)
            kept = "only the largest part is kept" if verdict.helps else "every part is kept"
            reasons.append(f"Of {called} {kept}: {verdict.reason}.")
            names += [name] if verdict.helps else []
        return tuple(names), tuple(reasons)


def _change(tree: Any) -> Change:
    before, after = map(float, tree["dice"])
    hd95 = None if tree["hd95"] is None else tuple(map(float, tree["hd95"]))
    distances = None if hd95 is None else (hd95[0], hd95[1])
    return Change(
        int(tree["voxels"]), (before, after), distances, float(tree["apart"]), str(tree["case"])
    )


def too_few(count: int) -> RemovalVerdict:
    """Return the verdict for too few cases: the change is not made."""
    return RemovalVerdict(
        False, f"there are {count} validation cases, and fewer than {MIN_CASES} prove nothing"
    )


def judge(cases: Sequence[Change], worth: float | None = None) -> RemovalVerdict:
    """Judge whether the removal of islands, or another change of the predictions, helps.

    The change helps if the mean Dice rises by more than :data:`SAME_DICE`, and Dice rises in more
    cases than it falls. It also helps if the mean Dice changes by no more than :data:`SAME_DICE`
    and the mean HD95 falls, with HD95 falling in more cases than it rises. It does not help if
    there are fewer than :data:`MIN_CASES` cases, or if the truth of a case has several parts.

    Args:
        cases: how the change alters each case.
        worth: for a change that costs time, by how much the mean Dice must rise; distances then
            do not count. None for a change that costs nothing.
    """
    count = len(cases)
    different = len({case.case or str(number) for number, case in enumerate(cases)})
    if different < MIN_CASES:
        return too_few(different)
    several = sum(case.apart > SEVERAL for case in cases)
    if several:
        return RemovalVerdict(
            False, f"in {several} of {count} validation cases there truly are several"
        )
    if not any(case.voxels for case in cases):
        return RemovalVerdict(False, f"it changes nothing in {count} validation cases")
    dice, dice_helps = _compared([case.dice for case in cases], +1)
    gain = dice.after - dice.before
    text = f"Dice {dice.before:.4f} without it, {dice.after:.4f} with it ({dice})"
    known = [case.hd95 for case in cases if case.hd95 is not None]
    hd95_helps = False
    if known:
        hd95, hd95_helps = _compared(known, -1)
        text += f", HD95 {hd95.before:.1f} and {hd95.after:.1f} mm ({hd95})"
    if worth is not None:
        return RemovalVerdict(dice_helps and gain >= worth, text)
    helps = dice_helps if abs(gain) > SAME_DICE else hd95_helps
    return RemovalVerdict(helps, text)


@dataclass(frozen=True)
class _Means:
    before: float
    after: float
    better: int
    worse: int
    count: int

    def __str__(self) -> str:
        return f"better in {self.better}, worse in {self.worse} of {self.count} cases"


def _compared(pairs: Sequence[tuple[float, float]], sign: int) -> tuple[_Means, bool]:
    """Return means before and after, and whether they got better; ``sign`` 1: more is better."""
    gains = [sign * (after - before) for before, after in pairs]
    better, worse = sum(g > 1e-9 for g in gains), sum(g < -1e-9 for g in gains)
    before, after = (float(np.mean(values)) for values in zip(*pairs, strict=True))
    return _Means(before, after, better, worse, len(pairs)), sum(gains) > 0 and better > worse


def _sharing(label: Label, table: LabelTable) -> tuple[Label, ...]:
    """Return the labels whose voxels a removal in one label can change."""
    own = table.predicted_values(label)
    return tuple(other for other in table.labels if own & table.predicted_values(other))


@dataclass(frozen=True)
class _Case:
    labels: LabelTable
    truth: NDArray[Any]
    spacing: tuple[float, ...]
    id: str = ""
    # Results by label and by a digest of the mask: the masks themselves would take much memory.
    _known: dict[tuple[str, bytes], tuple[float, float | None]] = field(default_factory=dict)

    def truth_of(self, label: Label) -> Mask:
        return np.isin(self.truth, label.values)

    def change(
        self, before: NDArray[Any], after: NDArray[Any], voxels: int, touched: Sequence[Label],
        apart: float = 0.0,
    ) -> Change:  # fmt: skip
        old = [self._measured(before, label) for label in touched]
        new = old if not voxels else [self._measured(after, label) for label in touched]
        dice = tuple(float(np.mean([dice for dice, _ in found])) for found in (old, new))
        distances = [[mm for _, mm in found if mm is not None] for found in (old, new)]
        hd95 = None
        if all(len(found) == len(touched) for found in distances):
            hd95 = float(np.mean(distances[0])), float(np.mean(distances[1]))
        return Change(voxels, (dice[0], dice[1]), hd95, apart, self.id)

    def _measured(self, label_map: NDArray[Any], label: Label) -> tuple[float, float | None]:
        """Return Dice and HD95 (mm) of a label."""
        found = np.isin(label_map, sorted(self.labels.predicted_values(label)))
        key = label.name, hashlib.sha256(np.packbits(found).tobytes()).digest()
        if key not in self._known:
            self._known[key] = _measure(found, self.truth_of(label), self.spacing)
        return self._known[key]


def _measure(found: Mask, truth: Mask, spacing: tuple[float, ...]) -> tuple[float, float | None]:
    if not found.any() and not truth.any():
        return 1.0, 0.0
    if found.size > _MOST_VOXELS:
        both = np.count_nonzero(found & truth)
        return 2 * both / (np.count_nonzero(found) + np.count_nonzero(truth)), None
    values = mask_metrics(found, truth, spacing, _TOLERANCE, ("dice", "hd95"))
    return values["dice"] or 0.0, values["hd95"]
