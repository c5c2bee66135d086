"""The optimiser, and the schedule of its learning rate."""

from __future__ import annotations

import math

from torch import nn
from torch.optim import Adam, AdamW, Optimizer

from medseg_nca.config.training import TrainingSettings
from medseg_nca.training.muon import Muon


def build_optimiser(model: nn.Module, settings: TrainingSettings) -> Optimizer:
    """Return the optimiser of the settings: Muon, AdamW or Adam.

    Weight decay acts on matrices and filters, but not on biases and scales.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    kinds: dict[str, type[Muon | AdamW | Adam]] = {"muon": Muon, "adamw": AdamW, "adam": Adam}
    kind = kinds[settings.optimiser]
    return kind([g for g in groups if g["params"]], lr=settings.lr, betas=settings.betas)


def rate_factor(settings: TrainingSettings, iteration: int, progress: float) -> float:
    """Return the factor by which the schedule multiplies the learning rate.

    Args:
        settings: settings of the training.
        iteration: number of optimiser steps so far.
        progress: share of the training that is done, 0 to 1.
    """
    warmup = 1.0
    if settings.warmup >= 1:
        warmup = min(1.0, (iteration + 1) / settings.warmup)
    elif settings.warmup:
        warmup = min(1.0, progress / settings.warmup)
    if settings.schedule == "cosine":
        return warmup * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    if settings.schedule == "exponential":
        return float(warmup * settings.gamma**iteration)
    return warmup


def set_rate(optimiser: Optimizer, rate: float) -> None:
    """Set the learning rate of every parameter group."""
    for group in optimiser.param_groups:
        group["lr"] = rate
