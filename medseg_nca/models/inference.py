"""One inference of a multi-level automaton: level by level, tile by tile.

The last level has most of the cells. Under a tight memory budget its state never exists as a whole:
each tile begins from the coarser level's state, takes all its steps, and its logits go to the sink.
The memory is then that of the coarser level's state and of one tile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from medseg_nca.errors import NonFiniteStateError
from medseg_nca.job import ONE_CASE, Meter
from medseg_nca.models.base import RunOptions, Sink
from medseg_nca.models.costs import HEAD_CELLS, held_bytes, level_need
from medseg_nca.models.focus import (
    Box,
    cells_in_focus,
    finer,
    outward,
    shell,
    split_rows,
)
from medseg_nca.models.geometry import enlarge
from medseg_nca.models.level_start import LevelStart
from medseg_nca.models.tiling import Tiling, plan_tiles
from medseg_nca.nca import Fire
from medseg_nca.nca.start import RollOutStart
from medseg_nca.nca.tiles import roll_in_place, tiles
from medseg_nca.nca.window import cut

if TYPE_CHECKING:
    from medseg_nca.models.multilevel import MultiLevelNca

# Progress is reported after this many cells times steps, if a level runs as a whole.
_TOLD = 50_000_000
_FEWEST_STEPS = 8


@dataclass(frozen=True)
class Found:
    """The result of a level, from which the next level begins.

    Attributes:
        state: the level's last state, ``(B, C, *box)``.
        box: the part of the level's grid that the level ran on.
        logits: ``(B, K, *grid)`` on the whole grid; None if no later level needs them.
    """

    state: Tensor
    box: Box
    logits: Tensor | None


class Inference:
    """One inference, which takes one image through all levels.

    Args:
        model: the automaton.
        image: ``(B, in_channels, *spatial)``.
        options: how to run the model.
        sink: called with each window and its logits ``(B, K, *window)``.
    """

    def __init__(
        self, model: MultiLevelNca, image: Tensor, options: RunOptions, sink: Sink
    ) -> None:
        self.model, self.image, self.options, self.sink = model, image, options, sink
        self.grids = model.grids(image.shape[2:])
        self.kind = torch.bfloat16 if options.precision == "bfloat16" else image.dtype
        self.last = len(self.grids) - 1
        self.steps = model.steps_of(options)
        loads = zip(self.grids, self.steps, strict=True)
        self.loads = [prod(grid) * count for grid, count in loads]
        self.meter = Meter(options.job, ONE_CASE, sum(self.loads))

    def run(self) -> None:
        """Run every level, and hand all logits of the last level to the sink."""
        with self.options.job.at_work():
            found: Found | None = None
            for level in range(self.last):
                found = self._level(level, found)
                self.meter.reach(sum(self.loads[: level + 1]))
            self._last(found)
            self.meter.reach(sum(self.loads))

    def start(self, level: int) -> RollOutStart:
        """Run the levels before a level, and return what its roll-out on all cells begins with.

        The options must ask for whole levels, as those with a ``record`` do.
        """
        with self.options.job.at_work():
            found: Found | None = None
            for earlier in range(level):
                found = self._level(earlier, found)
            first = self._start(level, found)
        box = _all(first.size)
        return RollOutStart(
            self.model.engine, self.model.cell(level), first.state(box),
            self._fire(level, first, box), self.steps[level],
        )  # fmt: skip

    def _level(self, level: int, before: Found | None) -> Found:
        """Run a level that is not the last, and keep its whole state, and its logits if needed."""
        start = self._start(level, before)
        base = None if before is None else before.logits
        # Once a level runs on a part only, all finer levels need logits for the rest of the grid.
        needed = base is not None or self.model.focus_of(level + 1, self.options) is not None
        parts = self._parts(level, start)
        core, state, awake = next(parts)
        if core != _all(start.size):
            batch, channels = state.shape[:2]
            memory = state.new_empty(batch, *start.size, channels).movedim(-1, 1)
            cut(memory, core).copy_(state)
            for core, state, _ in parts:
                cut(memory, core).copy_(state)
            state, awake = memory, start.awake(_all(start.size)) if needed else None
        logits = None
        if needed:
            logits = self._whole_logits(level, start, state, awake, base)
        return Found(state, start.box, logits)

    def _last(self, before: Found | None) -> None:
        """Run the last level, and hand the logits of each part to the sink when it is computed."""
        level = self.last
        start = self._start(level, before)
        base = None if before is None else before.logits
        for core, state, awake in self._parts(level, start):
            for rows in split_rows(core, HEAD_CELLS):
                self.options.job.check()
                inside = _within(rows, core)
                logits = self._logits(level, cut(state, inside))
                place = outward(rows, start.box)
                if awake is not None and base is not None:
                    keep = cut(awake, inside).unsqueeze(1)
                    logits = torch.where(keep, logits, _enlarged(base, place, start.factor))
                self._emit(place, logits)
        if base is not None:
            for around in shell(start.box, self.grids[level]):
                for rows in split_rows(around, HEAD_CELLS):
                    self._emit(rows, _enlarged(base, rows, start.factor))

    def _emit(self, place: Box, logits: Tensor) -> None:
        """Hand the logits of a part of the last grid to the sink, in voxels of the image."""
        scale = self.model.scales[-1]
        voxels = [
            slice(b.start, min(b.stop, n))
            for b, n in zip(finer(place, scale), self.image.shape[2:], strict=True)
        ]
        if any(v.start >= v.stop for v in voxels):
            return
        large = enlarge(logits, scale)
        self.sink(tuple(voxels), cut(large, (slice(v.stop - v.start) for v in voxels)))

    def _whole_logits(
        self,
        level: int,
        start: LevelStart,
        state: Tensor,
        awake: Tensor | None,
        base: Tensor | None,
    ) -> Tensor:
        """Return the logits of the whole grid; cells that never updated get the coarser logits."""
        box, grid = _all(start.size), self.grids[level]
        if base is None:
            logits = self.image.new_empty(state.shape[0], self.model.out_channels, *grid)
        else:
            logits = enlarge(base, start.factor)
        for rows in split_rows(box, HEAD_CELLS):
            self.options.job.check()
            part = cut(logits, outward(rows, start.box))
            new = self._logits(level, cut(state, rows))
            keep = None if awake is None or base is None else cut(awake, rows).unsqueeze(1)
            part.copy_(new if keep is None else torch.where(keep, new, part))
        return logits

    def _logits(self, level: int, state: Tensor) -> Tensor:
        return self.model.level_logits(level, state.to(self.image.dtype))

    def _start(self, level: int, before: Found | None) -> LevelStart:
        """Return what a level begins with and the part of the grid that it runs on."""
        model = self.model
        plain = LevelStart(
            self.image, model.scales[level], model.factor(level), _all(self.grids[level]),
            model.settings.cell.channels, self.kind,
        )  # fmt: skip
        if before is None:
            return plain
        part, cells = _all(before.state.shape[2:]), None
        focus = model.focus_of(level, self.options)
        if focus is not None and before.logits is not None:
            found = cut(before.logits, before.box)
            cells = cells_in_focus(found, focus, model.scales[level - 1])
            part = model.part(level, cells)
            # The next level's context is a mean over this part. All cells of it are then awake, as
            # they are in training.
            keep = not model.settings.global_context or level == self.last
            cells = cut(cells, part) if keep else None
        box = finer(outward(part, before.box), plain.factor)
        shift = model.context_shift(level, before.state, self.image.dtype)
        return replace(plain, box=box, coarse=cut(before.state, part), shift=shift, cells=cells)

    def _parts(self, level: int, start: LevelStart) -> Iterator[tuple[Box, Tensor, Tensor | None]]:
        """Yield every part of the box, its new state ``(B, C, *part)``, and its awake cells."""
        plan = self._plan(level, start)
        ways = {"whole": self._whole, "alone": self._alone, "in place": self._in_place}
        steps = self.steps[level]
        self.meter.facts = {"level": level + 1, "levels": self.last + 1, "steps": steps}
        with naming(level):
            yield from ways[plan.way](level, start, plan)

    def _plan(self, level: int, start: LevelStart) -> Tiling:
        model, options = self.model, self.options
        batch, element = self.image.shape[0], self.kind.itemsize
        need = level_need(model, level, start.size, batch, self.kind, self.steps[level])
        if options.memory_gb is None or options.record is not None:
            return plan_tiles(need, None)
        coarse = 0 if start.coarse is None else prod(start.coarse.shape[2:])
        held = held_bytes(model, level, coarse, prod(start.size), batch, element)
        return plan_tiles(need, options.memory_gb * 1e9 - held)

    def _fire(self, level: int, start: LevelStart, part: Box) -> Fire:
        mode = self.options.fire or self.model.settings.fire
        fire = self.model.fire_of(level, self.image.shape[0], self.options.seed, mode)
        fire = fire.at([b.start for b in outward(part, start.box)])
        return replace(fire, awake=start.awake(part))

    def _whole(
        self, level: int, start: LevelStart, plan: Tiling
    ) -> Iterator[tuple[Box, Tensor, Tensor | None]]:
        box, record = _all(start.size), self.options.record
        fire = self._fire(level, start, box)
        steps = self.steps[level]
        cells = prod(start.size)
        # A cell that may stop by itself must not be asked to go on.
        once = record is not None or self.model.settings.cell.stop is not None
        chunk = steps if once else max(_FEWEST_STEPS, _TOLD // cells)
        engine, cell = self.model.engine, self.model.cell(level)
        note = None if record is None else lambda state: record(level, state)
        state = start.state(box)
        for first in range(0, steps, max(chunk, 1)):
            count = min(chunk, steps - first)
            state = engine.roll_out(cell, state, count, fire.advance(first), note)
            self.meter.facts = {**self.meter.facts, "step": first + count}
            self.meter.advance(count * cells)
        yield box, state, fire.awake

    def _alone(
        self, level: int, start: LevelStart, plan: Tiling
    ) -> Iterator[tuple[Box, Tensor, Tensor | None]]:
        steps = self.steps[level]
        engine, cell = self.model.engine, self.model.cell(level)
        for tile in tiles(start.size, plan.size, steps * cell.radius):
            awake = start.awake(tile.core)
            if awake is not None and not awake.any():
                state = start.state(tile.core)
            else:
                fire = self._fire(level, start, tile.outer)
                state = start.state(tile.outer)
                state = cut(engine.roll_out(cell, state, steps, fire, None), tile.inside)
            yield tile.core, state, awake
            del state
            self.meter.advance(steps * prod(b.stop - b.start for b in tile.core))

    def _in_place(
        self, level: int, start: LevelStart, plan: Tiling
    ) -> Iterator[tuple[Box, Tensor, Tensor | None]]:
        box = _all(start.size)
        memory = torch.empty(
            (self.image.shape[0], *start.size, start.channels), dtype=self.kind,
            device=self.image.device,
        ).movedim(-1, 1)  # fmt: skip
        for tile in tiles(start.size, plan.size, 0):
            cut(memory, tile.core).copy_(start.state(tile.core))
        fire = self._fire(level, start, box)
        steps = self.steps[level]
        roll_in_place(
            self.model.engine, self.model.cell(level), memory, steps, fire, plan.size, self.meter
        )
        yield box, memory, fire.awake


@contextmanager
def naming(level: int) -> Iterator[None]:
    """Add the index of the level to an error about a state that is not finite."""
    try:
        yield
    except NonFiniteStateError as error:
        raise NonFiniteStateError(error.step, level) from error


def _all(size: Sequence[int]) -> Box:
    return tuple(slice(0, n) for n in size)


def _within(part: Box, whole: Box) -> Box:
    return tuple(
        slice(p.start - w.start, p.stop - w.start) for p, w in zip(part, whole, strict=True)
    )


def _enlarged(coarse: Tensor, place: Box, factor: Sequence[int]) -> Tensor:
    """Return a part of ``coarse (B, K, *grid)``, enlarged to a ``factor`` times finer grid."""
    wide = tuple(slice(p.start // f, -(-p.stop // f)) for p, f in zip(place, factor, strict=True))
    return cut(enlarge(cut(coarse, wide), factor), _within(place, finer(wide, factor)))


def collect(image: Tensor, channels: int) -> tuple[Tensor, Callable[[Box, Tensor], None]]:
    """Return a tensor for all logits ``(B, channels, *spatial)``, and a sink that fills it."""
    logits = image.new_empty(image.shape[0], channels, *image.shape[2:])

    def sink(window: Box, part: Tensor) -> None:
        cut(logits, window).copy_(part)

    return logits, sink
