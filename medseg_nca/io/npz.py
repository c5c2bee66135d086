"""Arrays from a ``.npz`` file of anybody's: no pickles, and no memory before sizes are checked."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from numpy.lib import format as npy
from numpy.typing import NDArray

from medseg_nca.errors import ImageError
from medseg_nca.io.checks import DAMAGED, MAX_BYTES, MAX_INFLATION, check_file

# A .npy header is some hundred bytes.
_HEADER = 2**16


def read_npz(path: Path, wanted: Callable[[str], bool] = lambda _: True) -> dict[str, NDArray[Any]]:
    """Read the arrays of a ``.npz`` file.

    Args:
        path: the file.
        wanted: which names are read; the others are not looked at.

    Raises:
        ImageError: if the file is no ``.npz``, is damaged, holds objects, or claims more than it
            can hold or more than 8 GiB.
    """
    check_file(path)
    arrays: dict[str, NDArray[Any]] = {}
    left = MAX_BYTES
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                name = member.filename.removesuffix(".npy")
                if name == member.filename or not wanted(name):
                    continue
                left -= member.file_size
                with archive.open(member) as stream:
                    _check(path, name, stream, member, left)
                with archive.open(member) as stream:
                    arrays[name] = npy.read_array(stream, allow_pickle=False)
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError) as error:
        raise ImageError(f"{path}: is no usable .npz file ({error}).", hint=DAMAGED) from error
    except (OSError, RuntimeError) as error:  # RuntimeError: it is encrypted
        raise ImageError(f"{path}: cannot be read ({error}).") from error
    return arrays


def _check(path: Path, name: str, stream: IO[bytes], member: zipfile.ZipInfo, left: int) -> None:
    """Compare what a header claims with the member, before memory is taken for it."""
    version = npy.read_magic(stream)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(stream)
    if dtype.hasobject or dtype.kind not in "biuf":
        raise ImageError(
            f"{path}: {name} holds values of the type {dtype}; numbers are needed.",
            hint="Save plain arrays with numpy.savez_compressed.",
        )
    claimed = math.prod(shape) * dtype.itemsize
    possible = member.compress_size * MAX_INFLATION + _HEADER
    if left < 0 or claimed > MAX_BYTES:
        raise ImageError(f"{path}: {name} has the shape {shape}; at most {MAX_BYTES:,} bytes.")
    if claimed > member.file_size or member.file_size > possible:
        raise ImageError(
            f"{path}: {name} claims the shape {shape}, which the file cannot hold.", hint=DAMAGED
        )
