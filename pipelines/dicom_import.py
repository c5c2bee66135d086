"""Import a folder of DICOM files as a data set: images, label maps, where they came from."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from medseg_nca.cores import cores
from medseg_nca.errors import OutputError
from medseg_nca.io.atomic import remove_leftovers
from medseg_nca.io.dicom.annotations.assign import KINDS, Annotation, Kind, assign
from medseg_nca.io.dicom.annotations.labels import OverlapRule
from medseg_nca.io.dicom.deid.deidentify import Deidentifier
from medseg_nca.io.dicom.deid.pseudonyms import Pseudonyms
from medseg_nca.io.dicom.read import Tilt
from medseg_nca.io.dicom.records import Problem, Scan, Series, Stack
from medseg_nca.io.dicom.scan import scan
from medseg_nca.io.dicom.select import OF_STACKS, Selection, parse_selection
from medseg_nca.job import Job
from medseg_nca.pipelines.dicom_case import (
    CLUSTER,
    IMAGES,
    LABELS,
    STATE,
    How,
    Imported,
    Importing,
    Record,
    import_case,
    record_file,
)
from medseg_nca.pipelines.dicom_labels import legend_of
from medseg_nca.pipelines.dicom_numbers import number_labels
from medseg_nca.pipelines.dicom_people import People, find_people
from medseg_nca.pipelines.dicom_report import (
    DATASET,
    ImportReport,
    Refusal,
    label_file,
    warn_of_doubts,
    write_reports,
)
from medseg_nca.pipelines.dicom_state import State, open_state
from medseg_nca.work.scheduler import Outcome, counted, run_each

logger = logging.getLogger(__name__)

LabelSource = Literal["auto", "seg", "rtstruct", "none"]
_KINDS: dict[LabelSource, tuple[Kind, ...]] = {
    "auto": KINDS,
    "seg": ("seg",),
    "rtstruct": ("rtstruct",),
    "none": (),
}
# Starting processes takes a second or two; this many bytes are imported in that time.
_SMALL = 50_000_000
_LOCALIZER = "localizer"


@dataclass(frozen=True)
class ImportSettings:
    """How to import.

    Attributes:
        labels: where label maps come from; ``auto`` takes SEG before RTSTRUCT.
        select: conditions on tags; see :func:`medseg_nca.io.dicom.select.parse_selection`.
        overlap: who gets a voxel of several segments of one label map.
        tilt: what becomes of a tilted gantry.
        deidentify: whether nothing may be left that names a patient.
        key: of the de-identification; None makes a random one.
        keep_key: whether a random key is kept beside the data set.
        allow_burned_in: de-identified, import images that may have writing in their pixels, too.
    """

    labels: LabelSource = "auto"
    select: str | None = None
    overlap: OverlapRule = "last"
    tilt: Tilt = "resample"
    deidentify: bool = False
    key: Pseudonyms | None = None
    keep_key: bool = False
    allow_burned_in: bool = False


@dataclass(frozen=True)
class ImportRequest:
    """What is to be imported, how, and by how many.

    Attributes:
        root: a folder tree with DICOM files.
        out: folder of the new data set.
        settings: how.
        workers: processes; None takes the CPU cores, and none for little data.
        scheduler: address of a Dask scheduler that does the work instead.
    """

    root: Path
    out: Path
    settings: ImportSettings = ImportSettings()
    workers: int | None = None
    scheduler: str | None = None


def run(request: ImportRequest, job: Job | None = None) -> ImportReport:
    """Import what lies in a folder.

    Each finished volume is kept, also when the run is stopped or killed: the same request goes on
    from there. What cannot be imported is in the report, and stops nothing else.

    Args:
        request: what is to be done.
        job: told how far it is, under the phases "scanning", "headers" (if it is de-identified),
            "importing" and "labels".

    Returns:
        A report, which is also written; there may be no case in it.

    Raises:
        ImageError: if there is no such folder.
        ConfigError: if the selection or the key cannot be used.
        OutputError: if the folder holds something else, or results cannot be written.
        Interrupted: if the job was cancelled.
    """
    job = job or Job()
    settings, workers, scheduler = request.settings, request.workers, request.scheduler
    selection = parse_selection(settings.select)
    root, out = request.root.absolute(), request.out.absolute()
    if out.resolve() == root.resolve() or out.is_file():
        raise OutputError(f"{out}: cannot be the new data set.", hint="Name another folder.")
    found = scan(root, job=job, workers=workers or 1)
    state = open_state(root, out, deidentify=settings.deidentify, key=settings.key)
    for folder in (IMAGES, LABELS, f"{STATE}/cases", f"{STATE}/labels"):
        remove_leftovers(out / folder)
    people = (
        find_people(root, workers or 1, scheduler, out / STATE / CLUSTER, job)
        if settings.deidentify
        else People()
    )
    plan = _Plan(found, selection, settings, state, people)
    count = _workers(plan.items) if workers is None else workers
    running = run_each(
        import_case,
        plan.items,
        count,
        scheduler=scheduler,
        folder=out / STATE / CLUSTER,
        files=_files,
        job=job,
    )
    outcomes = list(counted(running, job, "importing", len(plan.items)))
    report, dims = _collect(plan, outcomes)
    report = number_labels(report, count, scheduler, job)
    write_reports(report, state, _written_settings(settings), dims)
    if found.series:  # a folder that is empty may be a disk that is not there
        _remove_strangers(report)
        state.finish(settings.keep_key)
    return report


class _Plan:
    """What is imported, and what is refused or left out before anything is read."""

    def __init__(
        self,
        found: Scan,
        selection: Selection,
        settings: ImportSettings,
        state: State,
        people: People,
    ) -> None:
        self.root, self.state, self.people = found.root, state, people
        self.refused: list[Refusal] = []
        self.left_out: Counter[str] = Counter(
            {f"file-{reason}": n for reason, n in found.passed_over.items() if n}
        )
        stacks = list(self._stacks(found, selection))
        self.dims = 3 if any(len(stack.shape) == 3 for _, stack in stacks) else 2
        pictures = sum(len(stack.shape) < self.dims for _, stack in stacks)
        if pictures:
            self.left_out["picture-among-volumes"] = pictures
        stacks = [(series, stack) for series, stack in stacks if len(stack.shape) == self.dims]
        annotations = self._annotations(found, settings, {series.uid for series, _ in stacks})
        for path, problem in found.unreadable.items():
            self.refuse(problem, "file", files=(path,))
        how = self._how(selection, settings)
        self.items = [
            Importing(
                name,
                replace(series, files=(), stacks=()),  # goes to a worker with each of its stacks
                stack,
                state.names.stack(series, stack),
                annotations.get((series.uid, stack.name), ()),
                how,
                people.words_of(series.files),
            )
            for name, (series, stack) in zip(state.names.cases(stacks), stacks, strict=True)
        ]

    def refuse(
        self,
        problem: Problem,
        what: str,
        series: Series | None = None,
        files: Sequence[Path] = (),
    ) -> None:
        """Note what cannot be imported, and say so."""
        names = self.state.names
        words = self.people.words_of(files)
        message = names.message(problem.message, self.root, files, words)
        refusal = Refusal(
            problem.kind,
            message,
            what,
            names.uid(series.uid) if series else None,
            names.modality(series) if series else "",
            len(files),
        )
        self.refused.append(refusal)
        logger.error("%s refused: %s", what.capitalize(), _where(refusal, series, names.hidden))

    def _stacks(self, found: Scan, selection: Selection) -> Iterator[tuple[Series, Stack]]:
        for series in found.series:
            if series.kind != "image":
                if series.kind == "other":
                    self.left_out["no-image"] += 1
                continue
            chosen = [stack for stack in series.stacks if selection.matches(series, stack)]
            self.left_out["not-selected"] += len(series.stacks) - len(chosen)
            if series.problems and selection.matches(series):
                for problem in series.problems:
                    if problem.kind == _LOCALIZER:  # what an ordinary export holds
                        self.left_out[_LOCALIZER] += 1
                    else:
                        self.refuse(problem, "series", series, series.files)
            elif series.problems and not series.stacks:
                self.left_out["not-selected"] += 1
            yield from ((series, stack) for stack in chosen)
        self.left_out += Counter()  # drops what is zero

    def _annotations(
        self, found: Scan, settings: ImportSettings, chosen: set[str]
    ) -> dict[tuple[str, str], tuple[Annotation, ...]]:
        images = {series.uid for series in found.series if series.kind == "image"}
        assigned = assign(found, _KINDS[settings.labels], images - chosen)
        series_of = {path: series for series in found.series for path in series.files}
        by_problem: dict[Problem, list[Path]] = {}
        for path, problem in assigned.refused.items():
            by_problem.setdefault(problem, []).append(path)
        for problem, paths in by_problem.items():
            self.refuse(problem, "annotation", series_of.get(paths[0]), paths)
        # The instances are not needed any more, and would go to every worker.
        return {
            key: tuple(replace(annotation, instances=frozenset()) for annotation in group)
            for key, group in assigned.by_stack.items()
        }

    def _how(self, selection: Selection, settings: ImportSettings) -> How:
        keywords = (c.keyword for c in selection.conditions if c.keyword not in OF_STACKS)
        names = self.state.names
        deidentifier = Deidentifier(names.secret, allow_burned_in=settings.allow_burned_in)
        return How(
            out=self.state.out,
            root=self.root,
            names=names,
            tags=tuple(dict.fromkeys(("Modality", "BodyPartExamined", *keywords))),
            tilt=settings.tilt,
            overlap=settings.overlap,
            deidentifier=deidentifier if settings.deidentify else None,
        )


def _where(refusal: Refusal, series: Series | None, hidden: bool) -> str:
    """The message of a refusal, with the folder of the series unless it names that already."""
    folder = str(series.files[0].parent) if series is not None and series.files else ""
    if hidden or not folder or folder in refusal.message:
        return refusal.message
    return f"{folder}: {refusal.message}"


def _files(work: Importing) -> Sequence[Path]:
    return work.files[:1]


def _workers(items: Sequence[Importing]) -> int:
    files = (path for item in items for path in item.files)
    size = sum(path.stat().st_size for path in files if path.exists())
    return cores() if size > _SMALL and len(items) > 1 else 0


def _collect(plan: _Plan, outcomes: Iterable[Outcome[Imported]]) -> tuple[ImportReport, int]:
    """Sort what was imported, and leave out volumes with another number of channels."""
    records: list[Record] = []
    cached = 0
    for outcome in outcomes:
        work = plan.items[outcome.index]
        done = outcome.result
        if done is not None and done.record is not None:
            records.append(done.record)
            cached += done.cached
            continue
        problem = _unexpected(outcome, plan.state) if done is None else done.problem
        if problem is not None:
            plan.refuse(problem, "volume", work.series, work.files)
    usual = Counter(record.channels for record in records).most_common(1)
    for record in [record for record in records if record.channels != usual[0][0]]:
        records.remove(record)
        text = f"{record.id}: has {record.channels} channel(s), most others have {usual[0][0]}."
        plan.refused.append(
            Refusal("other-channels", text, "volume", record.series, record.modality, record.files)
        )
    records.sort(key=lambda record: record.id)
    warn_of_doubts(records)
    for record in records:
        for note in record.refused:
            logger.error("Annotation refused: %s", note.message)
            plan.refused.append(Refusal(note.kind, note.message, "annotation", note.object))
    legend = legend_of(one.segments for record in records for one in record.maps)
    for doubt in legend.notes if legend else ():
        logger.warning("%s", doubt.message)
    report = ImportReport(
        plan.state.out, tuple(records), legend, tuple(plan.refused), plan.left_out, cached
    )
    return report, plan.dims


def _unexpected(outcome: Outcome[Imported], state: State) -> Problem:
    """An error that nobody foresaw may quote what it stumbled over."""
    text = outcome.error or "failed"
    return Problem("unexpected", text.partition(":")[0] if state.names.hidden else text)


def _remove_strangers(report: ImportReport) -> None:
    """Remove what an earlier run with other settings made, and this one did not."""
    out = report.out
    wanted = {out / one.image for _, one in report.maps}
    wanted |= {out / label_file(one) for _, one in report.maps if one.own}
    wanted |= {out / one.own for _, one in report.maps if one.own}
    wanted |= {record_file(out, record.id) for record in report.records}
    for folder in (IMAGES, LABELS, f"{STATE}/labels", f"{STATE}/cases"):
        for path in (out / folder).glob("*"):
            if path not in wanted and path.is_file():
                path.unlink(missing_ok=True)
    if not report.records:
        (out / DATASET).unlink(missing_ok=True)


def _written_settings(settings: ImportSettings) -> dict[str, Any]:
    """The settings without the key; a selection may name a patient."""
    selection = parse_selection(settings.select)
    tags = [condition.keyword for condition in selection.conditions]
    return {
        "labels": settings.labels,
        "select": tags if settings.deidentify else settings.select,
        "overlap": settings.overlap,
        "tilt": settings.tilt,
        "deidentify": settings.deidentify,
        "allow_burned_in": settings.allow_burned_in,
    }
