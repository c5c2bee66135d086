"""The interface of a task: what the commands train, evaluate, predict and register ask of it.

A task is a folder, ``medseg_nca/tasks/<name>/``, whose ``__init__`` defines ``TASK``, one object of
a class of its own. The commands and the tracking use this interface only; none of them knows a
particular task.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from medseg_nca.config import RunSettings, Settings
from medseg_nca.config.engines import AUTO
from medseg_nca.config.loading import validate
from medseg_nca.dynamics.subject import Subject, SubjectRequest
from medseg_nca.errors import ConfigError, DataError
from medseg_nca.inference.requests import EvaluateRequest, PredictRequest
from medseg_nca.inference.task_results import Agreement, Evaluation, Predicted, ResultTable, Tree
from medseg_nca.inference.trained import Description, TrainedModel
from medseg_nca.job import Job
from medseg_nca.training.start import Start, Training

if TYPE_CHECKING:
    from torch import nn

    from medseg_nca.inference.task_model import TaskModel, TaskSpec
    from medseg_nca.recipe import Decision

__all__ = [
    "Agreement",
    "Better",
    "Description",
    "EvaluateRequest",
    "Evaluation",
    "PredictRequest",
    "Predicted",
    "ResultTable",
    "StandardTask",
    "Start",
    "Subject",
    "SubjectRequest",
    "Task",
    "TrainedModel",
    "Training",
    "Tree",
]

Better = Literal["higher", "lower", "zero"]


class Task(ABC):
    """One kind of problem, for example segmentation.

    Attributes:
        name: the registered name of the task.
        score: name, as people write it, of the metric by which models are judged, such as "Dice".
        data_use: whether a training needs a data set: "required", "optional" or "none".
        options_class: type of the section ``options`` of the settings, which belongs to the task.
        defaults: values, by key, of settings that the user leaves to the recipe.
        predict_options: names in ``PredictRequest.options`` that the task understands.
        evaluate_options: names in ``EvaluateRequest.options`` that the task understands.
        unused_training: names of fields of the section ``training`` that the task does not read. A
            value other than the default is refused.
        folds: whether a training can be one fold of a cross-validation: it has cases to divide.
        joins: whether the models of several folds become one ensemble.
        parallel: whether ``workers`` and ``scheduler`` of a request share out its cases.
        keeps_cases: whether the cases that were finished stay where a command is interrupted.
        joint_rows: names of the rows of a comparison that stand for several other rows; the
            comparison then gives the mean of those rows too.
    """

    name: ClassVar[str]
    score: ClassVar[str]
    data_use: ClassVar[Literal["required", "optional", "none"]] = "required"
    options_class: ClassVar[type[Settings]] = Settings
    defaults: ClassVar[Mapping[str, Any]] = {}
    predict_options: ClassVar[frozenset[str]] = frozenset()
    evaluate_options: ClassVar[frozenset[str]] = frozenset()
    unused_training: ClassVar[frozenset[str]] = frozenset()
    folds: ClassVar[bool] = True
    joins: ClassVar[bool] = False
    parallel: ClassVar[bool] = False
    keeps_cases: ClassVar[bool] = False
    joint_rows: ClassVar[tuple[str, ...]] = ()

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

    @abstractmethod
    def begin(self, start: Start, job: Job) -> Training:
        """Begin a training: prepare and split the data, and decide the settings left open.

        Raises:
            MedsegError: see :mod:`medseg_nca.errors`.
        """

    @abstractmethod
    def read(self, folder: Path) -> Description:
        """Read ``model.json`` and check that the weights fit it, without building the model.

        Raises:
            ModelError: if a file is missing or damaged, or the two files do not fit each other.
        """

    @abstractmethod
    def load(self, folder: Path, device: str = "auto", engine: str = AUTO) -> TrainedModel:
        """Load a model from its two files.

        Args:
            folder: folder of the two files.
            device: "auto", "cpu", "cuda" or "cuda:N".
            engine: who computes the automaton: the name of an engine; "auto" takes the fastest
                that can. It is an option of this run, and the model's files do not name one.

        Raises:
            ModelError: as :meth:`read` raises it, or if the device is not present.
            ConfigError, DependencyError: if there is no such engine, or it cannot compute the
                model.
        """

    @abstractmethod
    def predict(self, request: PredictRequest, job: Job) -> Sequence[Predicted]:
        """Write the answer for every input, and ``predictions.json``.

        Raises:
            PartialFailure: after the last input, if some inputs failed; the answers to the others
                are written.
            Interrupted: if the job was cancelled.
            MedsegError: see :mod:`medseg_nca.errors`.
        """

    @abstractmethod
    def evaluate(self, request: EvaluateRequest, job: Job) -> Evaluation:
        """Measure a model, and write ``metrics.json``, ``metrics.csv``, ``report.html``, figures.

        Raises:
            Interrupted: if the job was cancelled.
            MedsegError: see :mod:`medseg_nca.errors`.
        """

    def subject(self, request: SubjectRequest) -> Subject:
        """Offer a model and its cases to the probes of ``medseg-nca dynamics``.

        A task need not implement it.

        Raises:
            ConfigError: if the task has none, or a setting does not fit.
            DataError: if there are no such cases.
        """
        raise ConfigError(
            f"The task {self.name} offers its models to no probes.",
            hint="It would implement Task.subject; see docs/dynamics.md.",
        )

    @abstractmethod
    def table(self, tree: Tree) -> ResultTable:
        """Return the part of ``metrics.json`` that the terminal shows."""

    @abstractmethod
    def published(self, tree: Tree) -> Mapping[str, float | None]:
        """Return the numbers of ``metrics.json`` that the tracking store gets, by metric name.

        The names do not begin with the side of the split ("test", "val"); the caller adds it.
        """

    @abstractmethod
    def comparable(self, tree: Tree) -> Mapping[str, Better]:
        """Return the metrics by which two evaluations can be compared case by case.

        Each name is mapped to the direction in which the metric is better. A comparison takes the
        first metric unless its caller names another.
        """

    @abstractmethod
    def case_values(self, tree: Tree, metric: str) -> Mapping[str, Mapping[str, float | None]]:
        """Return a metric: for each row of a comparison (a label, "all"), its value by case id."""

    def heading(self, metric: str) -> str:
        """Return the name of a metric as people write it, with its unit."""
        return metric.replace("_", " ")

    @abstractmethod
    def make_reference(self, model: TrainedModel) -> dict[str, str]:
        """Return the model's answer to an input made from a formula, as it is stored with it."""

    @abstractmethod
    def check_reference(self, model: TrainedModel) -> Agreement:
        """Answer the same input again, and compare the answer with the one stored with the model.

        Raises:
            ModelError: if the model has no stored answer, or its stored answer cannot be read.
        """

    @abstractmethod
    def tags(self, model: TrainedModel) -> Mapping[str, str]:
        """Return tags for a registered version of the model, besides those that every task has."""

    @abstractmethod
    def answer(self, model: TrainedModel, value: Any) -> Any:
        """Answer an array or a mapping of arrays, as MLflow's ``load_model(...).predict`` does.

        Args:
            model: a trained model of the task.
            value: an array, or a mapping of arrays; each task documents which ones it takes.

        Raises:
            ImageError: if the input does not fit the model; the message says what is needed.
        """


def _flag(name: str) -> str:
    """How the command line writes an option."""
    return f"--{name.replace('_', '-')}"


class StandardTask(Task):
    """A task whose models are the two files of :mod:`medseg_nca.inference.task_model`."""

    @abstractmethod
    def build(self, spec: TaskSpec) -> nn.Module:
        """Return the network that a model's description asks for, untrained.

        An automaton is computed by the engine that ``spec.model.engine`` names: when a model is
        loaded, that is the engine which the run asks for.

        It is also called on torch's "meta" device, where tensors have shapes and no memory. It may
        raise any error for settings that make no network.
        """

    def read(self, folder: Path) -> TaskSpec:
        """Implement :meth:`Task.read`."""
        from medseg_nca.inference.task_model import check_task_model

        return check_task_model(folder, self.name, self.build)

    def load(self, folder: Path, device: str = "auto", engine: str = AUTO) -> TaskModel:
        """Implement :meth:`Task.load`."""
        from medseg_nca.inference.task_model import load_task_model

        return load_task_model(folder, self.name, self.build, device, engine)

    def own(self, model: TrainedModel) -> TaskModel:
        """Return the model with the type that models of this task have.

        Raises:
            ConfigError: if the model belongs to another task.
        """
        from medseg_nca.inference.task_model import TaskModel

        if not isinstance(model, TaskModel) or model.spec.task != self.name:
            raise ConfigError(
                f"{model.spec.name}: is a model of the task {model.spec.task}, not of {self.name}."
            )
        return model
