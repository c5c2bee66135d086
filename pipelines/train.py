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
from medseg_nca.datasets.prepared import PreparedStore, is_prepared
from medseg_nca.datasets.rules import few_cases
from medseg_nca.datasets.splits import Split, make_split, read_split, write_split
from medseg_nca.errors import (
    ConfigError,
    DataError,
    ModelError,
    NothingLearned,
    OutputError,
    PartialFailure,
)
from medseg_nca.inference.bundle import pick_device
from medseg_nca.io.atomic import write_json
from medseg_nca.job import Job
from medseg_nca.pipelines import ensemble, preprocess
from medseg_nca.pipelines.run_folder import (
    CHECKPOINTS,
    ENSEMBLE,
    LOG,
    RECIPE,
    RESULT,
    SETTINGS,
    SPLIT,
)
from medseg_nca.pipelines.run_plan import (
    RunPlan,
    make_run_plan,
    read_run_plan,
    stored_settings,
    write_settings,
)
from medseg_nca.pipelines.run_time import time_table
from medseg_nca.pipelines.run_tracking import Tracked, tell, tracking
from medseg_nca.tasks import TASKS, Task
from medseg_nca.tracking.run import RunTracker
from medseg_nca.training.checkpoint import BEST, has_checkpoint
from medseg_nca.training.loop import Trainer
from medseg_nca.training.signals import on_stop_signal
from medseg_nca.training.state import TrainingResult
from medseg_nca.training.timing import time_iterations
from medseg_nca.viz.curves import plot_history

logger = logging.getLogger(__name__)

# So few iterations are over before they are timed.
FEW = 20
Show = Callable[[RunPlan], None]


def _show_nothing(plan: RunPlan) -> None:
    """For callers who read the plan in the run folder."""


@dataclass(frozen=True)
class RunResult:
    """A finished run.

    Attributes:
        run: its folder.
        training: how its training ended.
        parameters: of the model.
        data: folder of the prepared data set.
        held_out: the side of the split to evaluate on: "test", or "val" or "train" where there
            is nothing better.
    """

    run: Path
    training: TrainingResult
    parameters: int
    data: Path
    held_out: str

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        # Read from other folders too: see training_of().
        data = str(self.data.resolve())
        about = {"run": str(self.run), "data": data, "held_out": self.held_out}
        return {**about, "parameters": self.parameters, **_known(asdict(self.training))}


def raise_if_useless(results: Sequence[RunResult]) -> None:
    """Refuse models that are no better than a constant answer; they are saved all the same.

    Raises:
        NothingLearned: if there is one among the runs.
    """
    useless = [result for result in results if result.training.learned is False]
    if useless:
        runs = ", ".join(str(result.run) for result in useless)
        raise NothingLearned(
            f"{runs}: the model is no better than a constant answer; the warnings above and in "
            f"{LOG} say by how much.",
            hint="Look at the label maps with `medseg-nca data check`, train longer, or lower "
            "training.lr. The model is kept, but not for use.",
        )


def _known(tree: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN and no infinity: what is not known is null."""
    return {
        key: _known(value) if isinstance(value, dict)
        else None if isinstance(value, float) and not math.isfinite(value)
        else value
        for key, value in tree.items()
    }  # fmt: skip


def run(
    data: Path,
    out: Path,
    settings: RunSettings,
    *,
    resume: bool = False,
    show: Show = _show_nothing,
    job: Job | None = None,
) -> RunResult:
    """Train a model on a data set, raw or prepared.

    Args:
        data: the data set's folder.
        out: the run folder; created, and refused if it holds a run and ``resume`` is false.
        settings: of the run, where "auto" is decided from the data; a resumed run takes those
            that it was started with.
        resume: go on with the run in ``out``.
        show: called with the plan before the training.
        job: told how far it is, under the phases of a preprocessing where that is needed, and
            "training".

    Raises:
        Interrupted: if the job was cancelled, or by a signal; the state is kept.
        MedsegError: see :mod:`medseg_nca.errors`.
    """
    job = job or Job()
    if resume:
        settings = stored_settings(out, settings)
    fabric = _fabric(settings)
    # The first process makes what is shared; the others of a distributed run find it made.
    follows = resume or not fabric.is_global_zero
    with fabric.rank_zero_first():
        settings = _settings_of(out, settings, follows)
    with _log_file(out / LOG):
        with fabric.rank_zero_first():
            store, split, plan = _planned(data, out, settings, fabric, follows, job)
        settings = plan.settings
        task: Task = TASKS.get(settings.task)(settings, store, split)
        with tracking(settings, out, store, resume) as tracker:
            trainer = Trainer(task, settings, out, fabric, (Tracked(tracker),), job)
            parameters = sum(p.numel() for p in trainer.model.parameters())
            logger.info("%s: %d parameters.", settings.model.name, parameters)
            if resume and trainer.has_checkpoint:
                trainer.resume()
            elif fabric.world_size == 1:
                plan = _timed(plan, trainer, store, prepared=store.folder == data)
            if fabric.is_global_zero:
                show(plan)
            result = _fit(trainer)
            if fabric.is_global_zero:
                _finish(trainer, task, out, tracker)
                tell(result, tracker)
    held_out = next(side for side in ("test", "val", "train") if split.side(side))
    summary = RunResult(out, result, parameters, store.folder, held_out)
    if fabric.is_global_zero:
        write_json(out / RESULT, summary.to_dict())
    return summary


def plan_only(data: Path, out: Path, settings: RunSettings) -> RunPlan:
    """Prepare and plan a run, and train nothing.

    The run folder gets what the same call of :func:`run` would begin with.

    Raises:
        MedsegError: see :mod:`medseg_nca.errors`.
    """
    fabric = _fabric(settings)
    settings = _settings_of(out, settings, follows=False)
    with _log_file(out / LOG):
        store, split, plan = _planned(data, out, settings, fabric, False, Job())
        task: Task = TASKS.get(settings.task)(plan.settings, store, split)
        trainer = Trainer(task, plan.settings, out, fabric)
        return _timed(plan, trainer, store, prepared=store.folder == data)


def run_folds(
    data: Path, out: Path, settings: RunSettings, folds: int, *, resume: bool = False,
    show: Show = _show_nothing, job: Job | None = None,
) -> list[RunResult]:  # fmt: skip
    """Train every fold of a cross-validation, each in ``out/fold_K``.

    The models of all folds together become one, in ``out/ensemble``. The job is told of the same
    phases as by :func:`run`, each of which counts all folds.
    """
    results, job = [], job or Job()
    for fold in range(folds):
        part = with_fold(settings, folds, fold)
        folder = out / f"fold_{fold}"
        again = resume and (folder / SETTINGS).exists()
        results.append(run(data, folder, part, resume=again, show=show, job=job.part(fold, folds)))
    if os.environ.get("RANK", "0") == "0":
        _join([result.run for result in results], out / ENSEMBLE, settings.name)
    return results


def _join(runs: list[Path], out: Path, name: str) -> None:
    """Hours of training do not end with an error because of what comes after them."""
    try:
        # The folds are there now: an ensemble of theirs is an older one.
        ensemble.run(runs, out, name=name, force=True)
    except (ModelError, OutputError) as error:
        logger.warning("The folds are not joined: %s %s", error.message, error.hint or "")


def with_fold(settings: RunSettings, folds: int, fold: int) -> RunSettings:
    """The settings of one fold.

    Raises:
        ConfigError: if there is no such fold.
    """
    if not 0 <= fold < folds:
        raise ConfigError(f"--fold {fold}: there are {folds} folds, 0 to {folds - 1}.")
    split = settings.data.split.changed(folds=folds, fold=fold)
    data = settings.data.changed(split=split)
    return settings.changed(data=data, name=f"{settings.name}_fold{fold}")


def _settings_of(out: Path, settings: RunSettings, follows: bool) -> RunSettings:
    """Start a run folder; a process that ``follows`` finds it started."""
    path = out / SETTINGS
    if follows:
        return stored_settings(out, settings)
    # A start that failed before the first checkpoint (a typo in --data) is no run yet.
    if path.exists() and has_checkpoint(out / CHECKPOINTS):
        raise OutputError(
            f"{out}: already holds a run.", hint="Use --resume to go on with it, or another --out."
        )
    write_settings(out, settings)
    return settings


def _planned(
    data: Path, out: Path, settings: RunSettings, fabric: Fabric, follows: bool, job: Job
) -> tuple[PreparedStore, Split, RunPlan]:
    """Data, split and plan of a run; one that goes on repeats what it was started with."""
    store = _prepared(data, out, settings, follows, job)
    split = _split_of(out, store, settings, follows)
    if fabric.is_global_zero:
        _warn_of_what_is_missing(store, split)
    if follows:
        # Another process may have decided since these settings were read.
        settings = stored_settings(out, settings)
        plan = read_run_plan(out, settings)
        if plan is not None:
            return store, split, plan
    plan = make_run_plan(out, settings, store, split, fabric.device)
    logger.info("The plan of the run with its reasons is in %s.", out / RECIPE)
    return store, split, plan


def _timed(plan: RunPlan, trainer: Trainer, store: PreparedStore, *, prepared: bool) -> RunPlan:
    """Say how long the training takes, and before it starts, if that is too short."""
    settings = plan.settings
    if settings.training.iterations <= FEW:
        return plan
    timed = time_iterations(trainer.task, trainer.model, settings, trainer.fabric)
    if timed is None:
        return plan
    table = time_table(timed, settings, store.plan, prepared=prepared)
    logger.info("%s", table.text)
    if table.warning is None:
        return replace(plan, remarks=(table.text,))
    logger.warning("%s", table.warning)
    trainer.told_short = True
    return replace(plan, remarks=(table.text, table.warning))


def _prepared(
    data: Path, out: Path, settings: RunSettings, follows: bool, job: Job
) -> PreparedStore:
    if is_prepared(data):
        store = PreparedStore.open(data)
        labels = settings.data.labels
        if labels is not None and labels != store.labels:
            raise ConfigError(
                f"{data}: was prepared for the labels {', '.join(store.labels.names)}, but the "
                f"settings say {', '.join(labels.names)}.",
                hint="Prepare it again with these settings.",
            )
        return store
    folder = out / "prepared"
    logger.info("%s is not prepared yet; preparing it in %s.", data, folder)
    try:
        kept = PreparedStore.open(folder).plan if follows and is_prepared(folder) else None
        wanted = preprocess.PreprocessRequest(data, folder, settings, plan=kept, for_run=True)
        return preprocess.run(wanted, job)
    except PartialFailure as failure:
        logger.warning("%s Training goes on without them.", failure.message)
        return PreparedStore.open(folder)


def _split_of(out: Path, store: PreparedStore, settings: RunSettings, resume: bool) -> Split:
    if resume and (out / SPLIT).exists():
        split = read_split(out / SPLIT)
        if split.dataset_hash and split.dataset_hash != store.dataset_hash:
            raise DataError(
                f"{out / SPLIT}: the data set is not the one that the run was started with.",
                hint="Resume with the same data, or start a new run.",
            )
        return split
    split = make_split(store, settings.data.split)
    write_split(split, out / SPLIT)
    return split


def _warn_of_what_is_missing(store: PreparedStore, split: Split) -> None:
    """Say it where nothing can be validated, or a label has no cases to learn or to validate."""
    fold = "" if split.fold is None else f"Fold {split.fold} of {split.folds}: "
    for problem in (*few_cases(split.train, split.val), *store.thin_labels(split)):
        logger.warning("%s%s %s", fold, problem.message, problem.hint)


def _fabric(settings: RunSettings) -> Fabric:
    """Device, precision and processes: one, or those that torchrun started."""
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


def _fit(trainer: Trainer) -> TrainingResult:
    with on_stop_signal(trainer.job.cancel):
        return trainer.fit()


def _finish(trainer: Trainer, task: Task, out: Path, tracker: RunTracker) -> None:
    """Draw what there is to see, and hand everything to the tracking store."""
    figures = [plot_history(trainer.history.rows, out / "figures" / "curves.png")]
    figures += task.figures(trainer.evaluated_model, trainer.fabric.device, out / "figures")
    for path in (
        *figures,
        out / SETTINGS,
        out / RECIPE,
        out / SPLIT,
        out / "history.csv",
        out / "model",
        out / "checkpoints" / BEST,
    ):
        tracker.log_artifact(path)


@contextmanager
def _log_file(path: Path) -> Iterator[None]:
    """Copy this package's log into the run folder."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    root = logging.getLogger("medseg_nca")
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()
