"""The library of compiled loops: where it is, its functions, and the records they take.

The library is made when the package is built (``build.py``), so nothing is compiled or cached while
the package runs. It holds one set of functions for each kind of vector; the widest kind that this
processor has is used.
"""

from __future__ import annotations

import ctypes
import os
from ctypes import POINTER, Structure, byref, c_char_p, c_int64, c_void_p
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medseg_nca.nca.kernels import build

KINDS = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2}
# torch's name for what the processor can do, and the fastest variant that it then runs.
_CAPABILITIES = {"AVX512": "avx512", "AVX2": "avx2"}


def _fields(kind: Any, names: str) -> list[tuple[str, Any]]:
    return [(name, kind) for name in names.split()]


class _Record(Structure):
    """A C structure made from Python numbers, arrays and structures; None is a null pointer."""

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
    """The geometry of the padded grid; :class:`GridLayout` of ``layout.py`` explains the fields."""

    _fields_ = _fields(
        c_int64, "channels cells n1 n2 stride0 stride1 job_count taps"
    ) + _fields(c_void_p, "jobs offsets halo_to halo_from halo_first")  # fmt: skip


class Firing(_Record):
    """The fire mask that :class:`medseg_nca.nca.fire.Fire` defines.

    ``every`` says that all awake cells fire; ``level``, ``positions`` and ``keys`` are then not
    read. ``positions`` are the hashes of the cells' positions, ``keys`` has a number for each step,
    both uint32; a cell fires if the hash of both is below ``level``. ``awake`` is 1 for each cell
    that may fire, ``rows`` is 1 for each row of the grid that has such a cell, both uint8; both are
    None if all cells may fire.
    """

    _fields_ = _fields(c_int64, "every level") + _fields(c_void_p, "positions keys awake rows")


class Rule(_Record):
    """The packed weights of one cell; :class:`Packed` of ``rule.py`` explains the fields."""

    _fields_ = _fields(
        c_void_p, "filters w0 w1 scale shift filters_back w0_back w1_back"
    ) + _fields(
        c_int64, "convolution filter_count features hidden units row norm batch activation"
    )  # fmt: skip


class Sums(_Record):
    """Gradients of the packed weights: arrays with one row for each job, and the rows' lengths."""

    _fields_ = _fields(c_void_p, "filters w0 w1 scale shift") + _fields(
        c_int64, "filters_row w0_row w1_row scale_row shift_row"
    )


class Call(_Record):
    """The arguments of a call; each function of ``src/kernels.cpp`` reads those that it needs."""

    _fields_ = (
        _fields(c_int64, "kind count size first steps middle team")
        + _fields(c_void_p, "states grads grid rule firing sums meeting moments history")
    )  # fmt: skip


@dataclass(frozen=True)
class Library:
    """The functions of one variant.

    Attributes:
        variant: name of the variant, such as "avx2".
        vector_bytes: width of a vector in bytes.
        slack: how many extra rows a matrix of gradients must have behind its last one.
    """

    variant: str
    vector_bytes: int
    slack: int
    _roll: Any
    _back: Any
    _load: Any
    _scratch: Any

    def lanes(self, dtype: torch.dtype) -> int:
        """Return how many numbers fit into a vector; bfloat16 states are computed in float32."""
        return self.vector_bytes // max(dtype.itemsize, 4)

    def scratch(self, call: Call, *, backward: bool) -> np.ndarray[Any, Any]:
        """Return zeroed working memory for one thread of a call."""
        return zeros(self._scratch(byref(call), backward), np.dtype(np.uint8))

    def roll(self, call: Call, scratch: np.ndarray[Any, Any]) -> int:
        """Compute steps, as one thread of a team.

        Returns:
            Number of the first step after which a value is NaN or infinite; -1 if there is none.
        """
        return int(self._roll(byref(call), scratch.ctypes.data))

    def back(self, call: Call, scratch: np.ndarray[Any, Any]) -> None:
        """Propagate gradients back through the steps, as one thread of a team."""
        self._back(byref(call), scratch.ctypes.data)

    def load(self, call: Call, state: np.ndarray[Any, Any], channels: int) -> None:
        """Copy a state ``(B, channels, *spatial)`` into a padded one, as one thread of a team."""
        self._load(byref(call), state.ctypes.data, channels)


_LINE = 64  # bytes


def zeros(count: int, kind: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """Return an array of ``count`` zeros whose memory begins at a cache line.

    The memory is numpy's, because numpy asks the operating system for large pages, which suit
    large states, and torch does not.
    """
    room = np.zeros(count + _LINE // kind.itemsize, kind)
    start = -room.ctypes.data % _LINE // kind.itemsize
    return room[start : start + count]


class UnusableLibraryError(Exception):
    """The library cannot be used; the message is the reason, as it is logged."""


def _function(file: ctypes.CDLL, name: str, result: Any, *arguments: Any) -> Any:
    try:
        found = getattr(file, name)
    except AttributeError as error:
        raise UnusableLibraryError(f"{file._name} has no {name}; reinstall") from error
    found.restype, found.argtypes = result, arguments
    return found


# The folder in which the library is looked for.
_folder = build.HERE


@cache
def _open() -> ctypes.CDLL:
    path = _folder / build.library_name()
    sources = _folder / build.SOURCES.name
    mend = "run python -m medseg_nca.nca.kernels.build" if build.SOURCES.is_dir() else "reinstall"
    if not path.is_file():
        raise UnusableLibraryError(f"{path} is missing; {mend}")
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise UnusableLibraryError(f"{path} cannot be loaded ({error}); {mend}") from error
    made_from = _function(library, "medseg_nca_digest", c_char_p)().decode("ascii")
    if sources.is_dir() and made_from != build.digest(sources):
        raise UnusableLibraryError(f"{path} was made from other sources; {mend}")
    return library


def variant() -> str:
    """Return the name of the variant that is used.

    It is the fastest variant that this processor runs, unless the environment variable
    ``MEDSEG_NCA_VECTORS`` names a slower one.

    Raises:
        UnusableLibraryError: if ``MEDSEG_NCA_VECTORS`` names a variant that cannot run here.
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


def look_in(folder: Path = build.HERE) -> None:
    """Look for the library anew when it is next asked for, for example after it was compiled.

    Args:
        folder: where the library is, and its sources in ``src``, if they are there.
    """
    global _folder
    _folder = folder
    _open.cache_clear()
    library.cache_clear()


@cache
def library() -> Library:
    """Return the library's functions for this processor.

    Raises:
        UnusableLibraryError: if the library is missing, cannot be loaded, or was made from other
            sources.
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
