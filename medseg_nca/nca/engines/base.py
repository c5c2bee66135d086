"""The seam between the automaton and what computes it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from medseg_nca.errors import ConfigError
from medseg_nca.nca.cell import Cell
from medseg_nca.nca.fire import Fire

Record = Callable[[Tensor], None]


class Engine(ABC):
    """Computes roll-outs. The reference engine is the definition; others must agree with it.

    Without gradients the state may be bfloat16: then it is rounded after every step, the weights
    are rounded once, and everything in between is computed in float32.

    Attributes:
        rank: "auto" asks the engine of the highest rank first. The reference engine, which serves
            everything, has 0; the faster an engine is, the higher.
        devices: torch's names of the kinds of device that it computes on ("cpu", "cuda"); None for
            every kind.
    """

    rank: float = 0
    devices: tuple[str, ...] | None = None

    def refuses(self, cell: Cell, state: Tensor) -> str | None:
        """Name the setting of a roll-out that this engine does not serve; None if it serves all."""
        return None

    def unusable(self, state: Tensor) -> str | None:
        """Say why this engine cannot compute such a state on this machine; None if it can."""
        return None

    def bytes_per_cell(self, cell: Cell, state: Tensor) -> float:
        """Working memory of inference, for each cell of the part that is computed.

        Here, as for plain torch: the state twice, the perceived values, and for the firing cells
        what the update rule reads, its hidden values (before and after the activation) and the
        change.
        """
        channels, features = cell.channels, cell.perception.features
        firing = channels + features + cell.update.working + 2 * channels
        seeing = 3 * channels + 2 * features + cell.perception.working
        return _size(state) * (seeing + firing)

    def bytes_kept(self, cell: Cell, state: Tensor) -> float:
        """What a training step keeps for the backward pass, for each cell.

        Here: two states, what the perception keeps, and for the cells that fire what the update
        rule reads and its hidden values; of all cells where the norm takes the statistics of all.
        """
        whole = cell.settings.update.norm == "batch_all"
        share = 1.0 if whole else cell.settings.fire_rate
        firing = cell.channels + cell.perception.features + cell.update.working
        kept = 2 * cell.channels + cell.perception.kept + share * firing
        return _size(state) * kept

    @staticmethod
    def check(cell: Cell, state: Tensor, fire: Fire) -> None:
        """Compare the shapes of what belongs together; compiled code would not notice.

        Raises:
            ConfigError: naming the argument that does not fit.
        """
        shape = tuple(state.shape)
        if state.ndim != cell.dims + 2 or shape[1] != cell.channels:
            raise ConfigError(
                f"state has the shape {shape}; the cell needs (B, {cell.channels}, and "
                f"{cell.dims} spatial axes)."
            )
        if not fire.all_cells and len(fire.seeds) != shape[0]:
            raise ConfigError(f"fire has {len(fire.seeds)} seeds for a batch of {shape[0]}.")
        awake = fire.awake_cells(shape[2:])
        if awake is not None and (
            tuple(awake.shape) != (shape[0], *shape[2:]) or awake.dtype != torch.bool
        ):
            raise ConfigError(
                f"fire.awake is {awake.dtype} of the shape {tuple(awake.shape)}; it must be "
                f"torch.bool of {(shape[0], *shape[2:])}."
            )

    @abstractmethod
    def roll_out(
        self, cell: Cell, state: Tensor, steps: int, fire: Fire, record: Record | None = None
    ) -> Tensor:
        """Update the automaton ``steps`` times.

        Args:
            cell: perception and update rule.
            state: ``(B, C, *spatial)``, image channels first; not changed.
            steps: how many steps.
            fire: which cells update, and from which step on.
            record: called with the state ``(B, C, *spatial)`` after every step.

        Returns:
            The new state ``(B, C, *spatial)``.

        Raises:
            NonFiniteStateError: if a value becomes NaN or infinite.
            Interrupted: if the job that this thread works for
                (:meth:`medseg_nca.job.Job.current`) was cancelled; an engine may also finish.
        """

    def roll_out_living(
        self, cell: Cell, state: Tensor, steps: int, fire: Fire, record: Record | None = None
    ) -> Tensor | None:
        """Take all steps of a cell with options (alive, clock, stop) at once, if that is faster.

        The result is that of :class:`medseg_nca.nca.stepwise.Stepwise`, which takes them one by
        one where this gives None.

        Args:
            cell: with some of these options.
            state: see :meth:`roll_out`, as the other arguments.
            steps: how many steps.
            fire: which cells update.
            record: called with the state after every step.
        """
        return None


def _size(state: Tensor) -> int:
    """Bytes of a number in between: bfloat16 is computed in float32."""
    return max(state.element_size(), 4)
