"""Build the network of a model from what its ``model.json`` says."""

from __future__ import annotations

from medseg_nca.config.loading import validate
from medseg_nca.config.model import ModelSettings, NcaModelSettings
from medseg_nca.errors import ConfigError
from medseg_nca.inference.task_model import TaskSpec
from medseg_nca.tasks.classification.network import ClassifyingNca
from medseg_nca.tasks.classification.options import ClassificationOptions
from medseg_nca.tasks.classification.prepare import Facts


def build_network(
    settings: ModelSettings, options: ClassificationOptions, facts: Facts
) -> ClassifyingNca:
    """Build the automaton of a model.

    Raises:
        ConfigError: if the settings belong to another kind of network, or do not fit.
    """
    return ClassifyingNca(
        resolved(settings, facts), len(facts.classes), options.readout, facts.threshold(options)
    )


def resolved(settings: ModelSettings, facts: Facts) -> NcaModelSettings:
    """Return the model's settings with the sizes that the data ask for.

    Raises:
        ConfigError: if the settings are not those of an automaton.
    """
    if not isinstance(settings, NcaModelSettings):
        raise ConfigError(
            f"Model {settings.name!r} is no automaton; classification has no other network.",
            hint="Set model.family=nca, or leave the model out.",
        )
    return settings.changed(
        dims=facts.dims,
        in_channels=facts.channels,
        out_channels=len(facts.classes),
        levels=settings.resolved_levels,
    )


def read_parts(spec: TaskSpec) -> tuple[ClassificationOptions, Facts]:
    """Return the options and facts of a model.

    Raises:
        ConfigError: if they are wrong; the message names the field.
    """
    options = validate(ClassificationOptions, spec.options, source="options")
    return options, validate(Facts, spec.facts, source="facts")


def build(spec: TaskSpec) -> ClassifyingNca:
    """Return the network that a ``model.json`` describes.

    Raises:
        ConfigError: if it describes none.
    """
    options, facts = read_parts(spec)
    return build_network(spec.model, options, facts)
