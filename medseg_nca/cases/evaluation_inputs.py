"""Find the cases and labels of a data set on which a model is evaluated."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from medseg_nca.config import Label, LabelTable
from medseg_nca.datasets.base import Case, DataSet
from medseg_nca.datasets.find import open_dataset
from medseg_nca.datasets.hashing import dataset_hash
from medseg_nca.datasets.prepared import PreparedStore, is_prepared
from medseg_nca.datasets.redraw import split_file
from medseg_nca.datasets.sides import ChosenSide, check_side, choose_side
from medseg_nca.datasets.splits import Split
from medseg_nca.errors import DataError
from medseg_nca.inference.bundle import LoadedModel


@dataclass(frozen=True)
class EvaluatedData:
    """A data set, raw or the files that a prepared one was made from.

    Attributes:
        name: name of the data set.
        cases: its labelled cases.
        labels: its label table; None if the data set does not name its labels.
        origin: the data set, from which the hash is computed, or the hash itself.
    """

    name: str
    cases: tuple[Case, ...]
    labels: LabelTable | None
    origin: DataSet | str

    @cached_property
    def hash(self) -> str:
        """The hash of its contents; every file is read when it is first asked for.

        Raises:
            DataError: if a file cannot be read.
        """
        return self.origin if isinstance(self.origin, str) else dataset_hash(self.origin)


@dataclass(frozen=True)
class LabelMatch:
    """The labels of the data in the order of the model's.

    Attributes:
        truth: labels of the data, as many and in the same order as in the model's table.
        known_values: every number that may occur in the data.
        notes: what the reader should beware of.
    """

    truth: LabelTable
    known_values: frozenset[int]
    notes: tuple[str, ...] = ()


def open_source(
    path: Path, format: str = "auto", labels: LabelTable | None = None
) -> EvaluatedData:
    """Open a data set for evaluation.

    Args:
        path: folder of a raw data set, or of one that ``preprocess`` prepared.
        format: layout of a raw data set; "auto" finds it out.
        labels: label table that replaces the data set's own; None keeps it.

    Raises:
        DataError: if there is no data set, or no case has a label map.
    """
    if is_prepared(path):
        store = PreparedStore.open(path)
        cases = tuple(
            Case(
                id=case.id, images=case.images, label=case.label, patient=case.patient,
                site=case.site, segments=case.segments,
            )
            for case in store.cases
            if case.label is not None
        )  # fmt: skip
        source = EvaluatedData(store.name, cases, labels or store.labels, store.dataset_hash)
    else:
        data = open_dataset(path, format)
        source = EvaluatedData(data.name, data.labelled, labels or data.labels, data)
    if not source.cases:
        raise DataError(
            f"{path}: has no labelled case.",
            hint="Evaluation compares with label maps; `medseg-nca predict` needs none.",
        )
    return source


def select_cases(source: EvaluatedData, loaded: LoadedModel, side: str) -> ChosenSide[Case]:
    """Choose the cases of one side of the split of the run that trained the model.

    Raises:
        DataError: if the side is unknown, or none of its cases is in the data set.
    """
    check_side(side)
    split = split_file(loaded.folder)
    chosen = choose_side(source.cases, split, side, whole="labelled cases")
    if split is None or chosen.split_hash is None:
        return chosen
    return replace(chosen, notes=_changes(source, chosen, split))


def notes_on_data(
    selection: ChosenSide[Case], source: EvaluatedData, loaded: LoadedModel
) -> tuple[str, ...]:
    """Return what the reader should beware of that only the contents of all files tell.

    Raises:
        DataError: if a file cannot be read.
    """
    if selection.split_hash is not None and selection.split_hash != source.hash:
        return ("The data set has changed since the run split it; cases are matched by id.",)
    spec = loaded.spec
    learned = {spec.training_data_hash, *(m.training_data_hash for m in spec.members)}
    if selection.unsplit and source.hash in learned:
        return (
            "The model was trained on this very data set and came without its split: it has seen "
            "most of these cases, and the results are too good.",
        )
    return ()


def _changes(source: EvaluatedData, chosen: ChosenSide[Case], split: Split) -> tuple[str, ...]:
    notes = []
    wanted, ids = split.side(chosen.side), set(split.side("all"))
    if len(chosen.items) < len(wanted):
        missing = len(wanted) - len(chosen.items)
        notes.append(f"{missing} cases of the split are not in the data set.")
    new = sum(case.id not in ids for case in source.cases)
    if new:
        notes.append(f"{new} labelled cases that the split does not know are left out.")
    return tuple(notes)


def match_labels(model: LabelTable, data: LabelTable | None) -> LabelMatch:
    """Find the label of the data for each label of the model: by name, else by number.

    Names agree whatever their case and however their words are joined ("Left_lung", "left lung").
    Only when no name agrees at all, labels of the same numbers are taken for the same.

    Raises:
        DataError: if a label of the model has no counterpart.
    """
    if data is None:
        note = (
            "The data set does not name its labels: they are matched by number, and a label map "
            "with other numbers is refused."
        )
        return LabelMatch(model, model.known_values, (note,))
    by_name = {_plain(label.name): label for label in data.labels}
    found = [by_name.get(_plain(label.name)) for label in model.labels]
    notes: list[str] = []
    if not any(found):
        by_value = {frozenset(label.values): label for label in data.labels}
        found = [by_value.get(frozenset(label.values)) for label in model.labels]
        notes.append(
            "No label of the data set has a name of the model's; they are matched by number: "
            + ", ".join(
                f"{a.name} = {b.name}" for a, b in zip(model.labels, found, strict=True) if b
            )
        )
    missing = [a.name for a, b in zip(model.labels, found, strict=True) if b is None]
    if missing:
        raise DataError(
            f"The data set has no label for {', '.join(map(repr, missing))} of the model; "
            f"it has {_listing(data.labels)}, the model {_listing(model.labels)}.",
            hint="Name the data set's labels as the model does, with --set data.labels=... .",
        )
    matched = [label for label in found if label is not None]
    extra = [label.name for label in data.labels if label not in matched]
    if extra:
        notes.append(f"Labels that the model does not know are background: {', '.join(extra)}.")
    truth = LabelTable(labels=tuple(matched), multi_label=data.multi_label)
    return LabelMatch(truth, data.known_values, tuple(notes))


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()


def _listing(labels: tuple[Label, ...]) -> str:
    return ", ".join(f"{label.name} ({'/'.join(map(str, label.values))})" for label in labels)
