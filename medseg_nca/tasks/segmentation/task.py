"""The task segmentation, as the commands use it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from medseg_nca.config import RunSettings, Settings
from medseg_nca.config.engines import AUTO
from medseg_nca.config.labels import MERGED
from medseg_nca.config.prediction_options import FIELDS, prediction_settings
from medseg_nca.errors import ConfigError, DataError
from medseg_nca.job import Job
from medseg_nca.tasks.base import (
    Agreement,
    Better,
    EvaluateRequest,
    Evaluation,
    PredictRequest,
    ResultTable,
    Start,
    Task,
    TrainedModel,
    Training,
    Tree,
    TrustRequest,
)

if TYPE_CHECKING:
    from medseg_nca.cases.predict_case import PredictionRecord
    from medseg_nca.datasets.splits import Split
    from medseg_nca.dynamics.subject import Subject, SubjectRequest
    from medseg_nca.inference.bundle import LoadedModel, ModelSpec
    from medseg_nca.stages.stage import StageInput, StageRequest

SHOWN = ("dice", "hd95", "assd", "nsd")
PUBLISHED = ("dice", "hd95", "nsd")


class NoOptions(Settings):
    """No options: the settings of segmentation have sections of their own."""


class SegmentationTask(Task):
    """The task whose models map images and volumes to label maps."""

    name = "segmentation"
    score = "Dice"
    options_class: ClassVar[type[Settings]] = NoOptions
    parallel = True
    keeps_cases = True
    predict_options = frozenset({*FIELDS, "seg_type", "select"})
    evaluate_options = frozenset({"save_predictions", "trust", "trust_cases"})
    joins = True
    joint_rows = (MERGED,)

    def begin(self, start: Start, job: Job) -> Training:
        """Implement :meth:`Task.begin`; a raw data set is prepared in the run folder."""
        from medseg_nca.tasks.segmentation.begin import begin

        return begin(start, job)

    def divide(self, data: Path | None, out: Path, settings: RunSettings, job: Job) -> Split:
        """Implement :meth:`Task.divide`."""
        from medseg_nca.tasks.segmentation.begin import divide

        return divide(data, settings)

    def gather(
        self, data: Path | None, out: Path, settings: RunSettings, job: Job
    ) -> tuple[Path, str]:
        """Implement :meth:`Task.gather`: a raw data set is prepared in ``out/prepared``."""
        from medseg_nca.tasks.segmentation.begin import gather

        return gather(data, out, settings, job)

    def read(self, folder: Path) -> ModelSpec:
        """Implement :meth:`Task.read`."""
        from medseg_nca.inference.bundle import check_bundle

        return check_bundle(folder)

    def load(self, folder: Path, device: str = "auto", engine: str = AUTO) -> LoadedModel:
        """Implement :meth:`Task.load`."""
        from medseg_nca.inference.bundle import load_bundle

        return load_bundle(folder, device, engine)

    def predict(self, request: PredictRequest, job: Job) -> Sequence[PredictionRecord]:
        """Implement :meth:`Task.predict`: a label map on the grid of each input."""
        from medseg_nca.cases.predict_case import OutputSettings
        from medseg_nca.tasks.segmentation.prediction import PredictSegmentation, run

        self.check_options(request.options, self.predict_options)
        if not request.inputs:
            raise DataError(
                "There is nothing to segment.", hint="Name files or folders after the options."
            )
        model, options = loaded(request.model), request.options
        seg_type = options.get("seg_type", "binary")
        if seg_type == "fractional":
            options = {**options, "probabilities": True}
        wanted = PredictSegmentation(
            model, request.inputs, request.out,
            prediction_settings(model.spec.prediction, options, request.overrides),
            OutputSettings(request.formats, seg_type), options.get("select"), request.workers,
            request.scheduler, request.fresh,
        )  # fmt: skip
        return run(wanted, job)

    def evaluate(self, request: EvaluateRequest, job: Job) -> Evaluation:
        """Implement :meth:`Task.evaluate`: each case is measured on its own grid."""
        from medseg_nca.tasks.segmentation.evaluation import (
            EvaluateSegmentation,
            resolve_settings,
            run,
        )

        self.check_options(request.options, self.evaluate_options)
        self.check_data(request.data)
        model = loaded(request.model)
        settings = resolve_settings(model, request.overrides)
        assert request.data is not None
        wanted = EvaluateSegmentation(
            model, request.data, request.out, request.split, settings.evaluation,
            settings.prediction, settings.data.format, settings.data.labels,
            bool(request.options.get("save_predictions")), request.workers, request.scheduler,
            request.fresh,
        )  # fmt: skip
        done = run(wanted, job)
        if not request.options.get("trust"):
            return done
        from medseg_nca.tasks.segmentation.trust_study import with_study

        return with_study(done, wanted, request.options.get("trust_cases"), job)

    def fit_trust(self, request: TrustRequest, job: Job) -> ModelSpec:
        """Implement :meth:`Task.fit_trust`."""
        from medseg_nca.tasks.segmentation.trust_fit import fit_request

        return fit_request(loaded(request.model), request, job)

    def subject(self, request: SubjectRequest) -> Subject:
        """Implement :meth:`Task.subject`: labelled cases, with every probe of an automaton."""
        from medseg_nca.tasks.segmentation.probed import SegmentationSubject

        self.check_data(request.data)
        return SegmentationSubject(loaded(request.model), request)

    def stages(self, request: StageRequest) -> Sequence[StageInput]:
        """Implement :meth:`Task.stages`."""
        from medseg_nca.tasks.segmentation.stage import stages

        return stages(request)

    def table(self, tree: Tree) -> ResultTable:
        """Implement :meth:`Task.table`: a row for each label."""
        from medseg_nca.metrics.definitions import METRICS

        parts = {**tree["labels"], MERGED: tree[MERGED]}
        rows = [
            (name, *(_number(part[m]["mean"]) for m in SHOWN), str(part["dice"]["n"]))
            for name, part in parts.items()
        ]
        columns = ("label", *(METRICS[metric].heading() for metric in SHOWN), "n")
        summary = (
            f"Mean Dice {_number(tree['mean_dice'])} over {len(tree['cases'])} cases; "
            f"{tree['seconds']['median']:.2f} s a case."
        )
        title = f"{tree['model']['name']} on {tree['data']['name']}"
        return ResultTable(title, columns, tuple(rows), summary)

    def published(self, tree: Tree) -> Mapping[str, float | None]:
        """Implement :meth:`Task.published`."""
        parts = {**tree["labels"], MERGED: tree[MERGED]}
        numbers = {
            f"{metric}_{name}": part[metric]["mean"]
            for name, part in parts.items()
            for metric in PUBLISHED
        }
        return {"mean_dice": tree["mean_dice"], **numbers}

    def comparable(self, tree: Tree) -> Mapping[str, Better]:
        """Implement :meth:`Task.comparable`."""
        from medseg_nca.metrics.definitions import METRICS

        return {name: metric.better for name, metric in METRICS.items() if metric.better}

    def case_values(self, tree: Tree, metric: str) -> Mapping[str, Mapping[str, float | None]]:
        """Implement :meth:`Task.case_values`: a row for each label, and for all labels as one."""
        cases = {case["id"]: case for case in tree["cases"]}
        rows = {
            name: {i: case["labels"][name].get(metric) for i, case in cases.items()}
            for name in tree["labels"]
        }
        return {**rows, MERGED: {i: case[MERGED].get(metric) for i, case in cases.items()}}

    def heading(self, metric: str) -> str:
        """Implement :meth:`Task.heading`."""
        from medseg_nca.metrics.definitions import METRICS

        return METRICS[metric].heading()

    def make_reference(self, model: TrainedModel) -> dict[str, str]:
        """Implement :meth:`Task.make_reference`."""
        from medseg_nca.tasks.segmentation.reference import make_reference

        return make_reference(loaded(model))

    def check_reference(self, model: TrainedModel) -> Agreement:
        """Implement :meth:`Task.check_reference`."""
        from medseg_nca.tasks.segmentation.reference import check_reference

        return check_reference(loaded(model))

    def tags(self, model: TrainedModel) -> Mapping[str, str]:
        """Implement :meth:`Task.tags`."""
        spec = loaded(model).spec
        return {
            "dims": str(spec.plan.dims),
            "labels": ", ".join(spec.labels.names),
            "members": str(len(spec.members) or ""),
        }

    def answer(self, model: TrainedModel, value: Any) -> Any:
        """Implement :meth:`Task.answer`: map images ``(B, C, *S)`` to label maps ``(B, *S)``."""
        from medseg_nca.tasks.segmentation.arrays import label_maps

        return label_maps(loaded(model), value)


def loaded(model: TrainedModel) -> LoadedModel:
    """Return the model with the type of segmentation models.

    Raises:
        ConfigError: if the model belongs to another task.
    """
    from medseg_nca.inference.bundle import LoadedModel

    if not isinstance(model, LoadedModel):
        raise ConfigError(f"{model.spec.name}: is a model of the task {model.spec.task}.")
    return model


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
