"""The loss of a model with levels, its best constant, and the penalty on overflowing states."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from medseg_nca.config.model import ModelSettings, NcaModelSettings
from medseg_nca.config.training import TrainingSettings
from medseg_nca.models import LevelOutput
from medseg_nca.training.learner import Batch, Parts


def level_loss(
    outputs: Sequence[LevelOutput],
    targets: Sequence[Tensor],
    criterion: Callable[[Tensor, Tensor], Tensor],
    settings: TrainingSettings,
) -> tuple[Tensor, Parts]:
    """Return the weighted mean of the levels' losses plus the penalties on their states.

    The penalties are that on overflowing states, and what the levels themselves ask for.

    Args:
        outputs: what each level says, with its weight in the mean.
        targets: of each level, on its own cells.
        criterion: maps logits (float32) and target of a level to a number.
        settings: weight and bound of the penalty on overflowing states.

    Returns:
        The loss, and its parts for the log: "loss_level_K", "overflow", and where a level has a
        penalty of its own "penalty_level_K".
    """
    weights = sum(output.weight for output in outputs)
    parts: Parts = {}
    total = outputs[0].logits.new_zeros((), dtype=torch.float32)
    for number, (output, target) in enumerate(zip(outputs, targets, strict=True)):
        value = criterion(output.logits.float(), target)
        parts[f"loss_level_{number}"] = value.detach()
        total = total + output.weight / weights * value
        if output.penalty is not None:
            parts[f"penalty_level_{number}"] = output.penalty.detach()
            total = total + output.penalty
    penalty = sum((overflow(o.state, settings.overflow_bound) for o in outputs), torch.zeros(()))
    parts["overflow"] = penalty.detach()
    return total + settings.overflow * penalty, parts


def constant_level_loss(
    model: ModelSettings, batches: Sequence[Batch], best: Callable[[list[Tensor]], float]
) -> float:
    """Return the weighted mean of the losses of each level's best constant answer.

    Args:
        model: settings of the model, which give the levels their weights.
        batches: some batches of the training, with "targets" by level.
        best: returns the loss of the best constant for the targets of one level, batch by batch.
    """
    weights = [1.0]
    if isinstance(model, NcaModelSettings):
        weights = [level.loss_weight for level in model.resolved_levels]
    return sum(
        weight / sum(weights) * best([batch["targets"][level] for batch in batches])
        for level, weight in enumerate(weights)
    )


def overflow(state: Tensor | None, bound: float) -> Tensor:
    """Return the mean distance of state values from [-bound, bound].

    It is the overflow loss of Growing NCA (Mordvintsev et al. 2020).
    """
    if state is None:
        return torch.zeros(())
    return (state - state.clamp(-bound, bound)).abs().mean()
