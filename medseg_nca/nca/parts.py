"""Make the parts of a cell by their names, and check what their settings say."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from medseg_nca.config.model import CellSettings, PerceptionSettings, UpdateSettings
from medseg_nca.config.parts import PERCEPTIONS, UPDATE_RULES, check_part
from medseg_nca.errors import ConfigError, MedsegError, PluginError
from medseg_nca.nca.perceptions.base import FilterBank, Perception
from medseg_nca.nca.update_rules.base import CellShape, UpdateRule
from medseg_nca.registry import PluginRegistry
from medseg_nca.suggest import unknown

# Settings that some parts read and others have no use for. ``hidden`` is not among them: the recipe
# decides it for every rule.
_OF_SOME = {
    "perception": ("kernel", "filters", "dilation"),
    "update": ("norm", "activation", "spectral_norm"),
}


def make_perception(settings: PerceptionSettings, channels: int, dims: int) -> Perception:
    """Make the perception that the settings name.

    Args:
        settings: ``model.cell.perception``.
        channels: number of channels of the state, those of the image included.
        dims: number of spatial axes, 2 or 3.

    Raises:
        ConfigError: if there is no such perception, or it has not such settings.
        PluginError: if it is another package's and cannot be used.
    """
    part = _make(PERCEPTIONS, "perception", settings, channels, dims)
    if not isinstance(part, Perception) or not {"features", "radius"} <= vars(part).keys():
        raise _broken(PERCEPTIONS, settings.kind, "it sets no features and radius")
    if part.bank is not None:
        if _says_less(part, "filters", ("forward", "padded")):
            part.bank = None
        elif reason := _unlike_bank(part, part.bank):
            raise _broken(PERCEPTIONS, settings.kind, reason)
    return part


def make_update_rule(settings: UpdateSettings, shape: CellShape) -> UpdateRule:
    """Make the update rule that the settings name.

    Args:
        settings: ``model.cell.update``.
        shape: how many numbers a cell holds, sees and changes.

    Raises:
        ConfigError: if there is no such update rule, or it has not such settings.
        PluginError: if it is another package's and cannot be used.
    """
    part = _make(UPDATE_RULES, "update", settings, shape)
    if not isinstance(part, UpdateRule):
        raise _broken(UPDATE_RULES, settings.kind, "it makes something else")
    if _says_less(part, "layers", ("forward", "hidden_values", "_norm")):
        part.two_layers = False
    return part


def check_parts(cell: CellSettings, dims: int) -> None:
    """Make the parts of a cell as shapes alone, to find what is wrong before any work.

    Raises:
        ConfigError, PluginError: as :func:`make_perception` and :func:`make_update_rule` do.
    """
    with torch.device("meta"):
        perception = make_perception(cell.perception, cell.channels, dims)
        shape = CellShape(cell.channels, 1, perception.features, cell.channels - 1)
        make_update_rule(cell.update, shape)


def _says_less(part: Perception | UpdateRule, told: str, computed: Sequence[str]) -> bool:
    """Whether a derived class computes something else than what the compiled engines are told.

    Args:
        part: perception or update rule.
        told: the method by which the engines learn the weights.
        computed: the methods that compute what these weights stand for.
    """
    order = type(part).__mro__
    teller = next(n for n, cls in enumerate(order) if told in vars(cls))
    return any(name in vars(cls) for cls in order[:teller] for name in computed)


def _unlike_bank(part: Perception, bank: FilterBank) -> str | None:
    """What of a bank's weights is unlike the shape that it tells the compiled engines."""
    if any(held.is_meta for held in (*part.parameters(), *part.buffers())):
        return None  # it is made for its shapes alone, and is looked at when it is made in earnest
    weight, bias = part.filters()
    needed = (part.features, part.channels if bank.mixes else 1, *(bank.kernel,) * part.dims)
    if tuple(weight.shape) != needed:
        return f"its weight is {tuple(weight.shape)}, and its bank says {needed}"
    if bias is not None and tuple(bias.shape) != needed[:1]:
        return f"its bias is {tuple(bias.shape)}, and its bank says {needed[:1]}"
    if part.radius != bank.dilation * (bank.kernel // 2):
        return f"its radius is {part.radius}, and its bank's is otherwise"
    return None


def _make(
    registry: PluginRegistry,
    section: str,
    settings: PerceptionSettings | UpdateSettings,
    *sizes: Any,
) -> Any:
    kind, where = settings.kind, f"cell.{section}"
    check_part(registry, kind)
    with torch.device("cpu"):  # what a module computes when it is imported stays there
        part = registry.get(kind)
    named = f"the {registry.kind} {kind!r}"
    default = type(settings)()
    for name in _OF_SOME[section]:
        if name not in part.reads and getattr(settings, name) != getattr(default, name):
            usual = getattr(default, name)
            raise ConfigError(
                f"{where}: {named} does not read {name}.",
                hint=f"Leave {name} out, or set model.{where}.{name}={usual}.",
            )
    _check_params(f"{where}.params", named, settings.params, part)
    try:
        return part(settings, *sizes, **settings.params)
    except MedsegError:
        raise
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{where}: {named} cannot be made so: {error}.") from error
    except Exception as error:  # another package's part may raise anything
        if kind in registry.own_names:
            raise
        raise _broken(registry, kind, f"{type(error).__name__}: {error}") from error


def _check_params(where: str, named: str, params: Mapping[str, Any], part: Any) -> None:
    known = {
        name: parameter
        for name, parameter in inspect.signature(part).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    for key in params:
        if not known:
            raise ConfigError(f"{where}: {named} has no params, got {key!r}.")
        if key not in known:
            raise ConfigError(f"{where}: {unknown(f'parameter of {named}', key, known)}")
    for name, parameter in known.items():
        if parameter.default is inspect.Parameter.empty and name not in params:
            raise ConfigError(f"{where}: {named} needs {name}.", hint=f"Set {where}.{name}=...")


def _broken(registry: PluginRegistry, kind: str, reason: str) -> PluginError:
    return registry.others.find(kind).broken(reason)
