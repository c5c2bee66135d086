"""Train one run, or the folds of a cross-validation."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from medseg_nca.config import RunSettings
from medseg_nca.config.model import NcaModelSettings
from medseg_nca.errors import ConfigError, ModelError, NothingLearned, OutputError
from medseg_nca.inference.bundle import pick_device
from medseg_nca.io.atomic import write_json
from medseg_nca.job import Job
from medseg_nca.models.multilevel import level_cell
from medseg_nca.nca.parts import check_parts
from medseg_nca.pipelines import ensemble
from medseg_nca.pipelines.run_folder import (
    CHECKPOINTS,
    ENSEMBLE,
    LOG,
    MODEL,
    RECIPE,
    RESULT,
    SETTINGS,
)
from medseg_nca.pipelines.run_plan import (
    RunPlan,
    read_run_plan,
    stored_settings,
    write_run_plan,
    write_settings,
)
from medseg_nca.pipelines.run_tracking import Tracked, tell, tracking
from medseg_nca.tasks import TASKS, Task
from medseg_nca.tasks.base import Start, Training
from medseg_nca.tracking.run import RunTracker
from medseg_nca.training.checkpoint import BEST, has_checkpoint
from medseg_nca.training.loop import Trainer
from medseg_nca.training.signals import on_stop_signal
from medseg_nca.training.state import TrainingResult
from medseg_nca.training.timing import FEW, time_iterations
from medseg_nca.viz.curves import plot_history

logger = logging.getLogger(__name__)

Show = Callable[[RunPlan], None]


def _show_nothing(plan: RunPlan) -> None:
    """Show nothing, for callers that read the plan in the run folder."""


@dataclass(frozen=True)
class RunResult:
    """The result of a finished run.

    Attributes:
        run: the run folder.
        training: how the training ended.
        parameters: number of learned parameters of the model.
        data: the data set to evaluate on; for a segmentation, the folder of the prepared data
            set. None if the task needs no data.
        held_out: the side of the split to evaluate on: "test", or else "val", or else "train".
        score: name of the validation's score, such as "Dice".
        task: the registered name of the task.
    """

    run: Path
    training: TrainingResult
    parameters: int
    data: Path | None
    held_out: str
    score: str
    task: str

    def to_dict(self) -> dict[str, Any]:
        """Return the plain values that ``--json`` prints, and that ``training.json`` keeps."""
        # An absolute path, because it is also read from other current folders (training_of).
        data = None if self.data is None else str(self.data.resolve())
        about = {"run": str(self.run), "task": self.task, "data": data, "held_out": self.held_out,
                 "score": self.score}  # fmt: skip
        return {**about, "parameters": self.parameters, **_known(asdict(self.training))}


def raise_if_useless(results: Sequence[RunResult]) -> None:
    """Raise an error if a model is no better than a constant answer; all models are saved.

    Raises:
        NothingLearned: if there is such a model among the runs.
    """
    useless = [result for result in results if result.training.learned is False]
    if useless:
        runs = ", ".join(str(result.run) for result in useless)
        raise NothingLearned(
            f"{runs}: the model is no better than a constant answer; the warnings above and in "
            f"{LOG} say by how much.",
            hint="Train longer, or lower training.lr; see whether the data show what is to be "
            "learned. The model is kept, but not for use.",
        )


def _known(tree: dict[str, Any]) -> dict[str, Any]:
    """Replace NaN and infinity, which JSON does not have, by None."""
    return {
        key: _known(value) if isinstance(value, dict)
        else None if isinstance(value, float) and not math.isfinite(value)
        else value
        for key, value in tree.items()
    }  # fmt: skip


def run(
    data: Path | None,
    out: Path,
    settings: RunSettings,
    *,
    resume: bool = False,
    show: Show = _show_nothing,
    job: Job | None = None,
    draw: bool = True,
) -> RunResult:
    """Train a model of any task.

    Args:
        data: the data set; for a segmentation, a folder with raw or prepared data. None if the
            task needs no data.
        out: the run folder, which is created. A folder that holds a run is refused, unless
            ``resume`` is true.
        settings: settings of the run; values of "auto" are decided from the data. A resumed run
            keeps the settings that it was started with.
        resume: whether to go on with the run in ``out``.
        show: called with the plan before the training.
        job: gets the progress, in the phases of the preprocessing (if that is necessary) and in
            the phase "training".
        draw: whether the learner draws its figures at the end.

    Raises:
        Interrupted: if the job was cancelled or a signal came; the state is kept.
        MedsegError: see :mod:`medseg_nca.errors`.
    """
    job = job or Job()
    if resume:
        settings = stored_settings(out, settings)
    task, settings = _checked(data, settings)
    fabric = _fabric(settings)
    # The first process of a distributed run makes the shared files; the others read them.
    follows = resume or not fabric.is_global_zero
    with fabric.rank_zero_first():
        settings = _settings_of(out, settings, follows)
    with _log_file(out / LOG):
        with fabric.rank_zero_first():
            training = _begun(task, data, out, settings, fabric, follows, job)
        settings = training.settings
        plan = RunPlan(settings, training.decisions)
        with tracking(settings, out, training.data_hash, resume) as tracker:
            trainer = Trainer(training.learner, settings, out, fabric, (Tracked(tracker),), job)
            parameters = sum(p.numel() for p in trainer.model.parameters())
            logger.info("%s: %d parameters.", settings.model.name, parameters)
            result = _trained(trainer, training, plan, resume, show)
            if fabric.is_global_zero:
                _finish(trainer, training, out, tracker, draw)
                tell(result, tracker)
    summary = RunResult(
        out, result, parameters, training.data, training.held_out, task.score, task.name
    )
    if fabric.is_global_zero:
        write_json(out / RESULT, summary.to_dict())
    return summary


def _trained(
    trainer: Trainer, training: Training, plan: RunPlan, resume: bool, show: Show
) -> TrainingResult:
    """Train, or go on with a training that has a checkpoint; the plan is shown before."""
    if resume and trainer.has_checkpoint:
        trainer.resume()
    elif trainer.fabric.world_size == 1:
        plan = _timed(plan, trainer, training)
    if trainer.fabric.is_global_zero:
        show(plan)
    with on_stop_signal(trainer.job.cancel):
        return trainer.fit()


def plan_only(data: Path | None, out: Path, settings: RunSettings) -> RunPlan:
    """Prepare and plan a run, without training it.

    The run folder gets the files with which the same call of :func:`run` would begin.

    Raises:
        MedsegError: see :mod:`medseg_nca.errors`.
    """
    task, settings = _checked(data, settings)
    fabric = _fabric(settings)
    settings = _settings_of(out, settings, follows=False)
    with _log_file(out / LOG):
        training = _begun(task, data, out, settings, fabric, False, Job())
        trainer = Trainer(training.learner, training.settings, out, fabric)
        return _timed(RunPlan(training.settings, training.decisions), trainer, training)


def _checked(data: Path | None, settings: RunSettings) -> tuple[Task, RunSettings]:
    """Return the task of a run and its settings, after checking options, model parts and data."""
    task: Task = TASKS.get(settings.task)
    settings = task.checked(settings)
    if isinstance(settings.model, NcaModelSettings):
        for level in settings.model.resolved_levels:
            check_parts(level_cell(settings.model, level), settings.model.dims)
    task.check_data(data)
    task.check_folds(settings)
    return task, settings


def run_folds(
    data: Path | None, out: Path, settings: RunSettings, folds: int, *, resume: bool = False,
    show: Show = _show_nothing, job: Job | None = None,
) -> list[RunResult]:  # fmt: skip
    """Train every fold of a cross-validation, each in ``out/fold_K``.

    Where the task joins models, those of all folds become an ensemble in ``out/ensemble``. The
    other arguments and the errors are those of :func:`run`; each phase of the job counts all folds.
    """
    results, job = [], job or Job()
    for fold in range(folds):
        part = with_fold(settings, folds, fold)
        folder = out / f"fold_{fold}"
        again = resume and (folder / SETTINGS).exists()
        results.append(run(data, folder, part, resume=again, show=show, job=job.part(fold, folds)))
    task: Task = TASKS.get(settings.task)
    if not task.joins:
        logger.info("The task %s joins no models: each fold has its own.", task.name)
    elif os.environ.get("RANK", "0") == "0":
        _join([result.run for result in results], out / ENSEMBLE, settings.name)
    return results


def _join(runs: list[Path], out: Path, name: str) -> None:
    """Join the folds to an ensemble; a failure is only a warning, since the folds are trained."""
    try:
        # The folds were just trained, so an ensemble in the folder is an older one.
        ensemble.run(runs, out, name=name, force=True)
    except (ModelError, OutputError) as error:
        logger.warning("The folds are not joined: %s %s", error.message, error.hint or "")


def with_fold(settings: RunSettings, folds: int, fold: int) -> RunSettings:
    """Return the settings of one fold.

    Raises:
        ConfigError: if there is no such fold.
    """
    if not 0 <= fold < folds:
        raise ConfigError(f"--fold {fold}: there are {folds} folds, 0 to {folds - 1}.")
    split = settings.data.split.changed(folds=folds, fold=fold)
    data = settings.data.changed(split=split)
    return settings.changed(data=data, name=f"{settings.name}_fold{fold}")


def _settings_of(out: Path, settings: RunSettings, follows: bool) -> RunSettings:
    """Start a run folder and return the settings; with ``follows`` read those of its start."""
    path = out / SETTINGS
    if follows:
        return stored_settings(out, settings)
    # A folder without a checkpoint holds no run: its start failed, for example by a wrong --data.
    if path.exists() and has_checkpoint(out / CHECKPOINTS):
        raise OutputError(
            f"{out}: already holds a run.", hint="Use --resume to go on with it, or another --out."
        )
    write_settings(out, settings)
    return settings


def _begun(
    task: Task, data: Path | None, out: Path, settings: RunSettings, fabric: Fabric,
    follows: bool, job: Job,
) -> Training:  # fmt: skip
    """Let the task begin the training; a run that goes on keeps the decisions of its start."""
    plan = None
    if follows:
        # The first process may have decided settings after this one read them.
        settings = stored_settings(out, settings)
        plan = read_run_plan(out, settings)
    start = Start(
        data, out, settings, fabric.device, fabric.is_global_zero, follows,
        plan.decisions if plan else None,
    )  # fmt: skip
    training = task.begin(start, job)
    if plan is None:
        write_run_plan(out, RunPlan(training.settings, training.decisions))
        logger.info("The plan of the run with its reasons is in %s.", out / RECIPE)
    return training


def _timed(plan: RunPlan, trainer: Trainer, training: Training) -> RunPlan:
    """Add to the plan how long the training takes; warn if the time is too short."""
    settings = plan.settings
    if settings.training.iterations <= FEW or training.time_table is None:
        return plan
    timed = time_iterations(trainer.learner, trainer.model, settings, trainer.fabric)
    if timed is None:
        return plan
    table = training.time_table(timed)
    logger.info("%s", table.text)
    if table.warning is None:
        return replace(plan, remarks=(table.text,))
    logger.warning("%s", table.warning)
    trainer.told_short = True
    return replace(plan, remarks=(table.text, table.warning))


def _fabric(settings: RunSettings) -> Fabric:
    """Return Fabric for the device, precision and processes: one, or those of torchrun."""
    device = pick_device(settings.device)
    if settings.training.threads:
        torch.set_num_threads(settings.training.threads)
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    nodes = int(os.environ.get("WORLD_SIZE", "1")) // here
    devices = here if device.index is None else [device.index]
    precision = settings.training.precision
    fabric = Fabric(accelerator=device.type, devices=devices, num_nodes=nodes, precision=precision)
    fabric.launch()
    return fabric


def _finish(
    trainer: Trainer, training: Training, out: Path, tracker: RunTracker, draw: bool
) -> None:
    """Draw the figures, and log all files to the tracking store."""
    figures: list[Path] = []
    if draw:
        folder, best = out / "figures", trainer.counters.best_iteration
        figures = [plot_history(trainer.history.rows, folder / "curves.png", best=best)]
        model, device = trainer.evaluated_model, trainer.fabric.device
        figures += trainer.learner.figures(model, device, folder)
    for path in (
        *figures,
        out / SETTINGS,
        out / RECIPE,
        *training.files,
        out / "history.csv",
        out / MODEL,
        out / "checkpoints" / BEST,
    ):
        tracker.log_artifact(path)


@contextmanager
def _log_file(path: Path) -> Iterator[None]:
    """Write the log of this package into the run folder too, during the block."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    root = logging.getLogger("medseg_nca")
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()
