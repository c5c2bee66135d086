"""Loss and Dice of the best constant segmentation: the same answer in all voxels of all images."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medseg_nca.config import LabelTable
from medseg_nca.datasets.prepared import PreparedCase
from medseg_nca.metrics.overlap import Counts

# Voxels taken of each target; the loss of a constant depends mostly on the labels' frequencies.
_VOXELS = 2**14
_RAREST = 1e-6
_STEPS = 15


def constant_loss(criterion: nn.Module, targets: Sequence[Tensor], multi_label: bool) -> float:
    """Return the lowest mean loss that a constant has: one vector of logits for every voxel.

    The search starts from the logarithm of the labels' frequencies, which is the best constant for
    a cross entropy, though not for a Dice loss.

    Args:
        criterion: loss of logits and targets, both ``(B, K, *spatial)``.
        targets: targets of some batches, each ``(B, K, *spatial)`` in [0, 1].
        multi_label: whether the labels may overlap.
    """
    some = [_some_voxels(target.detach()) for target in targets]
    share = torch.cat([target.movedim(1, -1).flatten(0, 1) for target in some]).mean(0)
    share = share.clamp(_RAREST, 1 - _RAREST)
    logits = (share.logit() if multi_label else share.log()).requires_grad_()
    optimiser = torch.optim.LBFGS([logits], max_iter=_STEPS, line_search_fn="strong_wolfe")
    losses = []

    def evaluate() -> float:
        optimiser.zero_grad()
        each = [criterion(logits[None, :, None].expand_as(target), target) for target in some]
        loss = torch.stack(each).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        losses.append(float(loss.detach()))
        return losses[-1]

    optimiser.step(evaluate)  # type: ignore[no-untyped-call]
    return min((loss for loss in losses if math.isfinite(loss)), default=float("nan"))


def constant_predictions(
    cases: Sequence[PreparedCase], labels: LabelTable
) -> list[dict[str, dict[str, float | None]]]:
    """Return, for each constant label map, its Dice by case and label.

    A constant label map is one label everywhere; if labels may overlap, it is all labels at once.
    The first entry is background everywhere, and its Dice is 0 for every label that is there.
    """
    names = labels.names
    answers = [set(names)] if labels.multi_label else [{name} for name in names]
    return [
        {case.id: {name: _dice(case, name, name in answer) for name in names} for case in cases}
        for answer in (set[str](), *answers)
    ]


def _dice(case: PreparedCase, name: str, everywhere: bool) -> float | None:
    truth = case.foreground.get(name, 0)
    if not everywhere:
        return Counts(0, 0, truth).dice
    return Counts(truth, math.prod(case.shape), truth).dice


def _some_voxels(target: Tensor) -> Tensor:
    """Return voxels ``(B, K, n)`` of a target ``(B, K, *spatial)``, drawn evenly."""
    flat = target.flatten(2)
    if flat.shape[2] <= _VOXELS:
        return flat
    chance = torch.Generator().manual_seed(0)
    drawn = torch.randint(flat.shape[2], (_VOXELS,), generator=chance)
    return flat[:, :, drawn.to(flat.device)]
