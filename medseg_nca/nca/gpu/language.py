"""Triton, where it is installed: the modules of kernels can be imported without it.

Triton decides when it is imported whether kernels are compiled or interpreted, by the environment
variable ``TRITON_INTERPRET``. Interpreted kernels run in numpy, on CPU tensors too; that is for
tests on machines without a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

INSTALLED = find_spec("triton") is not None
triton: Any = import_module("triton") if INSTALLED else None
tl: Any = import_module("triton.language") if INSTALLED else None


def part(function: Callable[..., Any]) -> Any:
    """Make a function of Triton's language a part of kernels.

    Interpreted, it is called as a function of Python: the interpreter would prepare itself anew for
    every call, which takes a hundred times as long as the call.
    """
    if triton is None:
        return function
    made = triton.jit(function)
    return made.rewrite() if hasattr(made, "rewrite") else made


def kernel(function: Callable[..., Any], unspecialised: Sequence[str] = ()) -> Any:
    """Make a function of Triton's language a kernel.

    Args:
        function: what one program does.
        unspecialised: integer arguments whose values are not built into the compiled code.
    """
    if triton is None:
        return function
    return triton.jit(function, do_not_specialize=list(unspecialised))


def constant(value: int | float) -> Any:
    """A number that kernels may read from their module."""
    return value if tl is None else tl.constexpr(value)


@cache
def interpreted() -> bool:
    """Whether the kernels of this process run in the interpreter."""
    return triton is not None and hasattr(triton.jit(part), "rewrite")


if triton is not None and interpreted():
    # Its checks for overflowing integers take half of its time.
    from triton.runtime.interpreter import interpreter_builder

    interpreter_builder.options = replace(interpreter_builder.options, sanitize_overflow=False)
