"""The text headers of NRRD and MetaImage: how the voxels lie in the file, and their units.

They are read before SimpleITK opens the file, which takes the memory that a header asks for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from medseg_nca.errors import ImageError
from medseg_nca.io.checks import DAMAGED
from medseg_nca.io.content import describe
from medseg_nca.io.units import millimetres

Encoding = Literal["raw", "zlib", "gzip", "text", "hex"]

_MAX_HEADER = 1 << 20
_MAX_DIMS = 8
_MAX_LINE = 1000  # of a field of NRRD: ITK quotes those it does not know in a buffer of fixed size
_NRRD_TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "signed long long int",
           "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}  # fmt: skip
_MET_TYPES = {
    "CHAR": "i1", "UCHAR": "u1", "SHORT": "i2", "USHORT": "u2", "INT": "i4", "UINT": "u4",
    "LONG": "i4", "ULONG": "u4", "LONG_LONG": "i8", "ULONG_LONG": "u8", "FLOAT": "f4",
    "DOUBLE": "f8",
}  # fmt: skip
_ENCODINGS: dict[str, Encoding] = {
    "raw": "raw", "gz": "gzip", "gzip": "gzip", "txt": "text", "text": "text", "ascii": "text",
    "hex": "hex",
}  # fmt: skip
_SPATIAL_KINDS = {"domain", "space", "time", "???", "none", "unknown"}
_INLINE = "Save header and voxels as one file."


@dataclass(frozen=True)
class VoxelLayout:
    """How the voxels lie in a file.

    Attributes:
        sizes: of all axes, the fastest first.
        components: which axis holds the components of a voxel, if one does.
        dtype: of the values, with their byte order.
        encoding: how they are packed.
        offset: where they begin, if ``at_end`` does not say that they end with the file.
        skip: bytes passed over after unpacking.
        at_end: whether the voxels are the last bytes (of the unpacked stream).
        units: the lines of the header that name the unit of its lengths, as they stand there.
        millimetres: how many one of its lengths is.
    """

    sizes: tuple[int, ...]
    components: int | None
    dtype: np.dtype[Any]
    encoding: Encoding
    offset: int
    skip: int = 0
    at_end: bool = False
    units: tuple[str, ...] = ()
    millimetres: float = 1.0

    @property
    def grid(self) -> tuple[int, ...]:
        """The sizes without that of the components."""
        return tuple(n for axis, n in enumerate(self.sizes) if axis != self.components)


def read_layout(path: Path) -> VoxelLayout:
    """Read the layout from the header of a .nrrd or .mha file.

    Raises:
        ImageError: if it has no such header, one that cannot be understood or that asks for what
            cannot be read, or its voxels lie in another file.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_MAX_HEADER)
        return _nrrd(path, head) if path.name.lower().endswith(".nrrd") else _mha(path, head)
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror}).") from error
    except (KeyError, ValueError) as error:
        raise _no_header(path, error) from error


def _no_header(path: Path, error: Exception) -> ImageError:
    """What to raise where a header cannot be understood, or is another format's."""
    promised = path.suffix[1:].upper()
    reason = f"it has no field {error}" if isinstance(error, KeyError) else str(error)
    found = describe(path)
    if found is not None and not found.endswith(f"({path.suffix.lower()})"):
        return ImageError(
            f"{path}: has no {promised} header ({reason}): it is {found}.",
            hint="Give it the name of its format, or convert it to NIfTI, NRRD or MHA.",
        )
    if found is None:
        return ImageError(f"{path}: has no {promised} header ({reason}).", hint=DAMAGED)
    return ImageError(
        f"{path}: its {promised} header cannot be used ({reason}).",
        hint="Save it anew with your imaging tool, or copy it again if it is damaged.",
    )


def _nrrd(path: Path, head: bytes) -> VoxelLayout:
    if not head.startswith(b"NRRD"):
        raise ValueError("it does not begin with NRRD")
    lines, offset = _lines(head)
    lines = [line for line in lines[1:] if line[0] != "#" and ":=" not in line]
    if max(map(len, lines), default=0) > _MAX_LINE:
        raise ValueError(f"a field of more than {_MAX_LINE} letters")
    pairs = (line.partition(":") for line in lines)
    fields = {key.strip().lower().replace(" ", ""): value.strip() for key, _, value in pairs}
    if "datafile" in fields:
        raise ImageError(f"{path}: its voxels lie in another file.", hint=_INLINE)
    encoding = _encoding(path, fields["encoding"].lower())
    sizes = tuple(int(n) for n in fields["sizes"].split())
    _check_dims(sizes, fields["dimension"])
    kinds = fields.get("kinds", "").lower().split()
    components = _components(path, kinds)
    for _ in range(int(fields.get("lineskip", "0"))):
        offset = head.index(b"\n", offset) + 1
    skip = int(fields.get("byteskip", "0"))
    if not (-1 if encoding == "raw" else 0) <= skip <= _MAX_HEADER:
        raise ValueError(f"byte skip {skip} with the encoding {encoding}")
    units, factor = _nrrd_units(path, fields, components)
    return VoxelLayout(
        sizes, components, _nrrd_type(fields), encoding, offset, max(skip, 0), skip == -1,
        units, factor,
    )  # fmt: skip


def _lines(head: bytes) -> tuple[list[str], int]:
    """The lines before the first empty one, and where what follows that begins."""
    lines: list[str] = []
    start = 0
    while (end := head.find(b"\n", start)) >= 0:
        line = _decoded(head[start:end]).rstrip("\r")
        start = end + 1
        if not line:
            return lines, start
        lines.append(line)
    raise ValueError("no empty line ends it")


def _decoded(line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return line.decode("latin-1")


def _encoding(path: Path, name: str) -> Encoding:
    if name in _ENCODINGS:
        return _ENCODINGS[name]
    known = ", ".join(sorted(set(_ENCODINGS.values()) - {"zlib"}))
    raise ImageError(
        f"{path}: its voxels are packed by {name}; {known} can be read.",
        hint="Nothing is wrong with the file: save it with the encoding gzip (unu save -e gzip).",
    )


def _nrrd_type(fields: dict[str, str]) -> np.dtype[Any]:
    name = " ".join(fields["type"].lower().split())
    found = next((code for code, names in _NRRD_TYPES.items() if name in names), None)
    if found is None:
        raise ValueError(f"type {name!r}")
    order = {"little": "<", "big": ">"}
    text = fields["encoding"].lower() in {"txt", "text", "ascii"}
    if found.endswith("1") or (text and "endian" not in fields):
        return np.dtype(found)
    endian = fields["endian"].lower()
    if endian not in order:
        raise ValueError(f"endian {endian!r}")
    return np.dtype(order[endian] + found)


def _components(path: Path, kinds: list[str]) -> int | None:
    """Which axis is none of space or time."""
    found = [axis for axis, kind in enumerate(kinds) if kind not in _SPATIAL_KINDS]
    if len(found) > 1 or "complex" in kinds:
        raise ImageError(
            f"{path}: has axes of the kinds {' '.join(kinds)}; one axis of real components, beside "
            "those of space, can be read.",
            hint="Save one file for each component.",
        )
    return found[0] if found else None


def _nrrd_units(
    path: Path, fields: dict[str, str], components: int | None
) -> tuple[tuple[str, ...], float]:
    """Of space, or else of the axes that are in space: the line, and the millimetres."""
    if "spaceunits" in fields:
        text = fields["spaceunits"]
        return (f"space units: {text}",), millimetres(path, "space units", _words(text))
    if "units" not in fields:
        return (), 1.0
    words = _words(fields["units"])
    spatial = [word for axis, word in enumerate(words) if axis != components][:3]
    factor = millimetres(path, "units", spatial)
    quoted = " ".join(f'"{word}"' for word in spatial)
    return (f"space units: {quoted}",), factor


def _check_dims(sizes: tuple[int, ...], said: str) -> None:
    """Refuse too many axes: ITK does not count them, and would write outside its memory."""
    if not 1 <= len(sizes) == int(said) <= _MAX_DIMS:
        raise ValueError(f"{said} axes of the sizes {sizes}")


def _words(text: str) -> list[str]:
    return re.findall(r'"([^"]*)"', text) or text.split()


def _mha(path: Path, head: bytes) -> VoxelLayout:
    fields, offset = _mha_fields(head)
    if fields["ElementDataFile"].upper() != "LOCAL":
        raise ImageError(f"{path}: its voxels lie in another file.", hint=_INLINE)
    _mha_scale(path, fields)
    sizes = tuple(int(n) for n in fields["DimSize"].split())
    _check_dims(sizes, fields["NDims"])
    channels = int(fields.get("ElementNumberOfChannels", "1"))
    code = _MET_TYPES.get(fields["ElementType"].removeprefix("MET_").removesuffix("_ARRAY"))
    if code is None:
        raise ValueError(f"ElementType = {fields['ElementType']}")
    big = _true(fields.get("BinaryDataByteOrderMSB", fields.get("ElementByteOrderMSB", "False")))
    encoding: Encoding = "raw"
    if _true(fields.get("CompressedData", "False")):
        encoding = "zlib"
    elif not _true(fields.get("BinaryData", "True")):
        encoding = "text"
    place = int(fields.get("HeaderSize", "0"))
    if place not in ((0, -1) if encoding == "raw" else (0,)):
        raise ValueError(f"HeaderSize = {place}")
    unit = fields.get("DistanceUnits", "")
    return VoxelLayout(
        sizes if channels == 1 else (channels, *sizes), None if channels == 1 else 0,
        np.dtype((">" if big else "<") + code), encoding, offset, at_end=place == -1,
        units=(f"DistanceUnits = {unit}",) if unit else (),
        millimetres=millimetres(path, "DistanceUnits", [unit.removeprefix("MET_DISTANCE_UNITS_")]),
    )  # fmt: skip


def _mha_fields(head: bytes) -> tuple[dict[str, str], int]:
    """The lines up to ElementDataFile, which is the last, and where what follows begins."""
    fields: dict[str, str] = {}
    start = 0
    while start < len(head):
        end = head.find(b"\n", start)
        end = len(head) if end < 0 else end
        key, *value = re.split("[=:]", _decoded(head[start:end]), maxsplit=1)
        fields[key.strip()] = "".join(value).strip()
        start = end + 1
        if key.strip() == "ElementDataFile":
            return fields, min(start, len(head))
    raise ValueError("it has no ElementDataFile")


def _mha_scale(path: Path, fields: dict[str, str]) -> None:
    slope = float(fields.get("ElementToIntensityFunctionSlope", "1"))
    offset = float(fields.get("ElementToIntensityFunctionOffset", "0"))
    if (slope, offset) != (1.0, 0.0):
        raise ImageError(
            f"{path}: says that its values are to be multiplied by {slope:g} and {offset:g} added "
            "(ElementToIntensityFunctionSlope, -Offset), which readers do not agree on.",
            hint="Save it with the values that are meant, and without these fields.",
        )


def _true(text: str) -> bool:
    """Whether a field says yes: MetaIO looks at the first letter only."""
    return text[:1] in ("T", "t", "1")
