"""The task generation, as the commands use it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from medseg_nca.config import Settings
from medseg_nca.errors import DataError
from medseg_nca.job import Job
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
from medseg_nca.tasks.generation.options import WOUNDS, GenerationOptions

if TYPE_CHECKING:
    from medseg_nca.dynamics.subject import Subject, SubjectRequest
    from medseg_nca.inference.task_model import TaskSpec
    from medseg_nca.stages.stage import StageInput, StageRequest
    from medseg_nca.tasks.generation.automaton import GrowingNca
    from medseg_nca.tasks.generation.prediction import Grown


class Generation(StandardTask):
    """The task whose models grow pictures and volumes from a seed, keep them and mend them."""

    name = "generation"
    score = "PSNR"
    data_use = "none"
    options_class: ClassVar[type[Settings]] = GenerationOptions
    unused_training: ClassVar[frozenset[str]] = frozenset({"foreground", "loss", "validate_steps"})
    defaults: ClassVar[Mapping[str, Any]] = {
        "training.iterations": 2000,
        "training.batch_size": 6,
        "training.optimiser": "muon",
        "training.lr": 3e-3,
        "training.warmup": 30,
        "training.validate_every": 0.1,
        "training.checkpoint_every": 0.1,
    }
    predict_options = frozenset({"seed"})
    folds = False

    def begin(self, start: Start, job: Job) -> Training:
        """Implement :meth:`Task.begin`."""
        from medseg_nca.tasks.generation.begin import begin

        return begin(self, start)

    def build(self, spec: TaskSpec) -> GrowingNca:
        """Implement :meth:`StandardTask.build`."""
        from medseg_nca.tasks.generation.automaton import build

        return build(spec)

    def predict(self, request: PredictRequest, job: Job) -> Sequence[Grown]:
        """Implement :meth:`Task.predict`: grows from the seed, or from each input."""
        from medseg_nca.tasks.generation.prediction import run

        self.check_options(request.options, self.predict_options)
        return run(request, self.own(request.model), job)

    def evaluate(self, request: EvaluateRequest, job: Job) -> Evaluation:
        """Implement :meth:`Task.evaluate`: needs no data."""
        from medseg_nca.tasks.generation.evaluation import run

        self.check_options(request.options, self.evaluate_options)
        if request.data is not None:
            raise DataError(
                f"{request.data}: the task {self.name} is measured without a data set.",
                hint="Leave --data out.",
            )
        return run(request, self.own(request.model), job)

    def stages(self, request: StageRequest) -> Sequence[StageInput]:
        """Implement :meth:`Task.stages`."""
        from medseg_nca.tasks.generation.stage import stages

        return stages(self.own(request.model), request)

    def subject(self, request: SubjectRequest) -> Subject:
        """Implement :meth:`Task.subject`."""
        from medseg_nca.tasks.generation.probed import GrowthSubject

        self.check_data(request.data)
        return GrowthSubject(self.own(request.model), request)

    def table(self, tree: Tree) -> ResultTable:
        """Implement :meth:`Task.table`: a row for each length of growth, and for each wound."""
        rows = [
            (f"after {time} the trained steps", _tiny(tree["loss"][time]),
             _number(tree["psnr"][time]), "")
            for time in tree["times"]
        ]  # fmt: skip
        rows += [
            (f"after damage: {name}", _tiny(entry["loss_after"]), _number(entry["psnr_after"]),
             "not" if entry["steps_to_heal"] is None else f"{entry['steps_to_heal']:.0f} steps")
            for name, entry in tree["damage"].items()
        ]  # fmt: skip
        score = tree["score"]
        summary = (
            f"{score['name']}: {_number(score['value'])}, the mean of {len(tree['cases'])} growths."
        )
        columns = ("", "loss", "PSNR (dB)", "mended after")
        return ResultTable(tree["model"]["name"], columns, tuple(rows), summary)

    def published(self, tree: Tree) -> Mapping[str, float | None]:
        """Implement :meth:`Task.published`."""
        numbers = {f"loss_{time}": value for time, value in tree["loss"].items()}
        numbers |= {f"psnr_{time}": value for time, value in tree["psnr"].items()}
        for name, entry in tree["damage"].items():
            numbers[f"{name}_psnr_after"] = entry["psnr_after"]
            numbers[f"{name}_steps_to_heal"] = entry["steps_to_heal"]
        return numbers

    def comparable(self, tree: Tree) -> Mapping[str, Better]:
        """Implement :meth:`Task.comparable`."""
        times = list(tree["times"])
        middle = times.pop(len(times) // 2)
        found: dict[str, Better] = {}
        for time in (middle, *times):
            found[f"psnr_{time}"] = "higher"
        for time in tree["times"]:
            found[f"loss_{time}"] = "lower"
        for name in WOUNDS:
            found[f"{name}_psnr_after"] = "higher"
            found[f"{name}_loss_after"] = "lower"
            found[f"{name}_steps_to_heal"] = "lower"
        return found

    def case_values(self, tree: Tree, metric: str) -> Mapping[str, Mapping[str, float | None]]:
        """Implement :meth:`Task.case_values`: a row for each target."""
        from medseg_nca.tasks.generation.evaluation import case_value

        rows: dict[str, dict[str, float | None]] = {}
        for case in tree["cases"]:
            rows.setdefault(case["target"], {})[case["id"]] = case_value(case, metric)
        return rows

    def make_reference(self, model: TrainedModel) -> dict[str, str]:
        """Implement :meth:`Task.make_reference`: each target's picture after the trained steps."""
        from medseg_nca.tasks.generation.arrays import FORMULA, reference_answer
        from medseg_nca.tracking.stored_answer import store_answer

        return store_answer(reference_answer(self.own(model)), FORMULA)

    def check_reference(self, model: TrainedModel) -> Agreement:
        """Implement :meth:`Task.check_reference`."""
        from medseg_nca.tasks.generation.arrays import FORMULA, reference_answer
        from medseg_nca.tracking.stored_answer import compare_answer

        return compare_answer(reference_answer(self.own(model)), FORMULA, model)

    def tags(self, model: TrainedModel) -> Mapping[str, str]:
        """Implement :meth:`Task.tags`."""
        from medseg_nca.tasks.generation.growth import facts_of

        facts = facts_of(self.own(model))
        return {
            "dims": str(len(facts.grid)),
            "grid": " x ".join(map(str, facts.grid)),
            "targets": ", ".join(facts.targets),
        }

    def answer(self, model: TrainedModel, value: Any) -> Any:
        """Implement :meth:`Task.answer` and :func:`medseg_nca.tasks.generation.arrays.grown`."""
        from medseg_nca.tasks.generation.arrays import grown

        return grown(self.own(model), value)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _tiny(value: float | None) -> str:
    return "–" if value is None else f"{value:.2e}"
