"""What an import does to one volume, in whatever process: read it, place its annotations, write.

Each finished case leaves a record that names what it was made from. A case whose record still fits
is not made again, so the same command goes on where it stopped.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib

from medseg_nca.config import Settings
from medseg_nca.errors import MedsegError, OutputError
from medseg_nca.io.atomic import atomic_file
from medseg_nca.io.dicom.annotations.assign import Annotation
from medseg_nca.io.dicom.annotations.labels import OverlapRule
from medseg_nca.io.dicom.annotations.legend import FoundSegment
from medseg_nca.io.dicom.deid.deidentify import Deidentifier, burned_in
from medseg_nca.io.dicom.deid.words import IdentityWords
from medseg_nca.io.dicom.files.reader import read_header
from medseg_nca.io.dicom.files.syntaxes import syntax_name
from medseg_nca.io.dicom.problems import DicomError
from medseg_nca.io.dicom.read import Tilt, read_stack, stack_slices
from medseg_nca.io.dicom.records import Problem, Series, Stack
from medseg_nca.io.dicom.series.turn import as_dcm2niix, is_turned
from medseg_nca.io.slices import Slices
from medseg_nca.io.volume import OnGrid, Volume
from medseg_nca.io.write import write_slices, write_volume
from medseg_nca.job import Job
from medseg_nca.pipelines.dicom_labels import FoundOverlap, Placed, place_annotations
from medseg_nca.pipelines.dicom_names import Names
from medseg_nca.work.finished import FinishedRecord, content_of, finished_or

# To be raised when the meaning of a record changes: all cases are then imported again.
RECORD_VERSION = 3
STATE = ".medseg-nca"
CLUSTER = "cluster"
IMAGES, LABELS = "imagesTr", "labelsTr"
NIFTI, COLOUR = ".nii.gz", ".png"


class Note(Settings):
    """A stored :class:`Problem`; ``object`` is the hashed UID of an annotation's series."""

    kind: str
    message: str
    object: str | None = None


class Object(Settings):
    """An annotation object that a label map was made from; its UIDs are hashed."""

    kind: str
    series: str


class MapRecord(Settings):
    """One label map of an image, and the name of the case that it makes.

    ``own`` holds it with numbers of its own; both paths are relative to the data set.
    """

    id: str
    image: str
    own: str | None = None
    segments: tuple[FoundSegment, ...] = ()
    objects: tuple[Object, ...] = ()
    overlaps: tuple[FoundOverlap, ...] = ()


class Record(FinishedRecord):
    """A finished volume. UIDs are hashed; ``tags`` are those that it was selected by."""

    id: str
    patient: str
    study: str | None
    series: str | None
    frame_of_reference: str | None
    stack: str
    modality: str
    files: int
    transfer_syntax: str
    channels: int
    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    orientation: str
    affine: tuple[tuple[float, ...], ...]
    resampled: bool
    tags: dict[str, str]
    maps: tuple[MapRecord, ...]
    refused: tuple[Note, ...] = ()
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True)
class How:
    """What all volumes of an import share.

    Attributes:
        out: folder of the data set, absolute.
        root: folder that is imported, absolute.
        names: see :class:`Names`.
        tags: names of the tags that are kept with a case.
        tilt, overlap: see :func:`read_stack` and :func:`place_annotations`.
        deidentifier: None where names may be kept.
    """

    out: Path
    root: Path
    names: Names
    tags: tuple[str, ...]
    tilt: Tilt
    overlap: OverlapRule
    deidentifier: Deidentifier | None


@dataclass(frozen=True)
class Importing:
    """One volume to import.

    Attributes:
        id: name of the case.
        series: that the volume is of, without its lists of files and stacks.
        stack: the volume.
        stack_name: its name as reports may show it.
        annotations: that were drawn on it, in their order.
        how: what all volumes share.
        words: that name its patient, from all of his or her files.
    """

    id: str
    series: Series
    stack: Stack
    stack_name: str
    annotations: tuple[Annotation, ...]
    how: How
    words: IdentityWords = field(default_factory=IdentityWords)

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that its voxels and annotations lie in."""
        planes = dict.fromkeys(plane.path for plane in self.stack.planes)
        return (*planes, *(annotation.path for annotation in self.annotations))


@dataclass(frozen=True)
class Imported:
    """What became of it: a record, or the reason why there is none."""

    id: str
    record: Record | None = None
    problem: Problem | None = None
    cached: bool = False


def import_case(work: Importing, job: Job) -> Imported:
    """Import a volume, or take what an earlier run made of the same files in the same way.

    Args:
        work: which volume.
        job: is not told how far it is: a volume takes seconds.

    Raises:
        OutputError: if something cannot be written.
    """
    out, key = work.how.out, _key(work)
    try:
        record, cached = finished_or(
            record_file(out, work.id),
            Record,
            key,
            lambda known: _is_complete(out, known),
            lambda: _import(work, key),
        )
        return Imported(work.id, record, cached=cached)
    except OutputError:
        raise
    except DicomError as error:
        problem = error.problem
    except MedsegError as error:
        problem = Problem("unusable", error.message)
    except MemoryError:
        problem = Problem("too-large", f"{work.files[0]}: does not fit in memory.")
    except Exception as error:
        if work.how.deidentifier is None:
            raise
        # Its text may quote the header, and would be logged.
        problem = Problem("unexpected", f"unexpected {type(error).__name__}")
    return Imported(work.id, problem=problem)


def record_file(out: Path, case: str) -> Path:
    """Where the record of a volume lies."""
    return out / STATE / "cases" / f"{case}.json"


def case_files(out: Path, record: Record) -> list[Path]:
    """The files of a volume that exist before the label maps get their final numbers."""
    named = [name for one in record.maps for name in (one.image, one.own) if name]
    return [out / name for name in named]


def _is_complete(out: Path, record: Record) -> bool:
    return all(path.is_file() for path in case_files(out, record))


def _import(work: Importing, key: str) -> Record:
    how = work.how
    header = read_header(work.stack.planes[0].path)
    if how.deidentifier is not None:
        _check_burned_in(work, header, how.deidentifier)
    image = _image(work)
    placed = place_annotations(
        image,
        work.annotations,
        how.overlap,
        None if how.deidentifier is None else work.words.found_in_label,
    )
    turned = as_dcm2niix(image, work.series, work.stack) if isinstance(image, Volume) else image
    maps = _write(work, turned, placed)
    return _record(work, key, str(header.file_meta.TransferSyntaxUID), turned, placed, maps)


def _image(work: Importing) -> Volume | Slices:
    """Read the image, slice by slice if it is written to the file in that order."""
    if not is_turned(work.series, work.stack):
        slices = stack_slices(work.series, work.stack)
        if slices is not None:
            return slices
    return read_stack(work.series, work.stack, tilt=work.how.tilt)


def _check_burned_in(work: Importing, header: Any, how: Deidentifier) -> None:
    """Refuse images that may have writing in them."""
    problem = None if how.allow_burned_in else _burned_in(work.series, header)
    if problem is not None:
        raise DicomError(Problem(problem.kind, f"{work.files[0]}: {problem.message}"))


def _burned_in(series: Series, header: Any) -> Problem | None:
    """What the scan found in any file of the series, else what its first file says."""
    if series.tags.get("BurnedInAnnotation", "").upper() == "YES":
        return Problem("burned-in-annotation", "BurnedInAnnotation is YES in its series.")
    return burned_in(header)


def _write(work: Importing, image: Volume | Slices, placed: Placed) -> tuple[MapRecord, ...]:
    """Write the image once for each label map; the maps keep numbers of their own."""
    out = work.how.out
    suffix = _suffix(work, image)
    maps: list[MapRecord] = []
    for number, found in enumerate(placed.maps or (None,), start=1):
        name = work.id if number == 1 else f"{work.id}_annotation-{number}"
        target = out / IMAGES / f"{name}{suffix}"
        if maps:
            _copy(out / maps[0].image, target)
        elif isinstance(image, Slices):
            write_slices(image, target)
        else:
            write_volume(Volume(image.array, image.affine), target)
        if found is None:
            maps.append(MapRecord(id=name, image=f"{IMAGES}/{target.name}"))
            continue
        own = f"{STATE}/labels/{name}{suffix}"
        turned = as_dcm2niix(found.volume, work.series, work.stack)
        write_volume(Volume(turned.array, turned.affine), out / own)
        objects = [
            Object(kind=o.kind, series=work.how.names.uid(o.series_uid) or "")
            for o in found.objects
        ]
        maps.append(
            MapRecord(
                id=name,
                image=f"{IMAGES}/{target.name}",
                own=own,
                segments=found.segments,
                objects=tuple(objects),
                overlaps=found.overlaps,
            )
        )
    return tuple(maps)


def _suffix(work: Importing, image: Volume | Slices) -> str:
    """The format of an image: PNG for a 2D image with colours, which NIfTI cannot hold."""
    if isinstance(image, Slices) or image.dims == 3 or image.channels == 1:
        return NIFTI
    if image.array.dtype.itemsize > 1:
        text = f"{work.files[0]}: is a colour picture of more than 8 bits."
        raise DicomError(Problem("unsupported-pixels", text))
    return COLOUR


def _copy(source: Path, target: Path) -> None:
    """Give a file a second name where the file system can do that, else copy it."""
    with atomic_file(target) as temporary:
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)


def _record(
    work: Importing,
    key: str,
    syntax: str,
    image: OnGrid,
    placed: Placed,
    maps: Sequence[MapRecord],
) -> Record:
    names, series = work.how.names, work.series
    notes = [_note(work, problem) for problem in series.notes]
    notes += [_note(work, problem) for found in placed.maps for problem in found.notes]
    return Record(
        key=key,
        id=work.id,
        patient=names.patient(series),
        study=names.uid(series.study_uid),
        series=names.uid(series.uid),
        frame_of_reference=names.uid(series.frame_of_reference_uid),
        stack=work.stack_name,
        modality=names.modality(series),
        files=len({plane.path for plane in work.stack.planes}),
        transfer_syntax=syntax_name(syntax),
        channels=image.channels,
        shape=image.shape,
        spacing=tuple(round(step, 6) for step in image.spacing),
        orientation="".join(map(str, nib.aff2axcodes(image.affine)))[: image.dims],
        affine=tuple(tuple(float(v) for v in row) for row in image.affine),
        resampled=bool(work.stack.shear_mm),
        tags=_tags(work),
        maps=tuple(maps),
        refused=tuple(_note(work, problem, a.series_uid) for a, problem in placed.refused),
        notes=tuple(notes),
    )


def _tags(work: Importing) -> Mapping[str, str]:
    """What the volume was selected by, unless it may name the patient."""
    tags = {tag: work.series.tags.get(tag, "") for tag in work.how.tags}
    if work.how.deidentifier is None:
        return tags
    from pydicom.datadict import dictionary_VR, tag_for_keyword

    from medseg_nca.io.dicom.deid.rules import Action, action_of

    kept = {}
    for tag, value in tags.items():
        number = tag_for_keyword(tag)
        known = number is not None and action_of(number, dictionary_VR(number)) is Action.KEEP
        kept[tag] = value if known and not work.words.found_in(value) else "REMOVED"
    return kept


def _note(work: Importing, problem: Problem, annotation: str | None = None) -> Note:
    names = work.how.names
    message = names.message(problem.message, work.how.root, work.files, work.words)
    return Note(kind=problem.kind, message=message, object=names.uid(annotation))


def _key(work: Importing) -> str:
    """Tells whether a record was made from this content in this way."""
    how, deidentifier = work.how, work.how.deidentifier
    return how.names.key(
        RECORD_VERSION,
        work.id,
        work.stack.name,
        [content_of(path) for path in work.files],
        how.tags,
        how.tilt,
        how.overlap,
        None if deidentifier is None else [deidentifier.allow_burned_in, work.words.listed()],
    )
