"""What a task says of the settings and requests that it serves, and the checks that follow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from medseg_nca.config import RunSettings, Settings
from medseg_nca.config.loading import validate
from medseg_nca.errors import ConfigError, DataError
from medseg_nca.inference.requests import EvaluateRequest, PredictRequest
from medseg_nca.training.start import Start

if TYPE_CHECKING:
    from medseg_nca.recipe import Decision


class TaskRules:
    """The options and limits of a task.

    Attributes:
        name: the registered name of the task.
        data_use: whether a training needs a data set: "required", "optional" or "none".
        options_class: type of the section ``options`` of the settings, which belongs to the task.
        defaults: values, by key, of settings that the user leaves to the recipe.
        predict_options: names in ``PredictRequest.options`` that the task understands.
        evaluate_options: names in ``EvaluateRequest.options`` that the task understands.
        unused_training: names of fields of the section ``training`` that the task does not read. A
            value other than the default is refused.
        folds: whether a training can be one fold of a cross-validation: it has cases to divide.
        parallel: whether ``workers`` and ``scheduler`` of a request share out its cases.
    """

    name: ClassVar[str]
    data_use: ClassVar[Literal["required", "optional", "none"]] = "required"
    options_class: ClassVar[type[Settings]] = Settings
    defaults: ClassVar[Mapping[str, Any]] = {}
    predict_options: ClassVar[frozenset[str]] = frozenset()
    evaluate_options: ClassVar[frozenset[str]] = frozenset()
    unused_training: ClassVar[frozenset[str]] = frozenset()
    folds: ClassVar[bool] = True
    parallel: ClassVar[bool] = False

    def options(self, settings: RunSettings) -> Any:
        """Return the task's own settings, an object of :attr:`options_class`.

        Raises:
            ConfigError: if a key or value of ``options`` is wrong; the message names the key.
        """
        return validate(self.options_class, dict(settings.options), source="options")

    def checked(self, settings: RunSettings) -> RunSettings:
        """Return the settings with every default of ``options`` written out.

        Raises:
            ConfigError: as :meth:`options` raises it, or if a setting of the section ``training``
                is changed that the task does not read; the message names the setting.
        """
        fields = type(settings.training).model_fields
        for name in sorted(self.unused_training):
            default = fields[name].get_default(call_default_factory=True)
            if getattr(settings.training, name) != default:
                raise ConfigError(
                    f"training.{name} has no meaning in the task {self.name}.",
                    hint=f"Leave training.{name} out.",
                )
        return settings.changed(options=self.options(settings).model_dump(mode="json"))

    def decided(self, start: Start) -> tuple[RunSettings, tuple[Decision, ...]]:
        """Return the settings with a value for every key that the user leaves to the recipe.

        A key takes the value in :attr:`defaults`, or else the default of its field. One decision
        for each such key is returned beside the settings. A run that goes on keeps the decisions
        it began with.
        """
        from medseg_nca.recipe import Decision

        settings = start.settings
        if start.decisions is not None:
            return settings, start.decisions
        values: dict[str, Any] = {}
        for key in settings.undecided:
            found: Any = settings
            for part in key.split("."):
                found = getattr(found, part)
            values[key] = self.defaults.get(key, found)
        decisions = tuple(
            Decision(key, value, f"usual for {self.name}") for key, value in values.items()
        )
        return settings.with_values(values), decisions

    def check_data(self, data: Path | None) -> None:
        """Check that a data set is given where the task needs one, and only there.

        Raises:
            DataError: if a data set is needed and not given, or given and not needed.
        """
        if data is None and self.data_use == "required":
            raise DataError(f"The task {self.name} needs data.", hint="Name them with --data DIR.")
        if data is not None and self.data_use == "none":
            raise DataError(
                f"{data}: the task {self.name} learns from no data set.", hint="Leave --data out."
            )

    def check_folds(self, settings: RunSettings) -> None:
        """Refuse folds where the task has no cases to divide.

        Raises:
            ConfigError: if the settings ask for folds.
        """
        split = settings.data.split
        if split.folds is None and split.fold is None:
            return
        if not self.folds or self.data_use == "none":
            raise ConfigError(
                f"The task {self.name} divides no data, so there are no folds.",
                hint="Leave --folds and --fold (data.split.folds, data.split.fold) out.",
            )

    def check_spread(self, request: PredictRequest | EvaluateRequest) -> None:
        """Refuse processes and schedulers where the task works in one process.

        Raises:
            ConfigError: if the request asks for several.
        """
        if self.parallel or (request.workers <= 1 and request.scheduler is None):
            return
        option = "--workers" if request.scheduler is None else "--scheduler"
        raise ConfigError(
            f"{option}: the task {self.name} works in one process.", hint=f"Leave {option} out."
        )

    def check_options(self, given: Mapping[str, Any], known: frozenset[str]) -> None:
        """Refuse options of a command that the task does not have.

        Raises:
            ConfigError: if an option is not in ``known``; the message names the first such option
                as the command line writes it.
        """
        for name in given:
            if name not in known:
                words = ", ".join(sorted(_flag(word) for word in known)) or "none"
                raise ConfigError(
                    f"{_flag(name)}: is no option of the task {self.name}.",
                    hint=f"Its own options are: {words}.",
                )


def _flag(name: str) -> str:
    """How the command line writes an option."""
    return f"--{name.replace('_', '-')}"
