"""Damage to a state at the end of a roll-out, and how the answer recovers in further steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from medseg_nca.dynamics.subject import ProbedCase, Scores
from medseg_nca.errors import NonFiniteStateError
from medseg_nca.job import Job
from medseg_nca.nca.fire import mix
from medseg_nca.nca.start import RollOutStart

NONE = "no damage"


@dataclass(frozen=True)
class RecoveryPoint:
    """An answer some steps after the damage.

    Attributes:
        step: how many steps after the damage; 0 is at once.
        agreement: with the answer before the damage.
        scores: against the truth.
    """

    step: int
    agreement: Scores
    scores: Scores


@dataclass(frozen=True)
class Recovery:
    """How an answer recovers from one kind of damage.

    Attributes:
        name: of the damage.
        points: in the order of the steps; they end where a state is not finite.
    """

    name: str
    points: tuple[RecoveryPoint, ...]

    @property
    def resilience(self) -> float | None:
        """One minus the mean IoU of the labels with the answer before the damage, at the end.

        After arXiv 2605.26726, where the noise has a standard deviation of .02 and 12 steps follow;
        0 is an answer that came back. It is defined for answers whose agreement is a Dice.
        """
        last = self.points[-1].agreement if self.points else {}
        # The first of several names is the mean of the others.
        labels = list(last.values())[1:] or list(last.values())
        dice = [value for value in labels if value is not None]
        return float(np.mean([1 - d / (2 - d) for d in dice])) if dice else None


def hole(start: RollOutStart, state: Tensor, centre: Sequence[int], share: float) -> Tensor:
    """Return a state whose hidden channels are zero in a box.

    Args:
        start: the roll-out, which knows the hidden channels.
        state: ``(B, C, *cells)``.
        centre: the cell in the middle of the box; the box is moved until it lies in the grid.
        share: edge of the box, as a share of each axis; at least one cell.
    """
    sizes = state.shape[2:]
    edges = [max(1, round(n * share)) for n in sizes]
    first = [min(max(c - e // 2, 0), n - e) for c, e, n in zip(centre, edges, sizes, strict=True)]
    box = tuple(slice(a, a + e) for a, e in zip(first, edges, strict=True))
    wounded = state.clone()
    wounded[(slice(None), start.hidden, *box)] = 0
    return wounded


def noise(start: RollOutStart, state: Tensor, deviation: float, seed: int) -> Tensor:
    """Return a state with normal noise on its hidden channels, the same on every device."""
    shape = state[:, start.hidden].shape
    drawn = np.random.default_rng(seed).standard_normal(shape, np.float32)
    wounded = state.clone()
    wounded[:, start.hidden] += deviation * torch.from_numpy(drawn).to(state)
    return wounded


def wound(start: RollOutStart, state: Tensor, stays: Tensor) -> Tensor:
    """Return a state whose hidden channels are zero but where cells stay, bool ``(*cells)``."""
    wounded = state.clone()
    wounded[:, start.hidden] *= stays.to(state)
    return wounded


def damages(
    case: ProbedCase,
    start: RollOutStart,
    state: Tensor,
    *,
    holes: Sequence[float],
    deviations: Sequence[float],
    seed: int,
) -> dict[str, Tensor]:
    """Return the damaged states by name: none, holes, noise, and the task's own wounds.

    A hole is centred on a cell of the answer's objects that the seed draws, or on any cell where
    the answer has no objects.
    """
    found = case.object_cells(state)
    places = None if found is None else found.nonzero()
    if places is None or not len(places):
        places = torch.ones(state.shape[2:], dtype=torch.bool).nonzero()
    centre = places[int(np.random.default_rng(seed).integers(len(places)))].tolist()
    made = {NONE: state}
    made |= {f"hole of {share:g}": hole(start, state, centre, share) for share in holes}
    made |= {
        f"noise of {sd:g}": noise(start, state, sd, mix(seed, number))
        for number, sd in enumerate(deviations)
    }
    made |= {name: wound(start, state, stays) for name, stays in case.wounds().items()}
    return made


def recover(
    case: ProbedCase,
    start: RollOutStart,
    states: Mapping[str, Tensor],
    steps: int,
    job: Job | None = None,
) -> tuple[Recovery, ...]:
    """Let damaged states take further steps, and compare the answers.

    Args:
        case: reads and compares the answers.
        start: the roll-out of the last level.
        states: the damaged states after the trained steps, by name, with the undamaged one as
            :data:`NONE`.
        steps: how many further steps are taken; an answer is read after 0, 1, 2, 4, 8, ... and the
            last of them.
        job: asked before every answer whether to go on.
    """
    job = job or Job()
    whole = case.read(states[NONE])
    looks = sorted({0, steps, *(2**k for k in range(steps.bit_length()) if 2**k < steps)})
    found = []
    for name, damaged in states.items():
        state, done = damaged, 0
        points: list[RecoveryPoint] = []
        for look in looks:
            job.check()
            try:
                state = start.after(start.steps + done, state).go(look - done)
            except NonFiniteStateError:
                break
            done = look
            answer = case.read(state)
            points.append(RecoveryPoint(look, case.agreement(answer, whole), case.score(answer)))
        found.append(Recovery(name, tuple(points)))
    return tuple(found)
