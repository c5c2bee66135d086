"""Read the header of a weights file: which tensors it holds, without reading their values.

The format is safetensors: eight bytes with the length of a JSON header, the header with dtype,
shape and place of every tensor, then the tensors without gaps.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import IO, Any, NamedTuple

from medseg_nca.errors import ModelError
from medseg_nca.inference.strict_json import parse_json

# Bytes of one value for each type, by safetensors' name of the type.
SIZES = {
    "BOOL": 1, "U8": 1, "I8": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2, "I32": 4, "U32": 4,
    "F32": 4, "I64": 8, "U64": 8, "F64": 8,
}  # fmt: skip
# Largest header. A tensor takes about a hundred bytes of it: networks of thousands of layers fit.
MAX_HEADER_BYTES = 2**20
_LENGTH_BYTES = 8
_MOST_AXES = 8
_METADATA = "__metadata__"

MISSING = "A model is a folder with weights.safetensors and model.json."
DAMAGED = "It is damaged, or no file of weights; take it from the run again."


class TensorInfo(NamedTuple):
    """A tensor of a weights file: its type, as safetensors names it, and its shape."""

    dtype: str
    shape: tuple[int, ...]


def read_header(path: Path) -> dict[str, TensorInfo]:
    """Return the tensors that a file holds, by name, reading only its header.

    Raises:
        ModelError: if the file cannot be read, is not safetensors, or its tensors do not fill it
            exactly.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ModelError(f"{path}: is not a file.", hint=DAMAGED)
        with path.open("rb") as stream:
            return header_of(stream, os.fstat(stream.fileno()).st_size, path)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}).", hint=MISSING) from error


def header_of(stream: IO[bytes], size: int, path: Path) -> dict[str, TensorInfo]:
    """Return the tensors that a stream of ``size`` bytes holds, as :func:`read_header` does.

    Args:
        stream: at its beginning; only the header is read.
        size: of the whole stream.
        path: what messages call it.
    """
    length = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
    room = size - _LENGTH_BYTES
    if not 2 <= length <= min(room, MAX_HEADER_BYTES):
        raise ModelError(
            f"{path}: is not a safetensors file: its header would have {length:,} bytes; "
            f"{max(min(room, MAX_HEADER_BYTES), 0):,} are possible.",
            hint=DAMAGED,
        )
    header = stream.read(length)
    try:
        return _tensors(parse_json(header), room - length)
    except ValueError as error:
        raise ModelError(f"{path}: is not a safetensors file: {error}.", hint=DAMAGED) from error


def _tensors(tree: Any, room: int) -> dict[str, TensorInfo]:
    if not isinstance(tree, dict):
        raise ValueError("it is not a mapping")
    notes = tree.get(_METADATA, {})
    if not isinstance(notes, dict) or not all(isinstance(v, str) for v in notes.values()):
        raise ValueError(f"{_METADATA} must hold words")
    tensors, parts = {}, []
    for name, entry in tree.items():
        if name != _METADATA:
            tensors[name], part = _tensor(name, entry)
            parts.append(part)
    end = 0
    for start, stop in sorted(parts):
        if start != end:
            raise ValueError(f"its tensors overlap or leave a gap at byte {min(start, end)}")
        end = stop
    if end != room:
        what = "is truncated" if end > room else "holds more"
        raise ValueError(f"its tensors need {end:,} bytes and there are {room:,}: the file {what}")
    return tensors


def _tensor(name: str, entry: Any) -> tuple[TensorInfo, tuple[int, int]]:
    """Return type and shape of an entry, and where its bytes begin and end in the file."""
    if not isinstance(entry, Mapping) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{name[:80]!r} needs dtype, shape and data_offsets")
    dtype, shape, part = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in SIZES:
        raise ValueError(f"{name[:80]!r} has an unknown dtype")
    if not _sizes(shape) or len(shape) > _MOST_AXES:
        raise ValueError(f"{name[:80]!r} has no shape")
    if not _sizes(part) or len(part) != 2 or part[1] - part[0] != prod(shape) * SIZES[dtype]:
        raise ValueError(f"{name[:80]!r} does not have the bytes that its shape needs")
    return TensorInfo(dtype, tuple(shape)), (part[0], part[1])


def _sizes(value: Any) -> bool:
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 2**63 for n in value)
