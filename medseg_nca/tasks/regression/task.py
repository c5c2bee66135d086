"""The task regression, as the commands use it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from torch import nn

from medseg_nca.config import RunSettings
from medseg_nca.config.engines import AUTO
from medseg_nca.config.prediction_options import FIELDS, OF_ESTIMATE
from medseg_nca.datasets.splits import Split
from medseg_nca.errors import ConfigError, ImageError
from medseg_nca.inference.synthetic import FORMULA, synthetic_volume, volumes_of
from medseg_nca.inference.task_model import TaskModel, TaskSpec
from medseg_nca.job import Job
from medseg_nca.metrics.regression import METRICS
from medseg_nca.models import build_model
from medseg_nca.tasks.base import (
    Agreement,
    Better,
    EvaluateRequest,
    Evaluation,
    PredictRequest,
    ResultTable,
    StandardTask,
    Start,
    TrainedModel,
    Training,
    Tree,
)
from medseg_nca.tasks.regression.options import (
    TASK_NAME,
    RegressionOptions,
    facts_of,
)
from medseg_nca.tasks.regression.predictor import RealPredictor
from medseg_nca.tracking.stored_answer import compare_answer, store_answer

if TYPE_CHECKING:
    from medseg_nca.dynamics.subject import Subject, SubjectRequest
    from medseg_nca.stages.stage import StageInput, StageRequest

# The most values of the stored answer, which is then about ten kilobytes large.
_MOST_STORED = 2**13


class Regression(StandardTask):
    """The task whose models map images to real values, such as depth or distance."""

    name: ClassVar[str] = TASK_NAME
    score: ClassVar[str] = "skill"
    data_use: ClassVar[Literal["required", "optional", "none"]] = "optional"
    options_class: ClassVar[type[RegressionOptions]] = RegressionOptions
    unused_training: ClassVar[frozenset[str]] = frozenset({"loss", "validate_steps"})
    parallel: ClassVar[bool] = True
    keeps_cases: ClassVar[bool] = True
    predict_options: ClassVar[frozenset[str]] = frozenset(
        {*FIELDS, "select"} - {"probabilities", "largest"} - OF_ESTIMATE
    )
    defaults: ClassVar[Mapping[str, Any]] = {
        "training.iterations": 2000,
        "training.batch_size": 4,
        "training.optimiser": "muon",
        "training.lr": 8e-3,
        "training.warmup": 50,
        "training.validate_every": 0.1,
        "training.validate_cases": None,
        "training.checkpoint_every": 0.1,
        "training.workers": 0,
        "augment.flip_axes": (),
        "augment.rotate90": False,
    }

    def begin(self, start: Start, job: Job) -> Training:
        """Implement :meth:`Task.begin`."""
        from medseg_nca.datasets.redraw import SPLIT
        from medseg_nca.tasks.regression.begin import FACTS, data_of, learned_data
        from medseg_nca.tasks.regression.learner import RegressionLearner

        settings, decisions = self.decided(start)
        options = self.options(settings)
        start = replace(start, settings=settings)
        data = learned_data(start, options, job)
        learner = RegressionLearner(settings, options, data)
        return Training(
            learner=learner,
            settings=settings,
            decisions=decisions,
            data=data_of(start.data, options, start.out, job),
            data_hash=data.hash,
            held_out=next(side for side in ("test", "val", "train") if data.split.side(side)),
            files=(start.out / SPLIT, start.out / FACTS),
        )

    def divide(self, data: Path | None, out: Path, settings: RunSettings, job: Job) -> Split:
        """Implement :meth:`Task.divide`."""
        from medseg_nca.tasks.regression.begin import divide

        return divide(data, out, settings, self.options(settings), job)

    def gather(
        self, data: Path | None, out: Path, settings: RunSettings, job: Job
    ) -> tuple[Path, str]:
        """Implement :meth:`Task.gather`; each training reads the pairs."""
        from medseg_nca.tasks.regression.begin import gather

        return gather(data, out, settings, self.options(settings), job)

    def build(self, spec: TaskSpec) -> nn.Module:
        """Implement :meth:`StandardTask.build`."""
        return build_model(spec.model)

    def read(self, folder: Path) -> TaskSpec:
        """Implement :meth:`Task.read`; what the model knows of its data is checked too."""
        spec = super().read(folder)
        facts_of(spec, folder)
        return spec

    def load(self, folder: Path, device: str = "auto", engine: str = AUTO) -> TaskModel:
        """Implement :meth:`Task.load`; what the model knows of its data is checked too."""
        model = super().load(folder, device, engine)
        facts_of(model.spec, folder)
        return model

    def predict(self, request: PredictRequest, job: Job) -> Sequence[Any]:
        """Implement :meth:`Task.predict`."""
        from medseg_nca.tasks.regression.predict import predict_files

        self.check_options(request.options, self.predict_options)
        model = self.own(request.model)
        return predict_files(request, model, facts_of(model.spec, model.folder), job)

    def evaluate(self, request: EvaluateRequest, job: Job) -> Evaluation:
        """Implement :meth:`Task.evaluate`."""
        from medseg_nca.tasks.regression.evaluate import evaluate_pairs

        self.check_options(request.options, self.evaluate_options)
        model = self.own(request.model)
        return evaluate_pairs(request, model, facts_of(model.spec, model.folder), job)

    def stages(self, request: StageRequest) -> Sequence[StageInput]:
        """Implement :meth:`Task.stages`."""
        from medseg_nca.tasks.regression.stage import stages

        return stages(self.own(request.model), request)

    def subject(self, request: SubjectRequest) -> Subject:
        """Implement :meth:`Task.subject`."""
        from medseg_nca.tasks.regression.probed import RegressionSubject

        model = self.own(request.model)
        return RegressionSubject(model, facts_of(model.spec, model.folder), request)

    def table(self, tree: Tree) -> ResultTable:
        """Implement :meth:`Task.table`; the constant predictor stands below each target."""
        rows = []
        for name, part in tree["targets"].items():
            cells = [part[metric]["mean"] for metric in METRICS]
            constant = [part["constant"][metric] for metric in METRICS]
            rows.append((name, *map(_shown, cells)))
            rows.append((f"{name}, constant", *map(_shown, constant)))
        units = {f" {part['unit']}".rstrip() for part in tree["targets"].values()}
        titles = [
            metric.title + (units.copy().pop() if metric.unit and len(units) == 1 else "")
            for metric in METRICS.values()
        ]
        ratios = ", ".join(f"{_shown(part['ratio'])} times" for part in tree["targets"].values())
        return ResultTable(
            f"{tree['model']['name']} on {tree['data']['name']} "
            f"({tree['split']['name']}, {tree['split']['cases']} cases)",
            ("target", *titles),
            tuple(rows),
            f"The RMSE of a constant, the mean of the training, is {ratios} that of the model.",
        )

    def published(self, tree: Tree) -> Mapping[str, float | None]:
        """Implement :meth:`Task.published`."""
        numbers: dict[str, float | None] = {}
        for name, part in tree["targets"].items():
            end = "" if len(tree["targets"]) == 1 else f"_{name}"
            numbers |= {f"{metric}{end}": part[metric]["mean"] for metric in METRICS}
            numbers[f"ratio{end}"] = part["ratio"]
        return numbers

    def comparable(self, tree: Tree) -> Mapping[str, Better]:
        """Implement :meth:`Task.comparable`."""
        return {name: metric.better for name, metric in METRICS.items()}

    def heading(self, metric: str) -> str:
        """Implement :meth:`Task.heading`."""
        return METRICS[metric].title

    def case_values(self, tree: Tree, metric: str) -> Mapping[str, Mapping[str, float | None]]:
        """Implement :meth:`Task.case_values`; a row for each target.

        Raises:
            ConfigError: if there is no such metric.
        """
        if metric not in METRICS:
            from medseg_nca.suggest import unknown

            raise ConfigError(unknown("metric", metric, METRICS))
        return {
            name: {case["id"]: case["targets"][name][metric] for case in tree["cases"]}
            for name in tree["targets"]
        }

    def make_reference(self, model: TrainedModel) -> dict[str, str]:
        """Implement :meth:`Task.make_reference`."""
        return store_answer(self._answer_to_formula(model), FORMULA)

    def check_reference(self, model: TrainedModel) -> Agreement:
        """Implement :meth:`Task.check_reference`."""
        return compare_answer(self._answer_to_formula(model), FORMULA, model)

    def _answer_to_formula(self, trained: TrainedModel) -> Any:
        """Return standardised values, which fit into float16 whatever the targets' unit is."""
        from medseg_nca.tasks.regression.values import standardised

        model = self.own(trained)
        facts = facts_of(model.spec, model.folder)
        plain = facts.prediction.changed(uncertainty=0, unlike="warn")
        predictor = RealPredictor(model, facts, plain, keeps_budget=False)
        found = predictor.predict(synthetic_volume(facts.plan)).values.array
        steps = (slice(None), *(slice(None, None, _thinning(found.shape)),) * facts.plan.dims)
        return np.ascontiguousarray(standardised(found, facts)[steps])

    def tags(self, model: TrainedModel) -> Mapping[str, str]:
        """Implement :meth:`Task.tags`."""
        own = self.own(model)
        facts = facts_of(own.spec, own.folder)
        return {
            "targets": ", ".join(facts.names),
            "unit": facts.unit,
            "transform": facts.transform,
            "channels": ", ".join(facts.plan.channels),
        }

    def answer(self, model: TrainedModel, value: Any) -> Any:
        """Implement :meth:`Task.answer`.

        Args:
            model: a model of the task.
            value: images ``(B, C, *S)`` of raw intensities on the model's grid, or a mapping with
                that array as "image" and, for another grid, a 4x4 "affine" (voxel to RAS+ mm).

        Returns:
            The values ``(B, K, *S)`` float32, in the targets' unit.

        Raises:
            ImageError: if the array does not fit the model.
        """
        own = self.own(model)
        facts = facts_of(own.spec, own.folder)
        predictor = RealPredictor(own, facts)
        volumes = volumes_of(value, facts.plan)
        for volume in volumes:
            check_values(volume.array)
        return np.stack([predictor.predict(volume).values.array for volume in volumes])


def check_values(array: Any) -> None:
    """Refuse arrays that are no images.

    Raises:
        ImageError: if a value is not a finite real number.
    """
    if array.dtype.kind not in "biuf" or not np.isfinite(array).all():
        raise ImageError(
            f"The image, of type {array.dtype}, holds values that are no real numbers."
        )


def _thinning(shape: Sequence[int]) -> int:
    """Return n such that every n-th voxel of each axis is stored, so that the answer is small."""
    step = 1
    while np.prod([shape[0], *(-(-n // step) for n in shape[1:])]) > _MOST_STORED:
        step += 1
    return step


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
