"""Rules that every DICOM object must meet, and rules about what it refers to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from medseg_nca.io.dicom.objects.values import is_uid

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# PS3.5 6.2: the most characters of a value.
_LENGTHS = {"DS": 16, "IS": 12, "SH": 16, "LO": 64, "CS": 16}
Tool = Literal["dciodvfy", "medseg-nca"]
# What an object and the instances that it refers to must have in common.
COMPARED = ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID")
_IDENTITY = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")


@dataclass(frozen=True)
class ObjectFinding:
    """One thing that is wrong or doubtful; the message holds no patient data."""

    severity: Literal["error", "warning"]
    source: Tool
    message: str


def error(message: str) -> ObjectFinding:
    """An error by a rule of ours."""
    return ObjectFinding("error", "medseg-nca", message)


def warning(message: str) -> ObjectFinding:
    """A warning by a rule of ours."""
    return ObjectFinding("warning", "medseg-nca", message)


def common_rules(dataset: Dataset) -> Iterator[ObjectFinding]:
    """Identity, UIDs, lengths of values, codes and the size of the pixel data."""
    for keyword in _IDENTITY:
        if not dataset.get(keyword):
            yield error(f"{keyword} is absent")
    meta = getattr(dataset, "file_meta", None)
    for keyword in ("SOPClassUID", "SOPInstanceUID"):
        said = "" if meta is None else meta.get(f"MediaStorage{keyword}", "")
        if said and str(said) != str(dataset.get(keyword, "")):
            yield error(f"the file's meta information names another {keyword}")
    counts: dict[ObjectFinding, int] = {}
    for finding in _elements(dataset):
        counts[finding] = counts.get(finding, 0) + 1
    for finding, count in counts.items():
        times = f" ({count} times)" if count > 1 else ""
        yield ObjectFinding(finding.severity, finding.source, finding.message + times)


def reference_rules(
    dataset: Dataset, known: Mapping[str, Mapping[str, Any]]
) -> Iterator[ObjectFinding]:
    """Instances that are referred to and known must be of the same study and frame of reference.

    Args:
        dataset: the object.
        known: the values of :data:`COMPARED` of other instances, by SOPInstanceUID.
    """
    referred = [known[uid] for uid in sorted(referenced_instances(dataset)) if uid in known]
    own = dataset.get("FrameOfReferenceUID")
    for other in referred:
        if other.get("StudyInstanceUID") != dataset.get("StudyInstanceUID"):
            yield error("refers to an instance of another study")
        theirs = other.get("FrameOfReferenceUID")
        if own and theirs and own != theirs:
            yield error("refers to an instance of another frame of reference")
        if other.get("PatientID") != dataset.get("PatientID"):
            yield error("refers to an instance of another patient")


def referenced_instances(dataset: Dataset) -> set[str]:
    """Return every SOPInstanceUID that an object refers to, at any depth."""
    found = set()
    for element in walk(dataset):
        if element.keyword == "ReferencedSOPInstanceUID" and element.value:
            found.add(str(element.value))
    return found


def walk(dataset: Dataset) -> Iterator[Any]:
    """Yield every element at any depth."""
    for element in dataset:
        yield element
        if element.VR == "SQ":
            for item in element.value:
                yield from walk(item)


def values_of(element: Any) -> list[Any]:
    """Return the values of an element as a list; none if it is empty."""
    if element.is_empty:
        return []
    return list(element.value) if element.VM > 1 else [element.value]


def _elements(dataset: Dataset) -> Iterator[ObjectFinding]:
    for element in walk(dataset):
        name = element.keyword or str(element.tag)
        if element.VR == "UI":
            for value in values_of(element):
                if not is_uid(str(value)):
                    yield error(f"{name} holds what is no UID")
        elif element.VR in _LENGTHS:
            most = _LENGTHS[element.VR]
            if any(_length(value) > most for value in values_of(element)):
                yield error(f"{name} holds a value of more than {most} characters ({element.VR})")


def _length(value: Any) -> int:
    return len(str(getattr(value, "original_string", value)).strip())
