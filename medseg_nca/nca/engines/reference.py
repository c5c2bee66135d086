"""The reference engine: plain torch, and the definition of a step.

Memory is channels-last throughout, which torch's CPU convolutions need to be fast, and the update
rule runs on the cells that fire only: the others would be multiplied by zero.
"""

from __future__ import annotations

import torch
from torch import Tensor

from medseg_nca.errors import NonFiniteStateError, PluginError
from medseg_nca.job import Job
from medseg_nca.nca.cell import Cell
from medseg_nca.nca.engines.base import Engine, Record
from medseg_nca.nca.fire import Fire
from medseg_nca.nca.rounding import rounded


class ReferenceEngine(Engine):
    """Gather the cells that fire, update them, add the change back."""

    def roll_out(
        self, cell: Cell, state: Tensor, steps: int, fire: Fire, record: Record | None = None
    ) -> Tensor:
        """See :meth:`Engine.roll_out`."""
        self.check(cell, state, fire)
        stored = state.dtype
        # Only what is kept from step to step is rounded.
        coarse = stored == torch.bfloat16 and not torch.is_grad_enabled()
        if coarse:
            cell, state = rounded(cell), state.float()
        x = state.movedim(1, -1).contiguous()
        positions = None if fire.all_cells else fire.positions(x.shape[1:-1], x.device)
        wrong = torch.full((), steps, device=x.device)  # the first step with a value not finite
        job = Job.current()
        for step in range(steps):
            if job is not None:
                job.check()
            perceived = _checked(cell, cell.perceive(x), x)
            flat = x.reshape(-1, cell.channels)
            firing = fire.firing(positions, state.shape[2:], step)
            if firing is None:
                x = flat + fire.scale * cell.change(torch.cat((flat, perceived), -1))
            elif cell.settings.update.norm == "batch_all":
                # The statistics are those of all cells, so all are computed.
                change = cell.change(torch.cat((flat, perceived), -1)) * firing.reshape(-1, 1)
                x = flat + fire.scale * change
            else:
                places = firing.flatten().nonzero().squeeze(-1)
                own = flat.index_select(0, places)
                rows = torch.cat((own, perceived.index_select(0, places)), -1)
                changed = own + fire.scale * cell.change(rows)
                x = flat.index_copy(0, places, changed.to(flat.dtype))
            x = x.view(state.shape[0], *state.shape[2:], cell.channels)
            # Left on its device until the end: to look at it would stop a GPU in every step.
            spoiled = (x.detach() * 0).sum() != 0
            wrong = torch.where(spoiled, wrong.clamp(max=step), wrong)
            x = x.bfloat16().float() if coarse else x
            if record is not None:
                record(x.to(stored).movedim(-1, 1))
        if int(wrong) < steps:
            raise NonFiniteStateError(fire.first_step + int(wrong))
        return x.to(stored).movedim(-1, 1)


def _checked(cell: Cell, perceived: Tensor, x: Tensor) -> Tensor:
    """The rows ``(cells, features)``; a part of another package may give another shape."""
    needed = (*x.shape[:-1], cell.perception.features)
    if tuple(perceived.shape) != needed:
        raise PluginError(
            f"The perception {cell.settings.perception.kind!r} gives the shape "
            f"{tuple(perceived.shape)}, and must give {needed}.",
            hint="Mend its forward, or what it sets as features.",
        )
    return perceived.reshape(-1, needed[-1])


ENGINE = ReferenceEngine()
