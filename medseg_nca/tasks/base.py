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

from medseg_nca.config import RunSettings
from medseg_nca.config.engines import AUTO
from medseg_nca.errors import ConfigError
from medseg_nca.inference.requests import EvaluateRequest, PredictRequest, TrustRequest
from medseg_nca.inference.task_results import Agreement, Evaluation, Predicted, ResultTable, Tree
from medseg_nca.inference.trained import Description, TrainedModel
from medseg_nca.job import Job
from medseg_nca.training.start import Start, Training
from medseg_nca.training.task_rules import TaskRules

if TYPE_CHECKING:
    from torch import nn

    from medseg_nca.datasets.splits import Split
    from medseg_nca.dynamics.subject import Subject, SubjectRequest
    from medseg_nca.inference.task_model import TaskModel, TaskSpec
    from medseg_nca.stages.stage import StageInput, StageRequest

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
    "Task",
    "TrainedModel",
    "Training",
    "Tree",
    "TrustRequest",
]

Better = Literal["higher", "lower", "zero"]


class Task(TaskRules, ABC):
    """One kind of problem, for example segmentation. Its rules have attributes, too.

    Attributes:
        score: name, as people write it, of the metric by which models are judged, such as "Dice".
        joins: whether the models of several folds become one ensemble.
        keeps_cases: whether the cases that were finished stay where a command is interrupted.
        joint_rows: names of the rows of a comparison that stand for several other rows; the
            comparison then gives the mean of those rows too.
    """

    score: ClassVar[str]
    joins: ClassVar[bool] = False
    keeps_cases: ClassVar[bool] = False
    joint_rows: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def begin(self, start: Start, job: Job) -> Training:
        """Begin a training: prepare and split the data, and decide the settings left open.

        Raises:
            MedsegError: see :mod:`medseg_nca.errors`.
        """

    def divide(self, data: Path | None, out: Path, settings: RunSettings, job: Job) -> Split | None:
        """Divide a data set as a training with the settings does; no image is read.

        A search asks this, and then trains on the training and validation parts alone.

        Args:
            data: the data set; None if none was given.
            out: folder for a data set that the task makes up itself.
            settings: settings of the run, with the task's own options checked.
            job: asked whether to go on.

        Returns:
            The split; None if the task divides no data.

        Raises:
            MedsegError: see :mod:`medseg_nca.errors`.
        """
        if self.data_use == "none":
            return None
        raise ConfigError(
            f"The task {self.name} does not say how it divides its data, so a search cannot keep "
            "the test part apart.",
            hint="Its author can add the method divide; see medseg_nca/tasks/base.py.",
        )

    def gather(
        self, data: Path | None, out: Path, settings: RunSettings, job: Job
    ) -> tuple[Path | None, str]:
        """Prepare a data set once for several trainings with the same ``data.split.file``.

        Only cases that the file lists are read.

        Args:
            data: the data set; None if none was given.
            out: folder for what is prepared, and for a data set that the task makes up itself.
            settings: settings of the run; ``data.split.listed_only`` is set.
            job: gets the progress.

        Returns:
            The data set that the trainings are given, and the hash of the cases that were listed.

        Raises:
            MedsegError: see :mod:`medseg_nca.errors`.
        """
        return data, ""

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

    def fit_trust(self, request: TrustRequest, job: Job) -> Description:
        """Let a model learn from labelled cases to estimate its own answers.

        A task need not implement it.

        Returns:
            The model's description with what it then carries; no file is written.

        Raises:
            ConfigError: if the models of the task do not estimate their answers.
            DataError: if there are too few cases.
            Interrupted: if the job was cancelled.
        """
        raise ConfigError(
            f"Models of the task {self.name} do not estimate their answers.",
            hint="Those of segmentation do; another task would implement Task.fit_trust.",
        )

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

    def stages(self, request: StageRequest) -> Sequence[StageInput]:
        """Return the automaton at work on each input, for films and the live page.

        A task implements it if its models can be watched.

        Raises:
            ConfigError: if the task has nothing to watch, or the model is no automaton.
            DataError: if an input does not exist, or one is needed and none is given.
        """
        raise ConfigError(
            f"The task {self.name} does not show its automata at work.",
            hint="A task does so by Task.stages; docs/seeing.md says how.",
        )


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
