"""The engine that a run names for a trained model: an option of the run, as its device is.

A model's files do not name an engine, because which one is best depends on the machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from medseg_nca.config.engines import AUTO, ENGINES
from medseg_nca.config.model import ModelSettings, NcaModelSettings
from medseg_nca.errors import ConfigError, DependencyError
from medseg_nca.nca.cell import Cell
from medseg_nca.nca.engines import get_engine
from medseg_nca.nca.engines.auto import chosen_name

if TYPE_CHECKING:
    from medseg_nca.inference.trained import TrainedModel

_OTHERWISE = "Take another engine, or auto, which takes the fastest that can."


def with_engine(settings: ModelSettings, engine: str) -> ModelSettings:
    """Return the settings of a model that is built for an engine.

    Args:
        settings: of the model, as ``model.json`` has them.
        engine: name of the engine.

    Raises:
        ConfigError: if there is no engine of that name, or the model is no automaton.
    """
    ENGINES.check(engine)
    if isinstance(settings, NcaModelSettings):
        return settings.changed(engine=engine)
    if engine != AUTO:
        raise ConfigError(
            f"engine {engine!r}: the model {settings.name!r} is no automaton, so that no engine "
            "computes it.",
            hint="Leave the engine out.",
        )
    return settings


def check_engine(network: nn.Module, engine: str, device: torch.device) -> None:
    """Refuse, before any work, an engine that cannot compute a network on a device.

    Args:
        network: the network; what an engine computes of it are its cells.
        engine: name of the engine; "auto" always finds one that can.
        device: where the network is.

    Raises:
        ConfigError: if the engine does not serve a setting of a cell, or the device.
        DependencyError: if the engine cannot be used on this machine.
    """
    if engine == AUTO:
        return
    chosen = get_engine(engine)
    with torch.no_grad():
        for cell, state in _cells(network, device, torch.float32):
            if setting := chosen.refuses(cell, state):
                raise ConfigError(
                    f"The engine {engine!r} does not serve {setting}.", hint=_OTHERWISE
                )
            if reason := chosen.unusable(state):
                raise DependencyError(
                    f"The engine {engine!r} cannot be used: {reason}.", hint=_OTHERWISE
                )


def used_engine(
    network: nn.Module, engine: str, device: torch.device, precision: str = "float32"
) -> str | None:
    """Return the name of the engine that computes a network here; of "auto", the one it takes.

    Args:
        network: the network.
        engine: name of the engine that was asked for.
        device: where the network is.
        precision: type of the state, "float32" or "bfloat16".

    Returns:
        The name; several, with commas, if "auto" takes different ones for the cells of the network;
        None if the network has no cells, so that no engine computes it.
    """
    with torch.no_grad():
        names = [
            chosen_name(cell, state) if engine == AUTO else engine
            for cell, state in _cells(network, device, getattr(torch, precision))
        ]
    return ", ".join(dict.fromkeys(names)) or None


def engine_settings(model: TrainedModel, precision: str = "float32") -> dict[str, str | None]:
    """Return what files of results say of the engine.

    Args:
        model: the model that made the results.
        precision: type of the state, "float32" or "bfloat16".

    Returns:
        "engine", the one that was asked for, and "engine_used", the one that computed here.
    """
    return {"engine": model.engine, "engine_used": model.engine_used(precision)}


def _cells(
    network: nn.Module, device: torch.device, kind: torch.dtype
) -> Iterator[tuple[Cell, Tensor]]:
    """Yield each cell of a network with an empty state of its own."""
    for cell in network.modules():
        if isinstance(cell, Cell):
            shape = (0, cell.channels, *(1,) * cell.dims)
            yield cell, torch.zeros(shape, dtype=kind, device=device)
