"""How the loops are compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from numba import njit

F = TypeVar("F", bound=Callable[..., Any])

# Functions that only compiled code calls need no entry from Python, which would be compiled too.
_INNER = {"nogil": True, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}


def compiled(function: F) -> F:
    """A function that only compiled code calls."""
    return njit(**_INNER)(function)  # type: ignore[no-any-return]


def reordering(function: F) -> F:
    """The same, whose sums may be reordered, which is what makes them vectors."""
    return njit(**_INNER, fastmath={"reassoc", "contract"})(function)  # type: ignore[no-any-return]


def entry(function: Callable[..., Any]) -> Any:
    """A function that Python calls; kept on disk with all that it calls, where that is possible."""
    try:
        return njit(nogil=True, cache=True)(function)
    except RuntimeError:  # no folder of this user can be written
        return njit(nogil=True)(function)
