"""The compiled loops: finding the library, and what is handed to it.

The library is made when the package is built (``build.py``), so nothing is compiled and nothing is
cached on the user's machine. It holds one set of functions for each kind of vector; the widest
that this processor has is used.
"""

from __future__ import annotations

import ctypes
import os
from ctypes import POINTER, Structure, byref, c_char_p, c_int64, c_void_p
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch

from medseg_nca.nca.kernels import build

KINDS = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2}
# What torch calls the abilities of a processor, and the variant that needs them.
_CAPABILITIES = {"AVX512": "avx512", "AVX2": "avx2"}


def _fields(kind: Any, names: str) -> list[tuple[str, Any]]:
    return [(name, kind) for name in names.split()]


class _Record(Structure):
    """A C structure that is made from Python values: numbers, arrays (None is a null pointer)."""

    def __init__(self, **values: Any) -> None:
        self.kept = values  # the memory that the pointers point to
        super().__init__(**{name: _plain(value) for name, value in values.items()})


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.ctypes.data
    if isinstance(value, Structure):
        return ctypes.addressof(value)
    return value


class GridRecord(_Record):
    """Geometry; see ``layout.py``."""

    _fields_ = _fields(
        c_int64, "channels cells n1 n2 stride0 stride1 job_count taps"
    ) + _fields(c_void_p, "jobs offsets halo_to halo_from halo_first")  # fmt: skip


class Firing(_Record):
    """The fire mask; see :mod:`medseg_nca.nca.fire`.

    ``every`` says that all cells fire; then the rest is not read. ``positions`` are the hashes of
    the cells' positions and ``keys`` has one for each step, both uint32. A cell fires if its number
    is below ``level``. ``awake`` is 1 for each cell that may fire, ``rows`` for each row of the
    grid that has such a cell, both uint8; None if all may.
    """

    _fields_ = _fields(c_int64, "every level") + _fields(c_void_p, "positions keys awake rows")


class Rule(_Record):
    """One cell's rule; see ``rule.py``."""

    _fields_ = _fields(
        c_void_p, "filters w0 w1 scale shift filters_back w0_back w1_back"
    ) + _fields(
        c_int64, "convolution filter_count features hidden units row norm batch activation"
    )  # fmt: skip


class Sums(_Record):
    """Gradients of the packed weights: one row for each job, and how long a row is."""

    _fields_ = _fields(c_void_p, "filters w0 w1 scale shift") + _fields(
        c_int64, "filters_row w0_row w1_row scale_row shift_row"
    )


class Call(_Record):
    """The arguments of a call; see ``kernels.cpp``."""

    _fields_ = (
        _fields(c_int64, "kind count size first steps middle team")
        + _fields(c_void_p, "states grads grid rule firing sums meeting moments history")
    )  # fmt: skip


@dataclass(frozen=True)
class Library:
    """The functions of one variant.

    Attributes:
        variant: its name.
        vector_bytes: width of a vector.
        slack: how many rows past its end a matrix of gradients must have room for.
    """

    variant: str
    vector_bytes: int
    slack: int
    _roll: Any
    _back: Any
    _load: Any
    _scratch: Any

    def lanes(self, dtype: torch.dtype) -> int:
        """How many numbers fit into a vector; bfloat16 is computed in float32."""
        return self.vector_bytes // max(dtype.itemsize, 4)

    def scratch(self, call: Call, *, backward: bool) -> np.ndarray[Any, Any]:
        """Memory for one thread."""
        return zeros(self._scratch(byref(call), backward), np.dtype(np.uint8))

    def roll(self, call: Call, scratch: np.ndarray[Any, Any]) -> int:
        """Compute steps, as one thread of a team; the first after which a value is bad, or -1."""
        return int(self._roll(byref(call), scratch.ctypes.data))

    def back(self, call: Call, scratch: np.ndarray[Any, Any]) -> None:
        """Take gradients back through steps, as one thread of a team."""
        self._back(byref(call), scratch.ctypes.data)

    def load(self, call: Call, state: np.ndarray[Any, Any], channels: int) -> None:
        """Copy a state ``(B, channels, *spatial)`` into a padded one, as one thread of several."""
        self._load(byref(call), state.ctypes.data, channels)


_LINE = 64  # bytes


def zeros(count: int, kind: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """Zeros that begin at a cache line.

    numpy asks the operating system for large pages, torch does not; the states are large.
    """
    room = np.zeros(count + _LINE // kind.itemsize, kind)
    start = -room.ctypes.data % _LINE // kind.itemsize
    return room[start : start + count]


class UnusableLibraryError(Exception):
    """Why the library cannot be used, for the log."""


def _function(file: ctypes.CDLL, name: str, result: Any, *arguments: Any) -> Any:
    try:
        found = getattr(file, name)
    except AttributeError as error:
        raise UnusableLibraryError(f"{file._name} has no {name}; reinstall") from error
    found.restype, found.argtypes = result, arguments
    return found


@cache
def _open() -> ctypes.CDLL:
    path = build.HERE / build.library_name()
    mend = "run python -m medseg_nca.nca.kernels.build" if build.SOURCES.is_dir() else "reinstall"
    if not path.is_file():
        raise UnusableLibraryError(f"{path} is missing; {mend}")
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise UnusableLibraryError(f"{path} cannot be loaded ({error}); {mend}") from error
    made_from = _function(library, "medseg_nca_digest", c_char_p)().decode("ascii")
    if build.SOURCES.is_dir() and made_from != build.digest():
        raise UnusableLibraryError(f"{path} was made from other sources; {mend}")
    return library


def variant() -> str:
    """The variant that is used: the fastest that this processor runs, or a slower one by request.

    Raises:
        UnusableLibraryError: if ``MEDSEG_NCA_VECTORS`` asks for one that it does not run.
    """
    names = [name for name, _, _ in build.variants()]
    best = _CAPABILITIES.get(torch.backends.cpu.get_cpu_capability(), names[-1])
    possible = names[names.index(best) :] if best in names else names[-1:]
    wanted = os.environ.get("MEDSEG_NCA_VECTORS") or possible[0]
    if wanted not in possible:
        raise UnusableLibraryError(
            f"MEDSEG_NCA_VECTORS is {wanted!r}; this processor runs {', '.join(possible)}"
        )
    return wanted


def forget() -> None:
    """Look for the library anew when it is next asked for, for example after it was compiled."""
    _open.cache_clear()
    library.cache_clear()


@cache
def library() -> Library:
    """The functions for this processor.

    Raises:
        UnusableLibraryError: if there is no library, or it was made from other sources.
    """
    name, file = variant(), _open()

    def function(what: str, *arguments: Any, result: Any = c_int64) -> Any:
        return _function(file, f"medseg_nca_{what}_{name}", result, *arguments)

    call = POINTER(Call)
    return Library(
        name, function("vector_bytes")(), function("slack")(),
        _roll=function("roll", call, c_void_p),
        _back=function("back", call, c_void_p, result=None),
        _load=function("load", call, c_void_p, c_int64, result=None),
        _scratch=function("scratch", call, c_int64),
    )  # fmt: skip
