"""How the loops are compiled, and kept on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from numba import njit
from numba.core.caching import FunctionCache

from medseg_nca.nca.fire import MUL_A, MUL_B
from medseg_nca.nca.update import EPS

F = TypeVar("F", bound=Callable[..., Any])

# Functions that only compiled code calls need no entry from Python, which would be compiled too.
_INNER = {"nogil": True, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}


def compiled(function: F) -> F:
    """A function that only compiled code calls."""
    return njit(**_INNER)(function)  # type: ignore[no-any-return]


def reordering(function: F) -> F:
    """The same, whose sums may be reordered, which is what makes them vectors."""
    return njit(**_INNER, fastmath={"reassoc", "contract"})(function)  # type: ignore[no-any-return]


@cache
def _digest() -> str:
    """Of all that goes into compiled code: the sources of this folder, and some constants."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    content = b"".join(file.read_bytes() for file in files) + repr((EPS, MUL_A, MUL_B)).encode()
    return hashlib.sha256(content).hexdigest()


class _Cache(FunctionCache):  # type: ignore[misc]
    """numba's store of machine code, which itself looks at the entry's own file only."""

    def _index_key(self, sig: Any, codegen: Any) -> tuple[Any, ...]:
        return (*super()._index_key(sig, codegen), _digest())

    def holds_any(self) -> bool:
        """Whether something is kept that was made from the present sources."""
        return any(key[-1] == _digest() for key in self._cache_file._load_index())


def entry(function: Callable[..., Any]) -> Any:
    """A function that Python calls; kept on disk with all that it calls, where that is possible."""
    dispatcher = njit(nogil=True)(function)
    with suppress(RuntimeError):  # no folder of this user can be written
        dispatcher._cache = _Cache(function)
    return dispatcher


def kept_in(dispatcher: Any) -> Path | None:
    """The folder in which an entry's machine code is kept; None if it cannot be kept."""
    path = dispatcher.stats.cache_path
    return Path(path) if path else None


def is_ready(dispatcher: Any) -> bool:
    """Whether an entry needs no compilation, for the types that it was called with before."""
    return bool(dispatcher.signatures) or (
        kept_in(dispatcher) is not None and dispatcher._cache.holds_any()
    )
