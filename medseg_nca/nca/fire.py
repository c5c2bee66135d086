"""The fire mask: which cells update in a step.

The mask is a hash of (seed, sample, step, cell position) and not the stream of a generator. So it
is the same on every device and engine, the backward pass can compute it again, a tile of a volume
gets its part of the whole volume's mask, and resuming needs no stored state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from medseg_nca.nca.window import cut, cut_to

_MASK = 0xFFFFFFFF
# Multipliers of the "lowbias32" integer hash (C. Wellons, "Prospecting for hash functions", 2018).
MUL_A, MUL_B = 0x7FEB352D, 0x846CA68B


def mix(*values: int) -> int:
    """Return a well-mixed 32-bit number that depends on all values and their order."""
    state = 0x9E3779B9
    for value in values:
        state = _hash((state ^ _hash(value & _MASK)) + 0x9E3779B9 & _MASK)
    return state


def _hash(x: int) -> int:
    x = ((x ^ (x >> 16)) * MUL_A) & _MASK
    x = ((x ^ (x >> 15)) * MUL_B) & _MASK
    return x ^ (x >> 16)


def _signed(x: int) -> int:
    return x - (1 << 32) if x >= 1 << 31 else x


def _hash_(x: Tensor) -> Tensor:
    """``_hash`` on an int32 tensor, in place; the bit patterns are those of the unsigned hash."""
    x.bitwise_xor_((x >> 16) & 0xFFFF).mul_(_signed(MUL_A))
    x.bitwise_xor_((x >> 15) & 0x1FFFF).mul_(_signed(MUL_B))
    return x.bitwise_xor_((x >> 16) & 0xFFFF)


@dataclass(frozen=True)
class Fire:
    """The rule that decides which cells of a grid update in each step.

    Attributes:
        rate: probability that a cell updates in a step.
        seeds: one seed for each sample of the batch.
        mode: "sample" draws a mask for each step; "mean" adds ``rate`` times the update to every
            cell in every step.
        origin: position of this grid's first cell on the grid of the whole level; None if this
            grid begins at the level's first cell.
        first_step: number of the step that comes next, from 0.
        awake: bool ``(B, *spatial)``, True for the cells that may update; it begins at this grid's
            first cell and may reach beyond this grid. None lets every cell update.
    """

    rate: float
    seeds: tuple[int, ...]
    mode: Literal["sample", "mean"] = "sample"
    origin: tuple[int, ...] | None = None
    first_step: int = 0
    awake: Tensor | None = None

    @classmethod
    def for_batch(
        cls, rate: float, seed: int, batch: int, mode: Literal["sample", "mean"] = "sample"
    ) -> Fire:
        """Give every sample of a batch a seed of its own."""
        return cls(rate, tuple(mix(seed, sample) for sample in range(batch)), mode)

    @property
    def all_cells(self) -> bool:
        """True if every cell that is awake updates in every step, so that nothing is drawn."""
        return self.mode == "mean" or self.rate >= 1.0

    @property
    def scale(self) -> float:
        """Factor by which the updates of the cells that fire are multiplied."""
        return self.rate if self.mode == "mean" else 1.0

    def advance(self, steps: int) -> Fire:
        """Return the fire mask as it goes on after ``steps`` more steps."""
        return replace(self, first_step=self.first_step + steps)

    def at(self, origin: Sequence[int]) -> Fire:
        """Return the fire mask of the part of this grid that begins at the cell ``origin``."""
        first = self.origin or (0,) * len(origin)
        start = tuple(a + b for a, b in zip(first, origin, strict=True))
        awake = None if self.awake is None else cut(self.awake, (slice(o, None) for o in origin))
        return replace(self, origin=start, awake=awake)

    def positions(self, shape: Sequence[int], device: torch.device) -> Tensor:
        """Return the hash of seed and position of every cell, int32 ``(B, *shape)``.

        It is the same in every step, so a roll-out computes it once.
        """
        origin = self.origin or (0,) * len(shape)
        code = torch.tensor([_signed(s) for s in self.seeds], dtype=torch.int32, device=device)
        for start, size in zip(origin, shape, strict=True):
            axis = torch.arange(start, start + size, dtype=torch.int32, device=device)
            code = _hash_(code.unsqueeze(-1).bitwise_xor(axis.mul_(_signed(0x9E3779B1))))
        return code

    def awake_cells(self, shape: Sequence[int]) -> Tensor | None:
        """Return which cells of a grid may update, bool ``(B, *shape)``; None means all cells."""
        return None if self.awake is None else cut_to(self.awake, shape)

    def firing(self, positions: Tensor | None, shape: Sequence[int], step: int) -> Tensor | None:
        """Return which cells update, bool ``(B, *shape)``; None means all cells.

        Args:
            positions: as :meth:`positions` returns them; None if :attr:`all_cells` is true.
            shape: cells of the grid per axis.
            step: which step, counted from :attr:`first_step`.
        """
        awake = self.awake_cells(shape)
        if positions is None:
            return awake
        drawn = self.mask(positions, step)
        return drawn if awake is None else drawn & awake

    def mask(self, positions: Tensor, step: int) -> Tensor:
        """Return the drawn bool mask ``(B, *shape)`` of a step counted from :attr:`first_step`."""
        return _hash_(positions.bitwise_xor(_signed(self.key(step)))) < self.level - 2**31

    def key(self, step: int) -> int:
        """Return the 32-bit number that a step (counted as in :meth:`mask`) mixes into the hash."""
        return mix(0x5EED, self.first_step + step)

    @property
    def level(self) -> int:
        """The rate times 2^32: a cell fires if its signed 32-bit hash is below this minus 2^31."""
        return min(round(self.rate * 2**32), 2**32 - 1)
