"""What every task must say, so that the commands work for it: train, evaluate, predict, register.

A task is a folder, ``medseg_nca/tasks/<name>/``, whose ``__init__`` defines ``TASK``, one object of
a class of its own. The commands, MLflow and the registry know this seam and no task.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from medseg_nca.config import RunSettings, Settings
from medseg_nca.config.loading import validate
from medseg_nca.errors import ConfigError, DataError, PartialFailure
from medseg_nca.inference.trained import Description, TrainedModel
from medseg_nca.job import Job
from medseg_nca.suggest import unknown
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
    "StandardTask",
    "Start",
    "Table",
    "Task",
    "TrainedModel",
    "Training",
    "Tree",
]

Tree = dict[str, Any]
Better = Literal["higher", "lower", "zero"]


@dataclass(frozen=True)
class PredictRequest:
    """What is to be predicted.

    Attributes:
        model: of the task.
        inputs: files and folders; none where the task needs none.
        out: folder of the results, created if need be.
        formats: of the results; none takes the task's usual ones.
        overrides: of the settings that the model carries, as ``--set`` writes them.
        options: other options by name, of which each task knows some.
        workers: processes.
        scheduler: address of a Dask scheduler.
        fresh: predict everything again.
    """

    model: TrainedModel
    inputs: Sequence[Path]
    out: Path
    formats: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    workers: int = 1
    scheduler: str | None = None
    fresh: bool = False


class Predicted(Protocol):
    """What became of one input."""

    @property
    def line(self) -> str:
        """For the terminal: the files that were written and what there is to say."""

    def to_dict(self) -> Tree:
        """For ``--json``."""


@dataclass(frozen=True)
class EvaluateRequest:
    """What is to be evaluated, and on what.

    Attributes:
        model: of the task.
        data: the data set; None where the task needs none.
        out: folder of the results, created if need be.
        split: "test", "val", "train" or "all".
        overrides: of settings, as ``--set`` writes them.
        options: other options by name, of which each task knows some.
        workers: processes.
        scheduler: address of a Dask scheduler.
        fresh: evaluate all cases again.
    """

    model: TrainedModel
    data: Path | None
    out: Path
    split: str = "test"
    overrides: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    workers: int = 1
    scheduler: str | None = None
    fresh: bool = False


@dataclass(frozen=True)
class Evaluation:
    """A finished evaluation.

    Attributes:
        out: folder of the results: ``metrics.json``, ``metrics.csv``, ``report.html``, figures.
        tree: what ``metrics.json`` holds. Of every task: "task", "model" (with "name" and
            "weights_sha256"), "data" (with "name" and "hash"), "split" (with "name"), "cases"
            (each with "id"), "notes", and "score" with "name", "value" and "better".
        failed: what went wrong, by case; the other cases are in the results.
    """

    out: Path
    tree: Tree
    failed: Mapping[str, str] = field(default_factory=dict)

    def raise_for_failures(self) -> None:
        """Make the failures known to a caller that has used the results.

        Raises:
            PartialFailure: if a case failed.
        """
        if self.failed:
            total = len(self.failed) + len(self.tree["cases"])
            raise PartialFailure(
                f"{len(self.failed)} of {total} cases failed; {self.out / 'metrics.json'} says "
                "why.",
                hint="Mend or remove these files (`medseg-nca data check`) and evaluate again.",
                failures=self.failed,
            )


@dataclass(frozen=True)
class Table:
    """Results for the terminal. ``summary`` is a sentence below the rows."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    summary: str = ""


@dataclass(frozen=True)
class Agreement:
    """How a model's answer compares with the stored one. ``detail`` says it in words."""

    identical: bool
    passed: bool
    detail: str


class Task(ABC):
    """One kind of problem.

    Attributes:
        name: the registered name.
        score: how people call the number that decides, such as "Dice".
        data_use: what a training needs: "required", "optional" or "none".
        options_class: the task's own section of the settings, ``options``.
        defaults: what the task takes for settings that are left to the recipe, by their keys.
        predict_options, evaluate_options: names in ``options`` of a request that it understands.
        joint_rows: rows of a comparison that stand for several others, whose mean is then told too.
    """

    name: ClassVar[str]
    score: ClassVar[str]
    data_use: ClassVar[Literal["required", "optional", "none"]] = "required"
    options_class: ClassVar[type[Settings]] = Settings
    defaults: ClassVar[Mapping[str, Any]] = {}
    predict_options: ClassVar[frozenset[str]] = frozenset()
    evaluate_options: ClassVar[frozenset[str]] = frozenset()
    joint_rows: ClassVar[tuple[str, ...]] = ()

    def options(self, settings: RunSettings) -> Any:
        """Return the task's own settings, an object of :attr:`options_class`.

        Raises:
            ConfigError: naming the key of ``options`` that is wrong, and the nearest one.
        """
        return validate(self.options_class, dict(settings.options), source="options")

    def checked(self, settings: RunSettings) -> RunSettings:
        """Return the settings with all defaults of ``options`` spelled out.

        Raises:
            ConfigError: see :meth:`options`.
        """
        return settings.changed(options=self.options(settings).model_dump(mode="json"))

    def decided(self, start: Start) -> tuple[RunSettings, tuple[Decision, ...]]:
        """Take the task's defaults, or those of the fields, for what is left to the recipe."""
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
        """Refuse a training without the data it needs.

        Raises:
            DataError: if data are needed and not given, or given and not needed.
        """
        if data is None and self.data_use == "required":
            raise DataError(f"The task {self.name} needs data.", hint="Name them with --data DIR.")
        if data is not None and self.data_use == "none":
            raise DataError(
                f"{data}: the task {self.name} learns from no data set.", hint="Leave --data out."
            )

    def check_options(self, given: Mapping[str, Any], known: frozenset[str]) -> None:
        """Refuse options that the task does not have.

        Raises:
            ConfigError: naming the first one.
        """
        for name in given:
            if name not in known:
                words = {n.replace("_", "-") for n in known}
                raise ConfigError(
                    f"The task {self.name}: "
                    f"{unknown('option', name.replace('_', '-'), sorted(words))}"
                )

    @abstractmethod
    def begin(self, start: Start, job: Job) -> Training:
        """Prepare the data, split them, decide what is open, and say what is learned.

        Raises:
            MedsegError: see :mod:`medseg_nca.errors`.
        """

    @abstractmethod
    def read(self, folder: Path) -> Description:
        """Read ``model.json`` and see that the weights fit it, without building the model.

        Raises:
            ModelError: if a file is missing, damaged or does not fit the other.
        """

    @abstractmethod
    def load(self, folder: Path, device: str = "auto") -> TrainedModel:
        """Load a model from its two files.

        Raises:
            ModelError: see :meth:`read`, or if the device is not present.
        """

    @abstractmethod
    def predict(self, request: PredictRequest, job: Job) -> Sequence[Predicted]:
        """Write the answer for every input, and ``predictions.json``.

        Raises:
            PartialFailure: after the last input, if some failed; the others are written.
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

    @abstractmethod
    def table(self, tree: Tree) -> Table:
        """Return what of ``metrics.json`` the terminal shows."""

    @abstractmethod
    def published(self, tree: Tree) -> Mapping[str, float | None]:
        """Return what of ``metrics.json`` the tracking store gets, without the side's name."""

    @abstractmethod
    def comparable(self, tree: Tree) -> Mapping[str, Better]:
        """Return the metrics by which two evaluations can be compared case by case.

        The first one is taken if nobody names another.
        """

    @abstractmethod
    def case_values(self, tree: Tree, metric: str) -> Mapping[str, Mapping[str, float | None]]:
        """Return a metric of each case by its id, for each row of a comparison (a label, "all")."""

    def heading(self, metric: str) -> str:
        """Return a metric as people write it, with its unit."""
        return metric.replace("_", " ")

    @abstractmethod
    def make_reference(self, model: TrainedModel) -> dict[str, str]:
        """Return the model's answer to an input made from a formula, to be stored with it."""

    @abstractmethod
    def check_reference(self, model: TrainedModel) -> Agreement:
        """Answer again and compare with what is stored.

        Raises:
            ModelError: if nothing is stored, or what is cannot be read.
        """

    @abstractmethod
    def tags(self, model: TrainedModel) -> Mapping[str, str]:
        """Return what a registered version should say of the model besides its common fields."""

    @abstractmethod
    def answer(self, model: TrainedModel, value: Any) -> Any:
        """Answer arrays: what MLflow's ``pyfunc.load_model(...).predict`` does.

        Args:
            model: of the task.
            value: an array, or a mapping of arrays; the task says which.

        Raises:
            ImageError: if the input does not fit, with what is needed.
        """


class StandardTask(Task):
    """A task whose models are two files as :mod:`medseg_nca.inference.task_model` writes them."""

    @abstractmethod
    def build(self, spec: TaskSpec) -> nn.Module:
        """Return the network that a model's description asks for, untrained.

        It is also called on torch's "meta" device, and may raise any error for strange settings.
        """

    def read(self, folder: Path) -> TaskSpec:
        """See :meth:`Task.read`."""
        from medseg_nca.inference.task_model import check_task_model

        return check_task_model(folder, self.name, self.build)

    def load(self, folder: Path, device: str = "auto") -> TaskModel:
        """See :meth:`Task.load`."""
        from medseg_nca.inference.task_model import load_task_model

        return load_task_model(folder, self.name, self.build, device)

    def own(self, model: TrainedModel) -> TaskModel:
        """Return the model as one of this task.

        Raises:
            ConfigError: if it is of another one.
        """
        from medseg_nca.inference.task_model import TaskModel

        if not isinstance(model, TaskModel) or model.spec.task != self.name:
            raise ConfigError(
                f"{model.spec.name}: is a model of the task {model.spec.task}, not of {self.name}."
            )
        return model
