"""From the header of one file to its image planes, and to what its series is known by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from sys import intern
from typing import TYPE_CHECKING

from medseg_nca.io.dicom.files.attributes import Attributes, group_values, tag_of
from medseg_nca.io.dicom.files.classes import CROSS_SECTIONS, MEASURED, Kind, kind_of
from medseg_nca.io.dicom.files.elements import Elements, elements_of
from medseg_nca.io.dicom.pixels.bits import wrong_bits
from medseg_nca.io.dicom.pixels.rescale import wrong_rescale
from medseg_nca.io.dicom.quiet import quiet
from medseg_nca.io.dicom.records import Plane, Problem, Vector
from medseg_nca.io.dicom.series.counts import Concatenation, concatenation_of, declared_counts
from medseg_nca.io.dicom.series.keys import plane_keys
from medseg_nca.io.dicom.series.meaning import meaning_of, missing_rescale

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# By these a person selects series and checks what they are.
TAGS = (
    "Modality", "SeriesNumber", "SeriesDescription", "ProtocolName", "SequenceName",
    "BodyPartExamined", "Laterality", "PatientPosition", "ImageType", "StudyDate", "StudyTime",
    "StudyDescription", "SeriesDate", "SeriesTime", "AccessionNumber", "PatientID", "PatientSex",
    "PatientAge", "Manufacturer", "ManufacturerModelName", "InstitutionName", "StationName",
    "MRAcquisitionType", "ScanningSequence", "SequenceVariant", "MagneticFieldStrength",
    "EchoTime", "RepetitionTime", "InversionTime", "FlipAngle", "KVP", "ConvolutionKernel",
    "ContrastBolusAgent", "SliceThickness", "SpacingBetweenSlices", "GantryDetectorTilt",
    "Units", "SeriesType", "ContentLabel", "BurnedInAnnotation", "SOPClassUID",
    "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID",
)  # fmt: skip

# More frames than any scanner writes into one file; a plane's record takes about 2 kB.
MAX_FRAMES = 100_000
_MOSAIC = (
    "is a Siemens mosaic, many slices in one picture; convert the series with dcm2niix, or have "
    "the scanner send it as enhanced MR."
)
# PS3.3 C.7.6.2.1.1 wants unit vectors at right angles; files round them to a few digits.
_UNIT_TOLERANCE = 1e-2


@dataclass(frozen=True)
class Instance:
    """What one file says.

    Attributes:
        path: the file.
        sop_instance_uid, sop_class_uid, series_uid, study_uid, patient_id: "" where absent.
        frame_of_reference_uid: None where absent.
        kind: by the SOP class.
        tags: see :data:`TAGS`; only those that are there.
        burned_in: whether BurnedInAnnotation is YES.
        planes: its image planes; () for what is no image.
        cross_section: whether its planes must have a position in the patient.
        image_type: the values of ImageType, upper case.
        problems: why its planes cannot be used.
        notes: what was assumed.
        declared: counts that the header declares, see :mod:`counts`; only of files with ``tags``.
        part: of an image in several files.
    """

    path: Path
    sop_instance_uid: str
    sop_class_uid: str
    series_uid: str
    study_uid: str
    patient_id: str
    frame_of_reference_uid: str | None
    kind: Kind
    tags: Mapping[str, str] = field(default_factory=dict)
    burned_in: bool = False
    planes: tuple[Plane, ...] = ()
    cross_section: bool = False
    image_type: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    notes: tuple[Problem, ...] = ()
    declared: Mapping[str, float] = field(default_factory=dict)
    part: Concatenation | None = None


def read_instance(
    path: Path, header: Dataset | Elements, *, known: set[str] | None = None
) -> Instance:
    """Gather what is needed of a header, as plain values.

    Args:
        path: the file.
        header: its elements, the pixels may be left out.
        known: what was read before; the tags of a series are gathered from its first file only.
    """
    with quiet():
        return _instance(path, elements_of(header), set() if known is None else known)


def _instance(path: Path, header: Elements, known: set[str]) -> Instance:
    file = Attributes(header)
    series_uid = intern(file.text("SeriesInstanceUID"))
    shape = file.number("Rows"), file.number("Columns")
    sop_class = file.text("SOPClassUID")
    kind = kind_of(sop_class, has_pixels=None not in shape)
    frames = _Frames(path, header, sop_class) if kind == "image" else None
    series = f"{kind} {series_uid}"
    is_first = series not in known
    first = file if frames is None else frames.first
    known.add(series)
    return Instance(
        path=path,
        sop_instance_uid=file.text("SOPInstanceUID"),
        sop_class_uid=intern(sop_class),
        series_uid=series_uid,
        study_uid=intern(file.text("StudyInstanceUID")),
        patient_id=intern(file.text("PatientID")),
        frame_of_reference_uid=intern(file.text("FrameOfReferenceUID")) or None,
        kind=kind,
        tags=_tags(first) if is_first else {},
        burned_in=file.text("BurnedInAnnotation").upper() == "YES",
        planes=() if frames is None else frames.planes,
        cross_section=sop_class in CROSS_SECTIONS,
        image_type=tuple(text.upper() for text in file.texts("ImageType")),
        problems=() if frames is None else tuple(frames.problems),
        notes=() if frames is None else tuple(frames.notes),
        declared=declared_counts(first) if is_first and frames is not None else {},
        part=None if frames is None else concatenation_of(file, len(frames.planes)),
    )


def _tags(attributes: Attributes) -> dict[str, str]:
    found = {keyword: attributes.text(keyword) for keyword in TAGS}
    return {keyword: intern(text) for keyword, text in found.items() if text}


class _Frames:
    """The planes of one image file, with what is wrong with them."""

    def __init__(self, path: Path, header: Elements, sop_class: str) -> None:
        self._path, self._header = path, header
        self.problems: list[Problem] = []
        self.notes: list[Problem] = []
        self.first = Attributes(header)
        self._uid, self._class = self.first.text("SOPInstanceUID"), intern(sop_class)
        self._needs_place = sop_class in CROSS_SECTIONS
        per_frame = _items(header, "PerFrameFunctionalGroupsSequence")
        count = self._count(per_frame)
        self._single = count == 1
        # Without functional groups the file has one position for all its frames at most.
        self._placed = self._single or bool(per_frame)
        self.planes: tuple[Plane, ...] = ()
        self._check_bits()
        if self._is_mosaic():
            self._refuse("mosaic", _MOSAIC)
        if not self.problems:
            self.planes = tuple(
                self._plane(number, attributes)
                for number, attributes in enumerate(self._attributes(per_frame, count))
            )
            self._note_meaning()

    def _count(self, per_frame: Sequence[Elements]) -> int:
        number = self.first.number("NumberOfFrames")
        count = len(per_frame) or 1 if number is None else int(number)
        if count < 1 or count > MAX_FRAMES:
            self._refuse("bad-value", f"NumberOfFrames is {count}; 1 to {MAX_FRAMES:,} are read.")
        elif per_frame and len(per_frame) != count:
            self._refuse(
                "frame-count",
                f"NumberOfFrames is {count}, and {len(per_frame)} frames are described.",
            )
        return count

    def _attributes(self, per_frame: Sequence[Elements], count: int) -> Iterator[Attributes]:
        """Yield the view of each frame: its groups, the shared ones, the file."""
        shared = _items(self._header, "SharedFunctionalGroupsSequence")
        if len(shared):
            self.first = Attributes(self._header, group_values(shared[0]), beyond=self.first)
        common = self.first
        for number in range(count):
            attributes = common
            if len(per_frame):
                own = group_values(per_frame[number])
                attributes = Attributes(self._header, own, beyond=common)
            if number == 0:
                self.first = attributes
            yield attributes

    def _plane(self, number: int, attributes: Attributes) -> Plane:
        rows, columns = attributes.number("Rows"), attributes.number("Columns")
        position = attributes.numbers("ImagePositionPatient", 3) if self._placed else None
        directions = attributes.numbers("ImageOrientationPatient", 6) if self._placed else None
        row, column = self._orientation(directions)
        spacing = self._spacing(attributes)
        thickness = attributes.number("SpacingBetweenSlices", "SliceThickness")
        self._check(attributes)
        own_number = attributes.number("InstanceNumber") if self._single else number + 1
        return Plane(
            path=self._path,
            frame=None if self._single else number,
            sop_instance_uid=self._uid,
            position=None if position is None else (position[0], position[1], position[2]),
            row=row,
            column=column,
            spacing=spacing,
            shape=(int(rows or 0), int(columns or 0)),
            instance_number=None if own_number is None else int(own_number),
            keys=plane_keys(attributes, private=self._single),
            thickness=abs(thickness) if thickness else None,
            meaning=meaning_of(attributes),
            sop_class_uid=self._class,
        )

    def _orientation(
        self, values: tuple[float, ...] | None
    ) -> tuple[Vector, Vector] | tuple[None, None]:
        if values is None:
            return None, None
        row, column = values[:3], values[3:]
        lengths = [sum(v * v for v in vector) ** 0.5 for vector in (row, column)]
        if any(abs(length - 1) > _UNIT_TOLERANCE for length in lengths) or (
            abs(sum(a * b for a, b in zip(row, column, strict=True))) > _UNIT_TOLERANCE
        ):
            self._refuse(
                "bad-orientation",
                f"ImageOrientationPatient is {[round(v, 4) for v in values]}: not two unit vectors "
                "at right angles.",
            )
        a, b = (
            tuple(v / (length or 1.0) for v in vector)
            for vector, length in zip((row, column), lengths, strict=True)
        )
        return (a[0], a[1], a[2]), (b[0], b[1], b[2])

    def _spacing(self, attributes: Attributes) -> tuple[float, float] | None:
        """PixelSpacing; for pictures what comes nearest to it (PS3.3 10.7.1.3)."""
        names = ["PixelSpacing"]
        if not self._needs_place:
            names += ["ImagerPixelSpacing", "NominalScannedPixelSpacing"]
        for name in names:
            values = attributes.numbers(name, 2)
            if values is None:
                continue
            if min(values) <= 0:
                attributes.bad.add(name)
                continue
            if name != "PixelSpacing":
                self._note("assumed-spacing", f"the size of a pixel is taken from {name}.")
            return values[0], values[1]
        return None if self._needs_place else _ultrasound_spacing(self._header)

    def _is_mosaic(self) -> bool:
        """By ImageType, or where that was changed by Siemens' number of pictures in it."""
        if "MOSAIC" in (text.upper() for text in self.first.texts("ImageType")):
            return True
        if not self._single or self.first.text("Modality") != "MR":
            return False
        count = self.first.private(0x0019, "SIEMENS MR HEADER", 0x0A)
        return count is not None and count[0] > 1

    def _note_meaning(self) -> None:
        """Tell what could be done to the values, and is not."""
        mapped = _items(self._header, "RealWorldValueMappingSequence")
        if mapped or self.first.texts("RealWorldValueSlope"):
            self._note("real-world-values", "maps its values to real-world ones; not applied.")
        if self.first.text("PhotometricInterpretation") == "MONOCHROME1":
            measured = self.first.text("SOPClassUID") in MEASURED
            done = "stay as they are stored" if measured else "are turned, unless they have a unit"
            self._note("monochrome1", f"low is shown bright (MONOCHROME1); its values {done}.")

    def _check_bits(self) -> None:
        names = ("BitsAllocated", "BitsStored", "HighBit")
        wrong = wrong_bits(*(self.first.number(name) for name in names))
        if wrong:
            self._refuse("bad-value", wrong)

    def _check(self, attributes: Attributes) -> None:
        wrong = wrong_rescale(attributes)
        if wrong:
            self._refuse("bad-value", f"{wrong}.")
        elif missing := missing_rescale(attributes):
            self._note(missing.kind, missing.message)
        bad = attributes.bad & {
            "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns",
        }  # fmt: skip
        if bad:
            self._refuse("bad-value", f"{', '.join(sorted(bad))} cannot be understood.")

    def _refuse(self, kind: str, text: str) -> None:
        problem = Problem(kind, f"{self._path}: {text}")
        if problem not in self.problems[:10]:
            self.problems.append(problem)

    def _note(self, kind: str, text: str) -> None:
        note = Problem(kind, f"{self._path}: {text}")
        if note not in self.notes:
            self.notes.append(note)


def _items(header: Elements, keyword: str) -> Sequence[Elements]:
    return header.items(tag_of(keyword))


def _ultrasound_spacing(header: Elements) -> tuple[float, float] | None:
    """Return mm between rows, columns of the one region of a picture (PS3.3 C.8.5.5)."""
    regions = _items(header, "SequenceOfUltrasoundRegions")
    if len(regions) != 1:
        return None
    region = Attributes(regions[0])
    centimetres = (3.0, 3.0)
    units = region.number("PhysicalUnitsYDirection"), region.number("PhysicalUnitsXDirection")
    steps = region.number("PhysicalDeltaY"), region.number("PhysicalDeltaX")
    if units != centimetres or not all(steps):
        return None
    return abs(steps[0] or 0.0) * 10, abs(steps[1] or 0.0) * 10
