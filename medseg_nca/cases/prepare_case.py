"""What ``preprocess`` does to one case, in whatever process: measure it, prepare it.

Both steps leave a file that names the content and the settings it was made from. A step whose file
still fits is not done again, so a second run makes only what is missing or has changed.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from medseg_nca.config import LabelTable, PreprocessPlan
from medseg_nca.datasets.base import Case
from medseg_nca.datasets.hashing import file_hash
from medseg_nca.datasets.prepared import INDEX, PreparedCase, array_file
from medseg_nca.errors import OutputError
from medseg_nca.io.atomic import atomic_file, write_json
from medseg_nca.io.read import read_image, read_label
from medseg_nca.io.volume import Volume
from medseg_nca.job import Job
from medseg_nca.transforms.fingerprint import CaseFingerprint, measure
from medseg_nca.transforms.grid import turned_place
from medseg_nca.transforms.prepare import Preparation, prepare
from medseg_nca.work.case_records import content_key

# Raise it when the meaning of a cached file changes; all files are then made again.
CACHE_VERSION = 2
# Raise it when only the meaning of the stored measurements changes; they cost less than the cases.
MEASURED_VERSION = 2
MEASUREMENTS = "fingerprints"
# The parts of the plan that do not affect the prepared arrays.
_ONLY_TRAINING = {"crop_size", "scales", "modality", "training"}


@dataclass(frozen=True)
class Measuring:
    """The first step, measuring: a case, and the folder of the results."""

    case: Case
    out: Path


@dataclass(frozen=True)
class Preparing:
    """The second step, preparing: a case, the folder of the results, and how it is prepared.

    The plan and the labels are decided from the measurements of all cases.
    """

    case: Case
    out: Path
    plan: PreprocessPlan
    labels: LabelTable


@dataclass(frozen=True)
class Prepared:
    """A prepared case.

    Attributes:
        case: the case as the index lists it.
        hashes: the hash of each source file, so that the files need not be read again.
        cached: whether an earlier run made it.
    """

    case: PreparedCase
    hashes: Mapping[str, str]
    cached: bool


def measure_case(work: Measuring, job: Job) -> CaseFingerprint:
    """Measure a case, or return what an earlier run measured of the same files.

    Args:
        work: the case.
        job: gets no reports, because a case takes seconds.

    Raises:
        DataError: if the case cannot be used.
        OutputError: if the result cannot be written.
    """
    key = _key(MEASURED_VERSION, _contents(work.case), *_numbering(work.case))
    path = work.out / MEASUREMENTS / f"{work.case.id}.json"
    known = _read_measurement(path, key)
    if known is not None:
        return known
    image, label = _read(work.case)
    found = measure(image, label)
    write_json(path, {"key": key, "measured": found.model_dump(mode="json")})
    return found


def prepare_case(work: Preparing, job: Job) -> Prepared:
    """Prepare a case, or take what an earlier run made of the same files by the same plan.

    Args:
        work: the case.
        job: gets no reports, because a case takes seconds.

    Raises:
        DataError: if the case cannot be used.
        OutputError: if the result cannot be written.
    """
    plan = work.plan.model_dump(mode="json", exclude=_ONLY_TRAINING)
    contents = _contents(work.case)
    key = _key(contents, plan, work.labels.model_dump(mode="json"), *_numbering(work.case))
    hashes = _by_file(work.case, contents)
    path = array_file(work.out, work.case.id)
    known = _read_counts(path, key)
    if known is not None:
        return Prepared(_describe(work.case, key, *known), hashes, cached=True)
    image, label = _read(work.case)
    made = prepare(image, work.plan, label, work.labels)
    shape, counts = list(made.image.shape[1:]), _foreground(made, work.labels)
    # The index of an earlier run is wrong from here on.
    remove_file(work.out / INDEX)
    _write(path, made, {"key": key, "shape": shape, "foreground": counts})
    return Prepared(_describe(work.case, key, shape, counts), hashes, cached=False)


def placed(
    case: PreparedCase, found: CaseFingerprint, plan: PreprocessPlan, labels: LabelTable
) -> PreparedCase:
    """Return the case with the centre of each of its labels, on the axes that the plan gives."""
    centres = {}
    for label in labels.labels:
        sizes = [(found.labels or {}).get(value, 0) for value in label.values]
        places = [found.centres.get(value, (0.5,) * plan.dims) for value in label.values]
        if sum(sizes):
            centre = np.average(places, axis=0, weights=sizes)
            centres[label.name] = turned_place(centre.tolist(), found.codes, plan.orientation)
    return case.model_copy(update={"centres": centres})


def remove_file(path: Path) -> None:
    """Remove a file if it exists.

    Raises:
        OutputError: if it cannot be removed.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot be removed ({error.strerror}).") from error


def _read(case: Case) -> tuple[Volume, Volume | None]:
    image = read_image(case.images)
    return image, None if case.label is None else read_label(case.label, image, case.segments)


def _contents(case: Case) -> list[str | None]:
    return [*map(file_hash, case.images), file_hash(case.label) if case.label else None]


def _numbering(case: Case) -> list[Any]:
    """Return what besides its file decides the numbers of a label map that is a DICOM object."""
    return [] if case.segments is None else [case.segments.model_dump(mode="json")]


def _by_file(case: Case, contents: list[str | None]) -> dict[str, str]:
    paths = [*case.images, case.label]
    pairs = zip(paths, contents, strict=True)
    return {str(path): digest for path, digest in pairs if digest is not None}


def _key(*parts: Any) -> str:
    return content_key(CACHE_VERSION, *parts)


def _read_measurement(path: Path, key: str) -> CaseFingerprint | None:
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        return CaseFingerprint.model_validate(tree["measured"]) if tree["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError, ValidationError):
        return None  # the file is missing or damaged, so the case is measured again


def _read_counts(path: Path, key: str) -> tuple[list[int], dict[str, int]] | None:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            note = json.loads(arrays["note"].tobytes())
            return (note["shape"], note["foreground"]) if note["key"] == key else None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _write(path: Path, made: Preparation, note: dict[str, Any]) -> None:
    """Write one file for a case, so that arrays and note cannot come from different runs."""
    arrays: dict[str, Any] = {"image": made.image}
    if made.label is not None:
        arrays["label"] = made.label
    content = np.frombuffer(json.dumps(note).encode(), np.uint8)
    with atomic_file(path) as temporary:
        np.savez(temporary, note=content, **arrays)


def _foreground(made: Preparation, labels: LabelTable) -> dict[str, int]:
    if made.label is None:
        return {}
    if labels.multi_label:
        counts = made.label.reshape(len(labels.labels), -1).sum(1, dtype=np.int64)
    else:
        counts = np.bincount(made.label.ravel(), minlength=len(labels.labels) + 1)[1:]
    return {name: int(n) for name, n in zip(labels.names, counts, strict=True)}


def _describe(case: Case, key: str, shape: list[int], counts: dict[str, int]) -> PreparedCase:
    return PreparedCase(
        id=case.id,
        patient=case.patient,
        site=case.site,
        split=case.split,
        images=tuple(path.absolute() for path in case.images),
        label=None if case.label is None else case.label.absolute(),
        segments=case.segments,
        shape=tuple(shape),
        foreground=counts,
        key=key,
    )
