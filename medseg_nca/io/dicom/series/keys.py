"""The values by which the volumes of one series are told apart: echo, b-value, time, ..."""

from __future__ import annotations

from sys import intern

from medseg_nca.io.dicom.files.attributes import Attributes

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
    "phase": ("NominalPercentageOfCardiacPhase",),
    "time": ("TemporalPositionIndex", "TemporalPositionIdentifier"),
}
# These often differ from slice to slice as well.
ORDERS: dict[str, tuple[str, ...]] = {
    "trigger": ("NominalCardiacTriggerDelayTime", "TriggerTime"),
    "reference": ("FrameReferenceTime",),
    "acquisition": ("FrameAcquisitionNumber", "AcquisitionNumber"),
    "clock": ("FrameAcquisitionDateTime", "AcquisitionDateTime", "AcquisitionTime"),
    "content": ("ContentTime",),
}
_TEXTS = {"stack", "type", "component", "kernel", "clock", "content"}
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
    for keyword in keywords:
        if key == "direction":
            vector = attributes.numbers(keyword, 3)
            if vector:
                return _direction(vector)
            continue
        if key in _TEXTS:
            text = attributes.text(keyword)
            if text:
                # Dates are of one form inside a series, so their texts sort as they do.
                return intern(text)
            continue
        number = attributes.number(keyword)
        if number is not None:
            return _tidy(number)
    return None


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
        vector = attributes.private(0x0019, "SIEMENS MR HEADER", 0x0E)
        if vector and len(vector) == 3:
            found["direction"] = _direction(vector)


def _direction(vector: tuple[float, ...]) -> str:
    return "\\".join(f"{value:.4g}" for value in vector)


def _tidy(number: float) -> float | int:
    """Equal values are written with other last digits by some devices."""
    rounded = float(f"{number:.6g}")
    return int(rounded) if rounded.is_integer() else rounded
