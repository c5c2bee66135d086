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
from medseg_nca.errors import OutputError
from medseg_nca.io.atomic import remove_leftovers, write_json
from medseg_nca.io.dicom.deid.deidentify import Deidentifier
from medseg_nca.io.dicom.deid.pseudonyms import Pseudonyms
from medseg_nca.io.dicom.deid.words import IdentityWords
from medseg_nca.io.dicom.files.walk import walk
from medseg_nca.io.dicom.records import Problem
from medseg_nca.job import Job
from medseg_nca.pipelines.dicom_case import CLUSTER, STATE
from medseg_nca.pipelines.dicom_copy import (
    Copied,
    Copying,
    HeaderSeen,
    copy_file,
    copy_record,
    files_of,
    look,
)
from medseg_nca.pipelines.dicom_names import Names
from medseg_nca.pipelines.dicom_people import People
from medseg_nca.pipelines.dicom_state import State, open_state
from medseg_nca.work.finished import content_of
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
        cached: how many of the files an earlier run made.
    """

    out: Path
    files: tuple[Path, ...]
    refused: tuple[Problem, ...]
    passed_over: Mapping[str, int] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    cached: int = 0

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "package_version": __version__,
            "folder": self.out.name,
            "files": len(self.files),
            "cached": self.cached,
            "refused": [vars(problem) for problem in self.refused],
            "passed_over": dict(self.passed_over),
            "options": dict(self.options),
        }


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

    Each finished copy is kept, also when the run is stopped or killed: the same request goes on
    from there. A copy is made again only if the content of its file, the options or the words of
    its patient changed, or the copy is missing.

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
    state = open_state(
        root, out, deidentify=True, key=request.key, work="deidentify", options=options
    )
    how = replace(how, pseudonyms=state.names.secret)
    found = walk(root)
    every = [Copying(path, out, how) for path in found.files]
    each = _Each(request, len(every), out / STATE / CLUSTER, job or Job())
    refused = [_hidden(state.names, root, problem) for problem in found.unreadable.values()]
    passed_over = Counter({reason: n for reason, n in found.passed_over.items() if n})
    items, failed = _identify(state, every, each(look, every, "headers"))
    for path, problem in failed:
        if problem.kind in _NO_DICOM:
            passed_over[problem.kind] += 1
        else:
            refused.append(_hidden(state.names, root, problem, path))
    written, cached, problems = _copy(items, each)
    refused += [
        _hidden(state.names, root, problem, *(() if of is None else (of.path, of.words)))
        for of, problem in problems
    ]
    for problem in refused:
        logger.error("Refused: %s", problem.message)
    report = DeidentifyReport(out, written, tuple(refused), passed_over, options, cached)
    tree = report.to_dict()
    del tree["cached"]  # belongs to this run, not to the copies
    write_json(out / REPORT, tree)
    state.finish(request.keep_key)
    return report


class _Each:
    """Does a stage of the work on every file."""

    def __init__(self, request: DeidentifyRequest, files: int, folder: Path, job: Job) -> None:
        many = cores() if files > _FEW else 0
        self._workers = many if request.workers is None else request.workers
        self._scheduler, self._folder, self._job = request.scheduler, folder, job

    def __call__(
        self, function: Callable[[Copying, Job], R], works: list[Copying], stage: str
    ) -> Iterable[Outcome[R]]:
        running = run_each(
            function, works, self._workers, scheduler=self._scheduler, folder=self._folder,
            files=files_of, job=self._job,
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
    state: State, every: Sequence[Copying], outcomes: Iterable[Outcome[HeaderSeen]]
) -> tuple[list[Copying], list[tuple[Path, Problem]]]:
    """Give every file the words of all files of its patient; and what could not be read."""
    people = People()
    targets: dict[int, Path] = {}
    failed: dict[int, Problem] = {}
    for outcome in outcomes:
        one = outcome.result or HeaderSeen(problem=_unexpected(outcome))
        if one.person is not None and one.target is not None:
            targets[outcome.index] = one.target
            people.add(every[outcome.index].path, one.person)
        elif one.problem is not None:
            failed[outcome.index] = one.problem
    items = [
        replace(every[place], target=target, words=people.words(every[place].path))
        for place, target in sorted(targets.items())
    ]
    for folder in {folder for item in items for folder in _folders(item)}:
        remove_leftovers(folder)
    _forget_stale(state, items)
    return items, [(every[place].path, failed[place]) for place in sorted(failed)]


def _folders(work: Copying) -> tuple[Path, ...]:
    """Where a killed process may have left half of a copy or of its record."""
    if work.target is None:
        return ()
    return work.target.parent, copy_record(work.out, work.target).parent


def _forget_stale(state: State, items: Sequence[Copying]) -> None:
    """Remove copies of an earlier run that did not know all words of their patient.

    They would be made again anyway; but a run that is stopped before that must not leave them.
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
    for item in items:
        if tokens[item.words] not in known and item.target is not None:
            item.target.unlink(missing_ok=True)
    write_json(notes, sorted(tokens.values()))


def _copy(
    items: Sequence[Copying], each: _Each
) -> tuple[tuple[Path, ...], int, list[tuple[Copying | None, Problem]]]:
    """Copy all files; of files with one SOPInstanceUID the first that can be copied is.

    Returns:
        The copies, how many of them an earlier run made, and the problems, each with its file.
    """
    groups: dict[Path, list[Copying]] = defaultdict(list)
    for item in items:
        if item.target is not None:
            groups[item.target].append(item)
    firsts = [group[0] for group in groups.values()]
    targets = list(groups)
    written: list[Path] = []
    cached = 0
    problems: list[tuple[Copying | None, Problem]] = []
    for outcome in each(copy_file, firsts, "files"):
        target = targets[outcome.index]
        first, *others = groups[target]
        done = outcome.result or Copied(problem=_unexpected(outcome))
        while done.problem is not None:
            problems.append((first, done.problem))
            if not others:
                break
            first, *others = others
            done = copy_file(first, Job())
        if done.problem is not None:
            target.unlink(missing_ok=True)  # the file may have been another one in an earlier run
            continue
        written.append(target)
        cached += done.cached
        if (conflict := _conflict(groups[target])) is not None:
            problems.append((None, conflict))
    return tuple(sorted(written)), cached, problems


def _conflict(group: Sequence[Copying]) -> Problem | None:
    """Tell of files with one SOPInstanceUID that differ."""
    if len(group) == 1 or len({content_of(item.path) for item in group}) == 1:
        return None
    text = f"{len(group)} files have the same SOPInstanceUID and differ; one is written."
    return Problem("conflicting-instances", text)


def _hidden(
    names: Names,
    root: Path,
    problem: Problem,
    path: Path | None = None,
    words: IdentityWords | None = None,
) -> Problem:
    files = () if path is None else (path,)
    return Problem(problem.kind, names.message(problem.message, root, files, words))
