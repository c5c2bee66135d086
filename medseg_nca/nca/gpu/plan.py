"""What the kernels are compiled for: sizes, tiles and the settings that are not served."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from math import prod

import torch

from medseg_nca.nca.cell import Cell

# A product of the tensor cores has at least this many rows and columns.
LEAST = 16
# Loads are not started ahead of their turn: the other programs of the chip hide their latency, and
# the registers are needed for values.
STAGES = 1
# Bytes of hidden values that each thread of a program keeps in registers, forward and backward. The
# operands of a product are there too: those of a wide rule leave room for few cells if its products
# are exact, which takes them in two parts. Chosen so that no register spills
# (tests/nca/test_triton_compiled.py).
_THREAD_BYTES = {
    "narrow": {"forward": 128, "backward": 32},
    "wide": {"forward": 128, "backward": 64},
    "wide, exact": {"forward": 32, "backward": 32},
    "wide, exact, convolution": {"forward": 64, "backward": 32},
}
_WIDE, _COARSE = 64, ("tf32", "bfloat16")
_MOST_CELLS, _INTERPRETED_CELLS = 128, 512
_MOST_CHANNELS, _MOST_FEATURES, _MOST_HIDDEN, _MOST_KERNEL = 32, 64, 128, 7
# The code of a kernel has a part for each depthwise filter.
_MOST_FILTERS = 4
# Each program of the backward pass sums up the gradients of the weights in a row of its own.
_MOST_ROWS, _ROW_BYTES = 1024, 64e6


def power_of_two(value: int) -> int:
    """Return the smallest power of two that is at least ``value`` and at least 16."""
    return max(LEAST, 1 << (value - 1).bit_length())


def stored_channels(channels: int, dtype: torch.dtype) -> int:
    """Return ``channels`` rounded up to 16 bytes, in which a thread reads and writes."""
    lanes = max(16 // dtype.itemsize, 1)
    return -(-channels // lanes) * lanes


def refusal(cell: Cell, dtype: torch.dtype) -> str | None:
    """Name the setting of a cell that no kernel is written for; None if there is none."""
    settings = cell.settings
    if dtype not in {torch.float32, torch.float64, torch.bfloat16}:
        return f"a state of {str(dtype).removeprefix('torch.')}"
    if cell.channels > _MOST_CHANNELS:
        return f"cell.channels {cell.channels} (at most {_MOST_CHANNELS})"
    if settings.update.hidden > _MOST_HIDDEN:
        return f"cell.update.hidden {settings.update.hidden} (at most {_MOST_HIDDEN})"
    bank = cell.perception.bank
    if bank is None:
        return f"cell.perception.kind {settings.perception.kind}"
    if not cell.update.two_layers:
        return f"cell.update.kind {settings.update.kind}"
    if bank.kernel > _MOST_KERNEL:
        return f"cell.perception.kernel {bank.kernel} (at most {_MOST_KERNEL})"
    features = cell.perception.features
    if not bank.mixes and features > _MOST_FILTERS * cell.channels:
        return f"cell.perception.filters {features // cell.channels} (at most {_MOST_FILTERS})"
    if bank.mixes and features > _MOST_FEATURES:
        return f"{features} features of full convolutions (at most {_MOST_FEATURES})"
    return None


def width_of(hidden: int, channels: int) -> int:
    """How wide a rule is, which decides how many cells a program has room for.

    Args:
        hidden: hidden units, rounded up to a power of two.
        channels: the most columns of a matrix of channels or features, rounded up likewise.
    """
    return max(hidden, 4 * channels)


def warp_count(width: int, purpose: str) -> int:
    """How many groups of 32 threads a program has; "forward" or "backward" is the purpose."""
    return 4 if width <= _WIDE and purpose == "forward" else 8


def cells_at_once(
    width: int, itemsize: int, purpose: str, precision: str, convolution: bool
) -> int:
    """How many cells a program computes: as many as have room for their hidden values.

    Args:
        width: see :func:`width_of`.
        itemsize: bytes of a value.
        purpose: "forward", "backward" or "interpreted".
        precision: of the products.
        convolution: whether the filters mix channels.
    """
    if purpose == "interpreted":
        return _INTERPRETED_CELLS
    exact = ", exact, convolution" if convolution else ", exact"
    kind = "narrow" if width <= _WIDE else "wide" + ("" if precision in _COARSE else exact)
    room = warp_count(width, purpose) * 32 * _THREAD_BYTES[kind][purpose]
    return min(max(room // (width * itemsize), LEAST), _MOST_CELLS)


@lru_cache(maxsize=64)
def tile_shape(sizes: tuple[int, int, int], cells: int) -> tuple[int, int, int]:
    """Return the shape of a tile of at most ``cells`` cells, a power of two on each axis.

    Of all shapes it is that with the fewest cells outside the grid, and of these the one with the
    smallest surface, whose cells share the most neighbours.
    """
    powers = [[1 << p for p in range(cells.bit_length())] for _ in sizes]
    shapes = [s for s in product(*powers) if prod(s) == cells]

    def cost(shape: tuple[int, ...]) -> tuple[int, float]:
        covered = prod(-(-n // t) * t for n, t in zip(sizes, shape, strict=True))
        return covered, sum(1 / t for t, n in zip(shape, sizes, strict=True) if n > 1)

    best = min(shapes, key=cost)
    return best[0], best[1], best[2]


def tile_counts(sizes: Sequence[int], shape: Sequence[int]) -> tuple[int, int, int]:
    """Return how many tiles each axis has."""
    counts = [-(-n // t) for n, t in zip(sizes, shape, strict=True)]
    return counts[0], counts[1], counts[2]


def row_count(numbers: int, itemsize: int, tiles: int, interpreted: bool) -> int:
    """How many programs share the backward pass of a step; it depends on sizes alone."""
    most = 4 if interpreted else int(_ROW_BYTES / (numbers * itemsize))
    return min(tiles, max(min(most, _MOST_ROWS), 4))
