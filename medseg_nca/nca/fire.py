"""The fire mask: which cells update in a step.

The mask is a hash of (seed, sample, step, cell position) and not the stream of a generator. So it
is the same on every device and engine, it can be recomputed in the backward pass, a tile of a
volume sees the mask that the whole volume would, and resuming needs no stored state.
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
    """Decides which cells update.

    Attributes:
        rate: probability that a cell updates in a step.
        seeds: one seed for each sample of the batch.
        mode: "sample" draws the mask; "mean" updates every cell by ``rate`` times its update.
        origin: index of the first cell on the level's grid, where a part of it is computed.
        first_step: number of the step that comes next.
        awake: bool ``(B, *spatial)`` from this grid's first cell on; no other cell ever updates.
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
        """Factor on the update of the cells that fire."""
        return self.rate if self.mode == "mean" else 1.0

    def advance(self, steps: int) -> Fire:
        """The same mask, ``steps`` later."""
        return replace(self, first_step=self.first_step + steps)

    def at(self, origin: Sequence[int]) -> Fire:
        """The same mask on a part of this grid that begins at ``origin``."""
        first = self.origin or (0,) * len(origin)
        start = tuple(a + b for a, b in zip(first, origin, strict=True))
        awake = None if self.awake is None else cut(self.awake, (slice(o, None) for o in origin))
        return replace(self, origin=start, awake=awake)

    def positions(self, shape: Sequence[int], device: torch.device) -> Tensor:
        """Hash the seed and position of every cell; int32 ``(B, *shape)``, once per roll-out."""
        origin = self.origin or (0,) * len(shape)
        code = torch.tensor([_signed(s) for s in self.seeds], dtype=torch.int32, device=device)
        for start, size in zip(origin, shape, strict=True):
            axis = torch.arange(start, start + size, dtype=torch.int32, device=device)
            code = _hash_(code.unsqueeze(-1).bitwise_xor(axis.mul_(_signed(0x9E3779B1))))
        return code

    def awake_cells(self, shape: Sequence[int]) -> Tensor | None:
        """Which cells of a grid of this shape may update, bool ``(B, *shape)``; None is all."""
        return None if self.awake is None else cut_to(self.awake, shape)

    def firing(self, positions: Tensor | None, shape: Sequence[int], step: int) -> Tensor | None:
        """Which cells update in the ``step``-th step from now; None is all.

        ``positions`` are not needed where nothing is drawn.
        """
        awake = self.awake_cells(shape)
        if positions is None:
            return awake
        drawn = self.mask(positions, step)
        return drawn if awake is None else drawn & awake

    def mask(self, positions: Tensor, step: int) -> Tensor:
        """Return the bool mask ``(B, *shape)`` of the ``step``-th step from now."""
        return _hash_(positions.bitwise_xor(_signed(self.key(step)))) < self.level - 2**31

    def key(self, step: int) -> int:
        """What the ``step``-th step from now mixes into the position hashes; 32 bits."""
        return mix(0x5EED, self.first_step + step)

    @property
    def level(self) -> int:
        """A cell fires if its number in [-2^31, 2^31) lies below this minus 2^31."""
        return min(round(self.rate * 2**32), 2**32 - 1)
