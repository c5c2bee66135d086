"""De-identify every DICOM file of a folder tree, into a tree with names that say nothing."""

from __future__ import annotations

import json
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from medseg_nca import __version__
from medseg_nca.cores import cores
from medseg_nca.datasets.hashing import file_hash
from medseg_nca.errors import OutputError
from medseg_nca.io.atomic import write_json
from medseg_nca.io.dicom.deid.deidentify import Deidentifier, deidentify_dataset, save_dataset
from medseg_nca.io.dicom.deid.pseudonyms import Pseudonyms
from medseg_nca.io.dicom.deid.words import IdentityWords
from medseg_nca.io.dicom.files.layout import MAX_HEADER
from medseg_nca.io.dicom.files.reader import read_file, read_header
from medseg_nca.io.dicom.files.walk import walk
from medseg_nca.io.dicom.problems import DicomError
from medseg_nca.io.dicom.records import Problem
from medseg_nca.job import Job
from medseg_nca.pipelines.dicom_case import CLUSTER, STATE
from medseg_nca.pipelines.dicom_names import Names
from medseg_nca.pipelines.dicom_people import People, Person, person_of
from medseg_nca.pipelines.dicom_state import State, open_state
from medseg_nca.work.scheduler import Outcome, counted, run_each

logger = logging.getLogger(__name__)

R = TypeVar("R")

REPORT = "report.json"
_WORDS = "words.json"
_NO_DICOM = {"not-dicom", "empty", "dicomdir"}
# Starting processes takes a second or two; this many files are done in that time.
_FEW = 500


@dataclass(frozen=True)
class DeidentifyReport:
    """What became of the files.

    Attributes:
        out: the new folder.
        files: the new files.
        refused: problems whose messages name nobody.
        passed_over: files that are no DICOM, by reason.
        options: what was asked for, without the key.
    """

    out: Path
    files: tuple[Path, ...]
    refused: tuple[Problem, ...]
    passed_over: Mapping[str, int] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "package_version": __version__,
            "folder": self.out.name,
            "files": len(self.files),
            "refused": [vars(problem) for problem in self.refused],
            "passed_over": dict(self.passed_over),
            "options": dict(self.options),
        }


@dataclass(frozen=True)
class _FileWork:
    """A file, how it is treated, and the words that its patient's other files know."""

    path: Path
    root: Path
    out: Path
    how: Deidentifier
    words: IdentityWords = field(default_factory=IdentityWords)


@dataclass(frozen=True)
class _Seen:
    """Who a file is of and the place of its copy, or why there will be none."""

    person: Person | None = None
    target: Path | None = None
    problem: Problem | None = None


@dataclass(frozen=True)
class _Done:
    """The new file, or why there is none."""

    target: Path | None = None
    problem: Problem | None = None


@dataclass(frozen=True)
class DeidentifyRequest:
    """What is to be de-identified, how, and by how many.

    Attributes:
        root: a folder tree, or one file.
        out: a new folder outside of it; a stopped run goes on.
        how: everything but the key.
        workers: processes; None takes the CPU cores, and none for few files.
        key: the secret; a random one if not given.
        keep_key: whether a random key is kept beside the copies.
        scheduler: address of a Dask scheduler that does the work instead.
    """

    root: Path
    out: Path
    how: Deidentifier | None = None
    workers: int | None = None
    key: Pseudonyms | None = None
    keep_key: bool = False
    scheduler: str | None = None


def run(request: DeidentifyRequest, job: Job | None = None) -> DeidentifyReport:
    """Write de-identified copies: ``<patient>/<study>/<series>/<SOPInstanceUID>.dcm``.

    Args:
        request: what is to be done.
        job: told how far it is, under the phases "headers" and "files".

    Raises:
        ConfigError: if the key cannot be used.
        OutputError: if the folder holds something else (copies made with other options, too) or
            lies in ``root``, or the disk refuses.
        Interrupted: if the job was cancelled.
    """
    root, out = request.root.absolute(), request.out.absolute()
    _check(root, out)
    how = request.how or Deidentifier()
    options = {
        "dates": how.dates,
        "keep_labels": how.keep_labels,
        "allow_burned_in": how.allow_burned_in,
    }
    # A copy that is there already is not made again, so it must have been made in the same way.
    state = open_state(
        root, out, deidentify=True, key=request.key, work="deidentify", options=options
    )
    how = replace(how, pseudonyms=state.names.secret)
    found = walk(root)
    every = [_FileWork(path, root, out, how) for path in found.files]
    each = _Each(request, len(every), out / STATE / CLUSTER, job or Job())
    refused = [_hidden(state.names, root, problem) for problem in found.unreadable.values()]
    passed_over = Counter({reason: n for reason, n in found.passed_over.items() if n})
    items, failed = _identify(state, every, each(_look, every, "headers"))
    for path, problem in failed:
        if problem.kind in _NO_DICOM:
            passed_over[problem.kind] += 1
        else:
            refused.append(_hidden(state.names, root, problem, path))
    sources: dict[Path, list[int]] = defaultdict(list)
    for outcome in each(_deidentify, items, "files"):
        work, done = items[outcome.index], outcome.result or _Done(problem=_unexpected(outcome))
        if done.target is not None:
            sources[done.target].append(outcome.index)
        elif done.problem is not None:
            refused.append(_hidden(state.names, root, done.problem, work.path, work.words))
    refused += _settle_copies(sources, items)
    for problem in refused:
        logger.error("Refused: %s", problem.message)
    report = DeidentifyReport(out, tuple(sorted(sources)), tuple(refused), passed_over, options)
    write_json(out / REPORT, report.to_dict())
    state.finish(request.keep_key)
    return report


class _Each:
    """Does a stage of the work on every file."""

    def __init__(self, request: DeidentifyRequest, files: int, folder: Path, job: Job) -> None:
        many = cores() if files > _FEW else 0
        self._workers = many if request.workers is None else request.workers
        self._scheduler, self._folder, self._job = request.scheduler, folder, job

    def __call__(
        self, function: Callable[[_FileWork, Job], R], works: list[_FileWork], stage: str
    ) -> Iterable[Outcome[R]]:
        running = run_each(
            function, works, self._workers, scheduler=self._scheduler, folder=self._folder,
            files=_files, job=self._job,
        )  # fmt: skip
        return counted(running, self._job, stage, len(works), unit="files")


def _check(root: Path, out: Path) -> None:
    if not root.exists():
        raise OutputError(f"{root}: there is no such file or folder.")
    inside = out.resolve().is_relative_to(root.resolve())
    if inside or root.resolve().is_relative_to(out.resolve()) or out.is_file():
        raise OutputError(
            f"{out}: cannot be the folder of the copies.",
            hint="Name a folder outside of the one that is read.",
        )


def _unexpected(outcome: Outcome[Any]) -> Problem:
    """An error that nobody foresaw may quote what it stumbled over."""
    return Problem("unexpected", (outcome.error or "").partition(":")[0])


def _identify(
    state: State, every: Sequence[_FileWork], outcomes: Iterable[Outcome[_Seen]]
) -> tuple[list[_FileWork], list[tuple[Path, Problem]]]:
    """Give every file the words of all files of its patient; and what could not be read."""
    people = People()
    targets: dict[int, Path] = {}
    failed: dict[int, Problem] = {}
    for outcome in outcomes:
        one = outcome.result or _Seen(problem=_unexpected(outcome))
        if one.person is not None and one.target is not None:
            targets[outcome.index] = one.target
            people.add(every[outcome.index].path, one.person)
        elif one.problem is not None:
            failed[outcome.index] = one.problem
    places = sorted(targets)
    items = [replace(every[place], words=people.words(every[place].path)) for place in places]
    _forget_stale(state, items, [targets[place] for place in places])
    return items, [(every[place].path, failed[place]) for place in sorted(failed)]


def _forget_stale(state: State, items: Sequence[_FileWork], targets: Sequence[Path]) -> None:
    """Remove copies of an earlier run that did not know all words of their patient.

    Before anything is written the words of this run are noted, as a fingerprint of each patient's,
    so that a run that was stopped goes on.
    """
    notes = state.out / STATE / _WORDS
    secret = state.names.secret
    tokens = {
        words: secret.token("words", json.dumps(words.listed()))
        for words in {item.words for item in items}
    }
    try:
        known = set(json.loads(notes.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        known = set()
    for item, target in zip(items, targets, strict=True):
        if tokens[item.words] not in known:
            target.unlink(missing_ok=True)
    write_json(notes, sorted(tokens.values()))


def _files(work: _FileWork) -> tuple[Path, ...]:
    return (work.path,)


def _look(work: _FileWork, job: Job) -> _Seen:
    """Read a header."""
    try:
        header = read_header(work.path)
        return _Seen(person_of(header), _target(work, header))
    except DicomError as error:
        return _Seen(problem=error.problem)
    except Exception as error:  # its text may quote the header, and would be logged
        return _Seen(problem=Problem("unexpected", f"unexpected {type(error).__name__}"))


def _deidentify(work: _FileWork, job: Job) -> _Done:
    try:
        # What is left out here would be missing in the copy: a spectrum, an electrocardiogram.
        dataset = read_file(work.path, bulk=MAX_HEADER)
        target = _target(work, dataset)
        if not _is_newer(target, work.path):
            save_dataset(deidentify_dataset(dataset, work.how, work.words), target)
        return _Done(target)
    except DicomError as error:
        return _Done(problem=error.problem)
    except OutputError:
        raise
    except Exception as error:  # its text may quote the header, and would be logged
        return _Done(problem=Problem("unexpected", f"unexpected {type(error).__name__}"))


def _target(work: _FileWork, header: Any) -> Path:
    """The place of the copy; every part of it is a pseudonym."""
    from medseg_nca.io.dicom.deid.deidentify import patient_key
    from medseg_nca.io.dicom.quiet import quiet

    secret = work.how.pseudonyms
    with quiet():
        study, series, instance, patient = (
            str(header.get(keyword) or "").strip()
            for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "PatientID")
        )
    if not instance:
        raise DicomError(Problem("no-instance-uid", f"{work.path}: has no SOPInstanceUID."))
    return (
        work.out
        / secret.patient(patient_key(patient, study))
        / secret.name("study", study)
        / secret.name("series", series)
        / f"{secret.uid(instance)}.dcm"
    )


def _is_newer(target: Path, source: Path) -> bool:
    try:
        return target.stat().st_mtime_ns > source.stat().st_mtime_ns
    except OSError:
        return False


def _settle_copies(sources: Mapping[Path, list[int]], items: list[_FileWork]) -> list[Problem]:
    """Of files with one SOPInstanceUID the first is kept; others that differ are told of."""
    problems = []
    for target, indices in sources.items():
        if len(indices) == 1:
            continue
        if len({file_hash(items[index].path) for index in indices}) > 1:
            target.unlink(missing_ok=True)
            _deidentify(items[min(indices)], Job())
            text = f"{len(indices)} files have the same SOPInstanceUID and differ; one is written."
            problems.append(Problem("conflicting-instances", text))
    return problems


def _hidden(
    names: Names,
    root: Path,
    problem: Problem,
    path: Path | None = None,
    words: IdentityWords | None = None,
) -> Problem:
    files = () if path is None else (path,)
    return Problem(problem.kind, names.message(problem.message, root, files, words))
