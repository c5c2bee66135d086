"""More or fewer steps than an automaton was trained with."""

from __future__ import annotations

from collections.abc import Sequence

from medseg_nca.config.bounds import MAX_STEPS
from medseg_nca.config.training import PredictionSettings
from medseg_nca.errors import ConfigError
from medseg_nca.models import SegmentationModel


def scaled_steps(
    model: SegmentationModel, factor: float | Sequence[float]
) -> tuple[int, ...] | None:
    """Return how many steps each level of a model takes, as ``RunOptions.steps``.

    Args:
        model: the model.
        factor: how many times the trained steps, for all levels or for each level.

    Returns:
        None if the factor is 1, and a model without steps needs none.

    Raises:
        ConfigError: if the model has no steps, or not as many levels as there are factors.
    """
    if factor == 1:
        return None
    if not model.steps:
        raise ConfigError(
            f"prediction.step_factor is {factor}, but a model that is no automaton has no steps.",
            hint="Leave prediction.step_factor out.",
        )
    return times_steps(model.steps, factor)


def asked(
    settings: PredictionSettings, factor: float | Sequence[float], seed: int | None
) -> PredictionSettings:
    """Return the settings of a prediction with other steps, and with a fire seed.

    Args:
        settings: how the model is used.
        factor: how many times the trained steps, for all levels or for each level.
        seed: seed of fire masks that are drawn; None leaves the masks as they are.
    """
    times = factor if isinstance(factor, int | float) else tuple(factor)
    settings = settings.changed(step_factor=times)
    return settings if seed is None else settings.changed(seed=seed, fire="sample")


def times_steps(steps: Sequence[int], factor: float | Sequence[float]) -> tuple[int, ...]:
    """Return steps times a factor, rounded half up, at least 1 for each level.

    Args:
        steps: of each level, coarse to fine.
        factor: one for all levels, or one for each.

    Raises:
        ConfigError: if there are not as many factors as levels, or a level would take more than
            ``MAX_STEPS`` steps.
    """
    factors = [factor] * len(steps) if isinstance(factor, int | float) else list(factor)
    if len(factors) != len(steps):
        raise ConfigError(
            f"prediction.step_factor names {len(factors)} levels; the model has {len(steps)}.",
            hint="Give one number for all levels, or one for each, coarse to fine.",
        )
    scaled = tuple(times_count(count, times) for count, times in zip(steps, factors, strict=True))
    if max(scaled) > MAX_STEPS:
        raise ConfigError(
            f"prediction.step_factor {factor} makes {max(scaled)} steps of a level; at most "
            f"{MAX_STEPS} are taken.",
            hint="Take a smaller factor.",
        )
    return scaled


def times_count(steps: int, factor: float) -> int:
    """Return the steps of one level times a factor, rounded half up, at least 1."""
    return max(1, int(steps * factor + 0.5))
