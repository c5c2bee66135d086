"""The settings of a whole run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import (
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from medseg_nca.config.auto import AUTO, LEFT_TO_RECIPE, has_key, says_auto, tree_of, without
from medseg_nca.config.base import Settings
from medseg_nca.config.bounds import Name
from medseg_nca.config.data import AugmentSettings, DataSettings, PreprocessSettings
from medseg_nca.config.model import ModelSettings
from medseg_nca.config.presets import merge
from medseg_nca.config.training import (
    EvaluationSettings,
    PredictionSettings,
    TrackingSettings,
    TrainingSettings,
)
from medseg_nca.config.trust import TrustSettings


class RunSettings(Settings):
    """Everything that decides a run. Resolved, it lies beside the results as ``settings.yaml``.

    What is "auto" among :data:`~medseg_nca.config.auto.LEFT_TO_RECIPE` holds the default of its
    field, is named in :attr:`undecided`, and is written as "auto" again. ``options`` are those of
    the task, which checks them.
    """

    name: Name = "run"
    task: str = "segmentation"
    options: dict[str, Any] = Field(default_factory=dict)
    seed: int = Field(0, ge=0, lt=2**63)
    device: str = "auto"
    data: DataSettings = DataSettings()
    preprocess: PreprocessSettings = PreprocessSettings()
    augment: AugmentSettings = AugmentSettings()
    model: ModelSettings
    training: TrainingSettings = TrainingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    prediction: PredictionSettings = PredictionSettings()
    trust: TrustSettings = TrustSettings()
    tracking: TrackingSettings = TrackingSettings()
    _undecided: tuple[str, ...] = PrivateAttr(())

    @property
    def undecided(self) -> tuple[str, ...]:
        """Keys, as ``--set`` writes them, that are left to the recipe and not decided yet."""
        return self._undecided

    def changed(self, **values: Any) -> Self:
        """See :meth:`Settings.changed`; what is undecided stays so."""
        settings = super().changed(**values)
        settings._undecided = self._undecided
        return settings

    def with_values(self, values: Mapping[str, Any]) -> Self:
        """The same settings with other values, by the keys of ``--set``; they are then decided.

        Raises:
            pydantic.ValidationError: if a value does not fit.
        """
        tree = self.model_dump()
        for key, value in values.items():
            tree = merge(without(tree, key), tree_of(key, value))
        return type(self).model_validate(tree)

    @model_validator(mode="wrap")
    @classmethod
    def _leave(cls, tree: Any, build: ModelWrapValidatorHandler[Self]) -> Self:
        """Take "auto" out of the tree, and remember where it was."""
        if not isinstance(tree, Mapping):
            return build(tree)
        left = tuple(key for key in LEFT_TO_RECIPE if says_auto(tree, key))
        for key in left:
            tree = without(tree, key)
        settings = build(tree)
        settings._undecided = left
        return settings

    @model_serializer(mode="wrap")
    def _write(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        tree: dict[str, Any] = write(self)
        for key in self._undecided:
            if has_key(tree, key):  # a part may be excluded
                tree = merge(without(tree, key), tree_of(key, AUTO))
        return tree
