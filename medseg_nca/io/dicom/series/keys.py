"""The values by which the volumes of one series are told apart: echo, b-value, time, ..."""

from __future__ import annotations

from sys import intern

from medseg_nca.io.dicom.files.attributes import Attributes
from medseg_nca.io.dicom.series.clock import moment, moment_of

# Name of a key: the keywords that it is read from, classic and enhanced, the first that is there.
# Their order is the order in which a series is split.
IDENTITIES: dict[str, tuple[str, ...]] = {
    "stack": ("StackID",),
    "type": ("FrameType", "ImageType"),
    "component": ("ComplexImageComponent",),
    "echo": ("EchoNumbers",),
    "te": ("EffectiveEchoTime", "EchoTime"),
    "b": ("DiffusionBValue",),
    "direction": ("DiffusionGradientOrientation",),
    "ti": ("InversionTime",),
    "flip": ("FlipAngle",),
    "kv": ("KVP",),
    "kernel": ("ConvolutionKernel",),
    "thickness": ("SliceThickness",),
    "phase": ("NominalPercentageOfCardiacPhase",),
    "time": ("TemporalPositionIndex", "TemporalPositionIdentifier"),
}
# Keys whose values often differ from slice to slice, too.
ORDERS: dict[str, tuple[str, ...]] = {
    "trigger": ("NominalCardiacTriggerDelayTime", "TriggerTime"),
    "reference": ("FrameReferenceTime",),
    "acquisition": ("FrameAcquisitionNumber", "AcquisitionNumber"),
    "clock": ("FrameAcquisitionDateTime", "AcquisitionDateTime", "AcquisitionTime"),
    "content": ("ContentTime",),
}
# Moments, see :mod:`clock`: the dates that belong to times of day.
MOMENTS = {"clock": "AcquisitionDate", "content": "ContentDate"}
# Settings of the scanner, which repeat for each slice: values that differ by a ten-thousandth are
# one, written from another float.
SETTINGS = {"te", "b", "ti", "flip", "kv", "thickness", "phase"}
_TEXTS = {"stack", "type", "component", "kernel"}
# GE adds a flag of 1e9 to some b-values.
_GE_FLAG = 100_000


def plane_keys(attributes: Attributes, *, private: bool) -> dict[str, str | float | int]:
    """Return the keys of a plane that its header has a value for.

    Args:
        attributes: of the plane.
        private: whether to look for private elements of the file.
    """
    found: dict[str, str | float | int] = {}
    for key, keywords in (IDENTITIES | ORDERS).items():
        value = _value(key, keywords, attributes)
        if value is not None:
            found[key] = value
    if private and attributes.text("Modality") == "MR":
        _add_private_diffusion(found, attributes)
    return found


def _value(key: str, keywords: tuple[str, ...], attributes: Attributes) -> str | float | int | None:
    if key in MOMENTS:
        return _moment(keywords, MOMENTS[key], attributes)
    for keyword in keywords:
        if key == "direction":
            vector = attributes.numbers(keyword, 3)
            if vector:
                return _direction(vector)
            continue
        if key in _TEXTS:
            text = attributes.text(keyword)
            if text:
                return intern(text)
            continue
        number = attributes.number(keyword)
        if number is not None:
            return _tidy(number)
    return None


def _moment(keywords: tuple[str, ...], day: str, attributes: Attributes) -> int | None:
    *complete, time = keywords
    texts = [text for keyword in complete if (text := attributes.text(keyword))]
    of_day = attributes.text(time)
    if not texts and not of_day:
        return None
    zone = attributes.text("TimezoneOffsetFromUTC")
    found = (moment(text, zone) for text in texts)
    first = next((one for one in found if one is not None), None)
    return moment_of(attributes.text(day), of_day, zone) if first is None else first


def _add_private_diffusion(found: dict[str, str | float | int], attributes: Attributes) -> None:
    """Where the scanners of before the standard's attributes (0018,9087) wrote them."""
    if "b" not in found:
        siemens = attributes.private(0x0019, "SIEMENS MR HEADER", 0x0C)
        ge = attributes.private(0x0043, "GEMS_PARM_01", 0x39)
        philips = attributes.private(0x2001, "Philips Imaging DD 001", 0x03)
        value = siemens or philips
        if value:
            found["b"] = _tidy(value[0])
        elif ge:
            found["b"] = _tidy(ge[0] % _GE_FLAG)
    if "direction" not in found:
        vector = _private_direction(attributes, weighted=bool(found.get("b")))
        if vector:
            found["direction"] = _direction(vector)


def _private_direction(attributes: Attributes, *, weighted: bool) -> tuple[float, ...] | None:
    """The vector, or where there is none the number of the direction (Philips)."""
    siemens = attributes.private(0x0019, "SIEMENS MR HEADER", 0x0E)
    if siemens and len(siemens) == 3:
        return siemens
    parts = [("Philips MR Imaging DD 001", 0x2005, 0xB0)]
    if weighted:  # otherwise these are anything that the user has set
        parts.append(("GEMS_ACQU_01", 0x0019, 0xBB))
    for creator, group, first in parts:
        values = [attributes.private(group, creator, first + k) for k in range(3)]
        vector = tuple(value[0] for value in values if value)
        if len(vector) == 3:
            return vector
    return attributes.private(0x2005, "Philips MR Imaging DD 005", 0x13)


def _direction(vector: tuple[float, ...]) -> str:
    return "\\".join(f"{value:.6g}" for value in vector)


def _tidy(number: float) -> float | int:
    """Round a value: some devices write equal values with different last digits."""
    rounded = float(f"{number:.6g}")
    return int(rounded) if rounded.is_integer() else rounded
