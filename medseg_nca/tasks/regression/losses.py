"""Losses of standardised values, over the cells whose target is known."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from medseg_nca.tasks.regression.options import RegressionOptions

_LEAST = 1e-6
# Constants from -_REACH to _REACH standard deviations are tried, this many of them.
_REACH, _TRIED = 3.0, 121
_CELLS = 2**14


def masked_loss(found: Tensor, target: Tensor, options: RegressionOptions) -> Tensor:
    """Return the mean loss, each cell weighted by how much of its target is known.

    Args:
        found: the answer ``(N, K, *cells)``.
        target: the target ``(N, 2 K, *cells)``: sums and shares of what is known
            (:meth:`medseg_nca.tasks.regression.samples.RealCase.target`).
        options: options of the task, which name the loss.
    """
    total, known = target.chunk(2, 1)
    wanted = total / known.clamp_min(_LEAST)
    return (_each(found, wanted, options) * known).sum() / known.sum().clamp_min(_LEAST)


def _each(found: Tensor, wanted: Tensor, options: RegressionOptions) -> Tensor:
    if options.loss == "l1":
        return F.l1_loss(found, wanted, reduction="none")
    if options.loss == "mse":
        return F.mse_loss(found, wanted, reduction="none")
    return F.huber_loss(found, wanted, reduction="none", delta=options.huber_delta)


def constant_loss(targets: Sequence[Tensor], options: RegressionOptions) -> float:
    """Return the lowest mean loss of one constant for each channel; some constants are tried.

    Args:
        targets: targets ``(N, 2 K, *cells)`` of one level, of some batches.
        options: options of the task, which name the loss.
    """
    flat = torch.cat([target.detach().movedim(1, -1).flatten(0, -2) for target in targets])
    if len(flat) > _CELLS:
        chance = torch.Generator().manual_seed(0)
        flat = flat[torch.randint(len(flat), (_CELLS,), generator=chance).to(flat.device)]
    total, known = flat.chunk(2, 1)
    wanted = total / known.clamp_min(_LEAST)
    weight = known / known.sum().clamp_min(_LEAST)
    tried = torch.linspace(-_REACH, _REACH, _TRIED, device=flat.device)
    losses = torch.stack([
        (_each(value.expand_as(wanted), wanted, options) * weight).sum(0) for value in tried
    ])  # fmt: skip
    return float(losses.amin(0).sum())
