"""Who trains, who validates, who is held out: by patient, seeded, and reusable.

Patients are put in an order by a hash of the seed and their name, and sides are cut from it. So the
same seed gives the same split on every machine, whatever the order of the files.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, Self, get_args

from pydantic import ValidationError, model_validator

from medseg_nca.config import Settings
from medseg_nca.config.data import SplitSettings
from medseg_nca.datasets.base import Side
from medseg_nca.datasets.layout import read_json, safe_id
from medseg_nca.errors import ConfigError, DataError
from medseg_nca.io.atomic import write_json
from medseg_nca.suggest import nearest

SIDES: tuple[Side, ...] = get_args(Side)

log = logging.getLogger(__name__)


class SplitCase(Protocol):
    """What of a case decides its side."""

    @property
    def id(self) -> str:
        """The case's name."""

    @property
    def patient(self) -> str | None:
        """Its patient; None is one of its own."""

    @property
    def split(self) -> Side | None:
        """A side that the data set prescribes."""

    @property
    def label(self) -> Path | None:
        """Its label map; a case without one is on no side."""


class HasSplitCases(Protocol):
    """A data set, raw or prepared."""

    @property
    def cases(self) -> Iterable[SplitCase]:
        """The cases."""


class Split(Settings):
    """Case ids of each side, sorted, and how they were drawn.

    Attributes:
        seed: of the draw, None when the sides were read or prescribed.
        fold, folds: the cross-validation that it is part of.
        dataset_hash: of the data set, "" when it is not known.
    """

    train: tuple[str, ...]
    val: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    seed: int | None = None
    fold: int | None = None
    folds: int | None = None
    dataset_hash: str = ""

    @model_validator(mode="after")
    def _check(self) -> Self:
        ids = [*self.train, *self.val, *self.test]
        twice = sorted(name for name, count in Counter(ids).items() if count > 1)
        if twice:
            raise ValueError(f"a case is on two sides or listed twice: {', '.join(twice[:5])}")
        return self

    def side(self, name: str) -> tuple[str, ...]:
        """The case ids of "train", "val", "test" or "all".

        Raises:
            ConfigError: for any other name.
        """
        if name == "all":
            return tuple(sorted((*self.train, *self.val, *self.test)))
        if name not in SIDES:
            raise ConfigError(f"Unknown side {name!r} of a split. Known: {', '.join(SIDES)}, all.")
        ids: tuple[str, ...] = getattr(self, name)
        return ids


def make_split(
    dataset: HasSplitCases, settings: SplitSettings, dataset_hash: str | None = None
) -> Split:
    """Divide the labelled cases.

    A file in the settings decides everything. Otherwise a side that the data set prescribes is
    kept, and what is left is drawn: first the test, then validation or the folds (the first fold
    when none is named). Each side that is asked for gets a patient where there are enough; one
    patient trains, of two the second validates.

    Args:
        dataset: raw or prepared; a prepared one's ``dataset_hash`` is taken over.
        settings: see :class:`~medseg_nca.config.data.SplitSettings`.
        dataset_hash: to be stored with the split.

    Raises:
        ConfigError: if the fractions leave nothing to train, or there is no such fold.
        DataError: if there is no labelled case, there are fewer patients than folds, a patient is
            prescribed to two sides or the file does not fit the data set.
    """
    _check_settings(settings)
    cases = [case for case in dataset.cases if case.label is not None]
    if not cases:
        raise DataError("No case has a label map, so there is nothing to train on.")
    known = dataset_hash or str(getattr(dataset, "dataset_hash", "") or "")
    if settings.file is not None:
        split = read_split(settings.file, settings.fold)
        _check_fold(split, settings)
        patients = _patients(cases)
        _warn_of_divided_patients(split, patients, settings.file)
        return _fitted(split, [case.id for case in cases], settings.file, known)
    patients = _patients(cases)
    sides = _divide(patients, prescribed_sides(cases), settings)
    drawn = {side: tuple(sorted(i for key in keys for i in patients[key])) for side, keys in sides}
    fold = None if settings.folds is None else settings.fold or 0
    return Split(**drawn, seed=settings.seed, fold=fold, folds=settings.folds, dataset_hash=known)


def read_split(path: Path, fold: int | None = None) -> Split:
    """Read a split of ours, or nnU-Net's ``splits_final.json`` (a list with an item a fold).

    Args:
        path: the file.
        fold: which fold of nnU-Net's list; the first if not given.

    Raises:
        DataError: if the file is missing or is neither.
        ConfigError: if there is no such fold in it.
    """
    tree = read_json(path)
    if isinstance(tree, list):
        tree = _nnunet_fold(tree, path, fold or 0)
    if not isinstance(tree, Mapping) or not isinstance(tree.get("train"), list):
        raise DataError(
            f"{path}: is not a split: it needs the lists 'train', 'val' and 'test', or to be "
            "nnU-Net's list of such objects."
        )
    try:
        return Split.model_validate(tree)
    except ValidationError as error:
        detail = error.errors()[0]
        where = "".join(f"{part}: " for part in detail["loc"][:1])
        reason = detail["msg"].removeprefix("Value error, ")
        raise DataError(f"{path}: is not a split: {where}{reason}.") from error


def listed_cases(settings: SplitSettings) -> frozenset[str] | None:
    """Return the ids of the only cases that a run may read; None if it may read all.

    Raises:
        DataError, ConfigError: as :func:`read_split` raises them.
    """
    if not settings.listed_only or settings.file is None:
        return None
    return frozenset(read_split(settings.file, settings.fold).side("all"))


def join_splits(splits: Sequence[Split]) -> Split:
    """The split of an ensemble, whose members have splits of their own.

    A case that any member trained on is a training case, one that only chose weights of a member
    validates, and what no member has seen is the test. Of the folds of a cross-validation that is
    the test part that they share, and no case is left to validate.

    Raises:
        DataError: if there is no split, or no case in them.
    """
    if not any(split.side("all") for split in splits):
        raise DataError("There is no split to join.")
    train = {case for split in splits for case in split.train}
    val = {case for split in splits for case in split.val} - train
    test = {case for split in splits for case in split.test} - train - val
    hashes = {split.dataset_hash for split in splits}
    seeds = {split.seed for split in splits}
    return Split(
        train=tuple(sorted(train)),
        val=tuple(sorted(val)),
        test=tuple(sorted(test)),
        seed=seeds.pop() if len(seeds) == 1 else None,
        dataset_hash=hashes.pop() if len(hashes) == 1 else "",
    )


def write_split(split: Split, path: Path) -> None:
    """Write a split so that :func:`read_split` gives it back.

    Raises:
        OutputError: if the file cannot be written.
    """
    write_json(path, split.model_dump(mode="json"))


def prescribed_sides(cases: Iterable[SplitCase]) -> dict[str, Side]:
    """The side that the data set prescribes for a patient, by :func:`patient_key`.

    Raises:
        DataError: if a patient's cases are prescribed to different sides.
    """
    sides: dict[str, Side] = {}
    for case in cases:
        if case.split is None:
            continue
        if sides.setdefault(patient_key(case), case.split) != case.split:
            raise DataError(
                f"The cases of the patient of {case.id!r} are on two sides of the data set's "
                "split, which makes results look better than they are.",
                hint="Put all cases of a patient on one side.",
            )
    return sides


def patient_key(case: SplitCase) -> str:
    """What is kept on one side: the patient, or the case itself where no patient is known."""
    return f"case:{case.id}" if case.patient is None else f"patient:{case.patient}"


def _check_settings(settings: SplitSettings) -> None:
    used = settings.test + (0 if settings.folds else settings.val)
    if used >= 1:
        raise ConfigError(
            f"data.split: val and test together are {used:g} of the patients, which leaves none to "
            "train on; they must be less than 1."
        )
    if settings.folds is not None and settings.fold is not None and settings.fold >= settings.folds:
        raise ConfigError(
            f"data.split.fold: there are {settings.folds} folds, 0 to {settings.folds - 1}, "
            f"not {settings.fold}."
        )
    if settings.fold is not None and settings.folds is None and settings.file is None:
        raise ConfigError(
            f"data.split.fold: fold {settings.fold} is asked for, but not of how many.",
            hint="Set data.split.folds too.",
        )


def _check_fold(split: Split, settings: SplitSettings) -> None:
    """Refuse a file that holds one division where a fold is asked for: all folds would be equal."""
    if settings.fold is not None and split.fold != settings.fold:
        raise ConfigError(
            f"{settings.file}: holds one split, not fold {settings.fold} of a cross-validation.",
            hint="Leave --fold and --folds out, or name nnU-Net's splits_final.json.",
        )


def _warn_of_divided_patients(
    split: Split, patients: Mapping[str, Sequence[str]], path: Path
) -> None:
    """Warn of a patient on two sides of a split that a file prescribes; the file is followed."""
    side_of = {name: side for side in SIDES for name in split.side(side)}
    divided = [
        ids[0] for ids in patients.values() if len({side_of[i] for i in ids if i in side_of}) > 1
    ]
    if divided:
        log.warning(
            "%s puts cases of one patient on two sides (%d patients, for example that of %r), "
            "which makes results look better than they are.",
            path, len(divided), divided[0],
        )  # fmt: skip


def _patients(cases: Sequence[SplitCase]) -> dict[str, list[str]]:
    """Case ids by patient."""
    patients: dict[str, list[str]] = {}
    for case in cases:
        patients.setdefault(patient_key(case), []).append(case.id)
    return patients


def _divide(
    patients: Iterable[str], fixed: Mapping[str, Side], settings: SplitSettings
) -> list[tuple[Side, list[str]]]:
    """The patients of each side."""
    order = sorted(patients, key=lambda name: _lot(settings.seed, name))
    sides: dict[Side, list[str]] = {
        side: [name for name in order if fixed.get(name) == side] for side in SIDES
    }
    free = [name for name in order if name not in fixed]
    if not sides["test"]:
        # Who is prescribed to train or to validate never becomes a test patient.
        most = len(free) - _needed(sides, settings)
        count = _share(settings.test, len(order), most)
        sides["test"], free = free[:count], free[count:]
    if settings.folds is not None:
        pool = [name for name in order if name not in sides["test"]]
        sides["val"] = _fold(pool, settings.folds, settings.fold or 0)
    elif not sides["val"]:
        pool = free or sides["train"]
        most = len(pool) - (0 if free and sides["train"] else 1)
        sides["val"] = pool[: _share(settings.val, len(order), most)]
    held = {*sides["val"], *sides["test"]}
    sides["train"] = [name for name in order if name not in held]
    if not sides["train"]:
        raise DataError("The split leaves no patient to train on.", hint="Use more cases.")
    return list(sides.items())


def _needed(sides: Mapping[Side, Sequence[str]], settings: SplitSettings) -> int:
    """How many patients the test must leave for the other sides."""
    if settings.folds is not None:
        return max(settings.folds - len(sides["train"]) - len(sides["val"]), 0)
    if sides["train"]:
        return 0
    return 1 + (settings.val > 0 and not sides["val"])


def _lot(seed: int, name: str) -> str:
    """A patient's place in the order that a seed gives."""
    return hashlib.sha256(f"{seed} {name}".encode()).hexdigest()


def _share(fraction: float, count: int, most: int) -> int:
    """How many of ``count`` a fraction is: at least one if any are asked for, at most ``most``."""
    return 0 if fraction == 0 else max(min(max(round(fraction * count), 1), most), 0)


def _fold(order: Sequence[str], folds: int, fold: int) -> list[str]:
    """Every ``folds``-th patient."""
    if len(order) < folds:
        raise DataError(
            f"{folds} folds need at least {folds} patients, and {len(order)} are left for them.",
            hint="Use fewer folds, or a smaller test part.",
        )
    return list(order[fold::folds])


def _nnunet_fold(folds: list[Any], path: Path, fold: int) -> Any:
    if fold >= len(folds):
        raise ConfigError(f"{path}: there are {len(folds)} folds in it, so no fold {fold}.")
    item = folds[fold]
    if not isinstance(item, Mapping) or not isinstance(item.get("train"), list):
        return item
    sides = {side: [safe_id(str(name)) for name in item.get(side) or ()] for side in SIDES}
    return {**sides, "fold": fold, "folds": len(folds)}


def _fitted(split: Split, ids: Sequence[str], path: Path, dataset_hash: str) -> Split:
    """Check that a split that was read belongs to the data set."""
    listed = split.side("all")
    strangers = [name for name in listed if name not in set(ids)]
    if strangers:
        guess = nearest(strangers[0], ids)
        raise DataError(
            f"{path}: {len(strangers)} case(s) of the split are not among the labelled cases of "
            f"the data set, for example {strangers[0]!r}.",
            hint=f"Did you mean {guess!r}?" if guess else "Is it the split of another data set?",
        )
    if split.dataset_hash and dataset_hash and split.dataset_hash != dataset_hash:
        log.warning("%s was made for another state of the data set.", path)
    left = len(ids) - len(listed)
    if left:
        log.warning("%s leaves out %d of %d labelled cases.", path, left, len(ids))
    return split.changed(dataset_hash=dataset_hash or split.dataset_hash)
