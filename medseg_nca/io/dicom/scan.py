"""Find the series in any tree of files, and say what volumes they make or why they make none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from medseg_nca.errors import ImageError, MedsegError
from medseg_nca.io.dicom.files.reader import scanned
from medseg_nca.io.dicom.files.walk import walk
from medseg_nca.io.dicom.problems import DicomError
from medseg_nca.io.dicom.records import Problem, Scan, Series, Stack
from medseg_nca.io.dicom.series.copies import without_copies
from medseg_nca.io.dicom.series.instances import Instance, read_instance
from medseg_nca.io.dicom.series.stacks import sort_planes
from medseg_nca.job import Job

# Files with these endings are meant to be DICOM; if they are not, that is worth telling.
_SUFFIXES = {".dcm", ".dicom", ".ima", ".dic"}
_NO_IMAGE_FILE = {"not-dicom", "empty", "dicomdir"}
_CHUNK = 64
# The SeriesInstanceUID of a file that is damaged further on lies near its start.
_HEAD = 2**16
_STUDY_TAG, _SERIES_TAG = b"\x20\x00\x0d\x00", b"\x20\x00\x0e\x00"


def scan(root: Path, *, job: Job | None = None, workers: int = 1) -> Scan:
    """Find the series in a tree of files, with or without extension.

    Only headers are read, and only plain records are kept, about 3 kB for each plane. What is
    wrong with files and series is told in the result.

    Args:
        root: a folder, or one file.
        job: told how many files are read, under the phase "scanning".
        workers: processes that read headers; 1 reads in this process.

    Raises:
        ImageError: if there is nothing at ``root``.
        Interrupted: if the job was cancelled.
    """
    job = job or Job()
    root = Path(root)
    if not root.exists():
        raise ImageError(f"{root}: there is no such file or folder.")
    found = walk(root)
    unreadable = dict(found.unreadable)
    passed_over = found.passed_over
    instances: list[Instance] = []
    results = _read_all(found.files, workers)
    for done, (path, result) in enumerate(zip(found.files, results, strict=True), 1):
        if isinstance(result, Instance):
            instances.append(result)
        elif _is_passed_over(path, result, root):
            passed_over[result.kind if result.kind != "empty" else "not-dicom"] += 1
        else:
            unreadable[path] = result
        job.report("scanning", done, len(found.files), unit="files")
    return Scan(root, sort_series(instances, unreadable), unreadable, dict(passed_over))


def read_files(paths: Sequence[Path]) -> Scan:
    """Return the series of the files that are named, as :func:`scan` does for a tree."""
    known: set[str] = set()
    results = {path: _read_one(path, known) for path in dict.fromkeys(map(Path, sorted(paths)))}
    instances = [result for result in results.values() if isinstance(result, Instance)]
    unreadable = {path: r for path, r in results.items() if isinstance(r, Problem)}
    root = Path(paths[0]) if len(paths) == 1 else Path()
    return Scan(root, sort_series(instances, unreadable), unreadable)


def sort_series(
    instances: Iterable[Instance], unreadable: dict[Path, Problem] | None = None
) -> tuple[Series, ...]:
    """Group instances by SeriesInstanceUID and sort out the volumes of each series.

    Args:
        instances: of any series; those without a series UID are moved to ``unreadable``.
        unreadable: files that cannot be used. One that belongs to a series spoils its volumes.
    """
    unreadable = {} if unreadable is None else unreadable
    groups: dict[tuple[str, str], list[Instance]] = {}
    for instance in instances:
        if instance.series_uid:
            groups.setdefault((instance.series_uid, instance.kind), []).append(instance)
        else:
            unreadable[instance.path] = Problem(
                "no-series-uid", f"{instance.path}: has no SeriesInstanceUID."
            )
    lost = _lost_files(unreadable) if groups else {}
    series = [
        _series(sorted(group, key=lambda i: i.path), lost.get(uid, {}))
        for (uid, _), group in groups.items()
    ]
    return tuple(sorted(series, key=_display_order))


def _series(instances: list[Instance], lost: Mapping[Path, Problem]) -> Series:
    kept, problems, notes = without_copies(instances)
    problems += _mixed(instances)
    stacks: tuple[Stack, ...] = ()
    if kept[0].kind == "image" and not problems:
        done = sort_planes(kept)
        stacks = tuple(done.stacks)
        problems += done.problems
        notes += done.notes
        if lost:
            problems += lost.values()
            stacks = tuple(stack for stack in stacks if len(stack.shape) == 2)
    first = kept[0]
    return Series(
        uid=first.series_uid,
        study_uid=first.study_uid,
        patient_id=first.patient_id,
        frame_of_reference_uid=next(
            (i.frame_of_reference_uid for i in kept if i.frame_of_reference_uid), None
        ),
        kind=first.kind,
        files=tuple(instance.path for instance in kept),
        tags=_tags(instances),
        stacks=stacks,
        problems=tuple(problems),
        notes=tuple(notes),
        damaged=tuple(sorted(lost)),
    )


def _tags(instances: Sequence[Instance]) -> dict[str, str]:
    """The tags of the first file; one file with burned-in annotations marks the whole series."""
    tags = dict(next((i.tags for i in instances if i.tags), {}))
    return tags | ({"BurnedInAnnotation": "YES"} if any(i.burned_in for i in instances) else {})


def _mixed(instances: Sequence[Instance]) -> list[Problem]:
    """Refuse a series of several studies or patients: PS3.3 A.1 allows one of each."""
    found = []
    of_one: tuple[tuple[str, str, Callable[[Instance], str]], ...] = (
        ("mixed-patients", "patients", lambda instance: instance.patient_id),
        ("mixed-studies", "studies", lambda instance: instance.study_uid),
    )
    for kind, noun, value_of in of_one:
        firsts = {value_of(i): i.path for i in reversed(instances) if value_of(i)}
        if len(firsts) > 1:
            one, other, *_ = sorted(firsts.values())
            found.append(
                Problem(
                    kind,
                    f"files of {len(firsts)} {noun} have the same SeriesInstanceUID, for example "
                    f"{one} and {other}.",
                )
            )
    return found


def _read_all(paths: Sequence[Path], workers: int) -> Iterator[Instance | Problem]:
    """Read headers in the order of the paths; the first of a series at least has its tags."""
    if workers < 2 or len(paths) <= _CHUNK:
        known: set[str] = set()
        yield from (_read_one(path, known) for path in paths)
        return
    import multiprocessing

    context = multiprocessing.get_context("spawn")
    chunks = [paths[k : k + _CHUNK] for k in range(0, len(paths), _CHUNK)]
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        try:
            for results in pool.map(_read_chunk, chunks):
                yield from results
        except BrokenProcessPool as error:
            raise MedsegError(
                "A process that read DICOM headers was killed, probably for want of memory.",
                hint="Run again with fewer --workers.",
            ) from error


def _read_chunk(paths: Sequence[Path]) -> list[Instance | Problem]:
    known: set[str] = set()
    return [_read_one(path, known) for path in paths]


def _read_one(path: Path, known: set[str]) -> Instance | Problem:
    try:
        with scanned(path) as header:
            return read_instance(path, header, known=known)
    except DicomError as error:
        return error.problem
    except Exception as error:  # a scan goes on, whatever stands in a header
        return Problem("damaged", f"{path}: has a header of no sense ({type(error).__name__}).")


def _is_passed_over(path: Path, problem: Problem, root: Path) -> bool:
    if problem.kind not in _NO_IMAGE_FILE or path == root:
        return False
    return problem.kind == "dicomdir" or path.suffix.lower() not in _SUFFIXES


def _lost_files(unreadable: dict[Path, Problem]) -> dict[str, dict[Path, Problem]]:
    """The files that cannot be read by the series that they say they belong to."""
    found: dict[str, dict[Path, Problem]] = {}
    for path, problem in unreadable.items():
        if problem.kind in _NO_IMAGE_FILE:
            continue
        uid = series_uid_of_damaged(path)
        if uid:
            text = f"a file of the series: {problem.message}"
            found.setdefault(uid, {})[path] = Problem("unreadable-files", text)
    return found


def series_uid_of_damaged(path: Path) -> str:
    """Find the SeriesInstanceUID in the first bytes of a file that is damaged further on.

    It is taken where it follows on the StudyInstanceUID, as it does at the top level (not in
    references to other series), little endian, if it is complete. "" if there is none.
    """
    try:
        if not path.is_file():  # opening a pipe would wait for ever
            return ""
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return ""
    start = head.find(_STUDY_TAG)
    while start >= 0:
        _, after = _uid_at(head, start)
        if head[after : after + 4] == _SERIES_TAG:
            return _uid_at(head, after)[0]
        start = head.find(_STUDY_TAG, start + 1)
    return ""


def _uid_at(head: bytes, start: int) -> tuple[str, int]:
    """The UID of an element with or without VR, "" if it is cut, and where it ends."""
    explicit = head[start + 4 : start + 6] == b"UI"
    length = head[start + 6 : start + 8] if explicit else head[start + 4 : start + 8]
    end = start + 8 + int.from_bytes(length, "little")
    value = head[start + 8 : end]
    return ("" if end > len(head) else value.decode("ascii", "replace").strip(" \0")), end


def _display_order(series: Series) -> tuple[str, str, float, str, str]:
    return series.patient_id, series.study_uid, series.number, series.uid, series.kind
