"""Cutting boxes out of tensors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor


def cut(x: Tensor, window: Iterable[slice]) -> Tensor:
    """Return the part of ``x (..., *spatial)`` that one slice per spatial axis selects; a view."""
    index: Any = (..., *window)
    return x[index]


def cut_to(x: Tensor, size: Sequence[int]) -> Tensor:
    """Return the first ``size`` cells along the spatial axes of ``x (..., *spatial)``; a view."""
    return cut(x, (slice(n) for n in size))
