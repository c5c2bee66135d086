"""The training loop, on Lightning Fabric; it uses a learner and knows no task.

Every random choice is a function of the run's seed and the iteration. So a checkpoint is small: the
weights, their average, the optimiser, the guard, a few counters and the learner's own state.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from medseg_nca.config import RunSettings
from medseg_nca.errors import CheckpointError, DivergenceError, Interrupted, NonFiniteStateError
from medseg_nca.job import Job, Meter
from medseg_nca.nca.fire import mix
from medseg_nca.training.batches import batches
from medseg_nca.training.checkpoint import (
    BEST,
    has_checkpoint,
    read_checkpoint,
    read_good,
    read_newest,
    save_checkpoint,
)
from medseg_nca.training.ema import averaged
from medseg_nca.training.guard import DivergedError, DivergenceGuard
from medseg_nca.training.history import History, Observer
from medseg_nca.training.learner import Learner, Validation
from medseg_nca.training.optim import build_optimiser, rate_factor, set_rate
from medseg_nca.training.rhythm import is_due
from medseg_nca.training.state import Counters, TrainingResult
from medseg_nca.training.watch import SETTLED, LearningWatch, too_short

logger = logging.getLogger(__name__)
# The score of a validation that failed.
_DIVERGED = float("-inf")


class Trainer:
    """Trains one model in one run folder.

    Args:
        learner: what is learned.
        settings: settings of the run.
        run: the run folder.
        fabric: device, precision and processes.
        observers: get the numbers of the log during the training.
        job: gets the progress, in the phase "training"; asked after every iteration to go on.
    """

    def __init__(
        self,
        learner: Learner,
        settings: RunSettings,
        run: Path,
        fabric: Fabric,
        observers: tuple[Observer, ...] = (),
        job: Job | None = None,
    ) -> None:
        self.learner = learner
        self.settings, self.training = settings, settings.training
        self.run = run
        self.fabric = fabric
        self.observers = observers
        self.job = job or Job()
        self.meter = Meter(self.job, "training", 1000)
        torch.manual_seed(settings.seed)
        self.model = learner.build_model()
        self.ema = averaged(self.model, self.training.ema) if self.training.ema else None
        if self.ema is not None:
            self.ema.to(fabric.device)
        optimiser = build_optimiser(self.model, self.training)
        self.wrapped, self.optimiser = fabric.setup(self.model, optimiser)
        if hasattr(self.model, "training_outputs"):
            self.wrapped.mark_forward_method("training_outputs")
        self.guard = DivergenceGuard(self.training.guard)
        self.counters = Counters()
        self.history = History(run / "history.csv")
        self.validation: Validation | None = None
        self.gone_back_to: int | None = None
        self.told_short = False  # whether a warning that the time is short was given before
        self.watch = LearningWatch(learner, fabric, self.training)

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.run / "checkpoints"

    @property
    def has_checkpoint(self) -> bool:
        """Whether there is a state to resume from."""
        return has_checkpoint(self.checkpoints)

    @property
    def evaluated_model(self) -> nn.Module:
        """The model that is validated and saved: the average of the weights, if there is one."""
        return self.model if self.ema is None else self.ema.module

    @property
    def progress(self) -> float:
        """Share of the training that is done, 0 to 1: by iterations or by time, if that is more."""
        done = self.counters.iteration / self.training.iterations
        if self.training.max_minutes:
            done = max(done, self.counters.elapsed / (60 * self.training.max_minutes))
        return min(done, 1.0)

    def resume(self) -> None:
        """Go on from the newest checkpoint that can be read.

        Raises:
            CheckpointError: if no checkpoint can be read, or it belongs to another model.
        """
        self._restore(read_newest(self.checkpoints))
        self._open_history()
        logger.info("Resumed at iteration %d.", self.counters.iteration)

    def fit(self) -> TrainingResult:
        """Train until the iterations, the time or the patience are used up.

        Raises:
            DivergenceError: if the loss diverged more often than the guard allows.
            Interrupted: if the job was cancelled; the checkpoint (at the end, the model) is kept.
        """
        if self.counters.iteration == 0:
            self._save()
        while True:
            try:
                reason = self._run()
                break
            except DivergedError as diverged:
                self._roll_back(str(diverged))
        self.guard.check_end()
        self._restore_best()
        if self.fabric.is_global_zero:
            with suppress(Interrupted):  # the training has ended anyway
                self.meter.reach(1000)
            model, folder, job = self.evaluated_model.eval(), self.run / "model", self.job.silent()
            self.learner.keep(model, self.fabric.device, folder, self.validation, job)
        verdict = self.watch.verdict(self.counters)
        remarks = (*too_short(self.counters, self.training, reason), *verdict.reasons)
        for remark in remarks if not self.told_short else verdict.reasons:
            logger.warning("%s", remark)
        counters = self.counters
        return TrainingResult(
            counters.iteration, counters.elapsed, counters.best_score, counters.best_iteration,
            reason, self.guard.rollbacks, counters.lowest_loss, self.watch.constant,
            verdict.learned, remarks,
        )  # fmt: skip

    def _run(self) -> str:
        counters, training = self.counters, self.training
        # A run that was killed before its first validation may be at its end without one.
        missing = counters.iteration and self._ended() and self.validation is None
        if missing or counters.owes_validation:
            self._validate()
            self._save()
        if counters.iteration and (reason := self._ended()):
            return reason
        started: float | None = None
        before = self.progress
        source = batches(
            self.learner,
            first=counters.iteration,
            last=training.iterations,
            batch_size=training.batch_size,
            rank=self.fabric.global_rank,
            world_size=self.fabric.world_size,
            workers=training.workers,
        )
        for batch in source:
            values = self._step(batch)
            if started is None:
                # Starting workers, reading the first batch and setting up the engine do not count.
                started = time.monotonic() - counters.elapsed
            counters.iteration += 1
            self._agree(time.monotonic() - started)
            done = self.progress >= 1
            if counters.iteration % training.log_every == 0 or done:
                self._log(values)
            reached = self.progress
            if is_due(training.validate_every, counters.iteration, before, reached) or done:
                self._validate()
                self._agree(time.monotonic() - started)
            due = is_due(training.checkpoint_every, counters.iteration, before, reached)
            if done or (due and not self.guard.in_a_row):  # else it may be no good state
                self._save()
            # Time that the validation took counts for the next iteration, not for this one.
            before = reached
            if done:
                break
            if self.stop_reason is not None:
                self._interrupt()
            if self._ended():
                self._save()
                break
        return self._ended() or "iterations"

    def _ended(self) -> str | None:
        """Return why the training is over; None if it is not."""
        counters, training = self.counters, self.training
        if counters.iteration >= training.iterations:
            return "iterations"
        if training.patience and counters.without_progress >= training.patience:
            return "patience"
        return "time" if self.progress >= 1 else None

    def _agree(self, elapsed: float) -> None:
        """Take clock and stop request of the first process, so that all processes end together."""
        self.stop_reason = self.job.reason
        if self.fabric.world_size > 1:
            elapsed, self.stop_reason = self.fabric.broadcast((elapsed, self.stop_reason))
        self.counters.elapsed = elapsed

    def _interrupt(self) -> NoReturn:
        self._save()
        raise Interrupted(
            f"{self.stop_reason} Stopped at iteration {self.counters.iteration}; "
            "the state is kept.",
            hint="The same command with --resume goes on from here.",
        )

    def _step(self, batch: dict[str, Any]) -> dict[str, float]:
        """Take one optimiser step, and return the numbers for the log."""
        iteration = self.counters.iteration
        rate = self.training.lr * self.guard.rate_factor
        rate *= rate_factor(self.training, iteration, self.progress)
        set_rate(self.optimiser, rate)
        # After a roll-back the seed differs, so that the masks are not those that diverged.
        seed = mix(self.settings.seed, iteration, self.fabric.global_rank, self.guard.rollbacks)
        # Dropout of a baseline draws from torch's own generator.
        torch.manual_seed(seed)
        self.wrapped.train()
        self.learner.progress = self.progress
        reason = ""
        try:
            loss, parts = self.learner.loss(self.wrapped, self.fabric.to_device(batch), seed)
        except NonFiniteStateError as error:
            # The guard gets NaN as the loss, so that all processes do the same.
            loss, parts, reason = torch.tensor(math.nan), {}, error.message
            loss = loss.to(self.fabric.device)
        value = self._check(loss, reason)
        if not math.isfinite(value):
            return {"lr": rate}
        self.optimiser.zero_grad()
        self.fabric.backward(loss)
        values = {"lr": rate, "loss": value, **{k: float(v) for k, v in parts.items()}}
        if self.training.clip is not None:
            norm = self.fabric.clip_gradients(
                self.wrapped, self.optimiser, max_norm=self.training.clip, error_if_nonfinite=False
            )
            values["grad_norm"] = float(norm) if norm is not None else float("nan")
            # With float16 an overflow is normal, and the gradient scaler skips the step itself.
            if norm is not None and self.training.precision != "16-mixed" and not norm.isfinite():
                raise DivergedError("the gradient is not finite")
        self.optimiser.step()
        if self.ema is not None:
            self.ema.update_parameters(self.model)
        return values

    def _check(self, loss: Tensor, reason: str = "") -> float:
        value = float(loss.detach())
        if self.fabric.world_size > 1:
            mean = self.fabric.all_reduce(loss.detach(), reduce_op="mean")
            value = float(torch.as_tensor(mean))
        if self.guard.unusual(value):
            self.guard.tell(value, self.counters.iteration, reason)
            return value
        self.counters.mean_loss = self.guard.mean
        if self.guard.seen >= SETTLED:
            self.counters.lowest_loss = min(self.counters.lowest_loss, self.guard.mean)
        return value

    def _roll_back(self, why: str) -> None:
        iteration = self.counters.iteration
        if self.guard.exhausted:
            raise DivergenceError(
                f"Training diverged at iteration {iteration} ({why}) and "
                f"{self.guard.rollbacks} roll-backs did not help.",
                hint="Lower training.lr, lower training.clip, or set model.cell.update.norm=rms.",
            )
        rollbacks, before = self.guard.rollbacks + 1, self.counters
        self._restore(read_good(self.checkpoints, self.gone_back_to))
        self.gone_back_to = self.counters.iteration
        self.guard.rollbacks, self.guard.in_a_row = rollbacks, 0
        # The time that was used stays used, and best.pt stays as it is.
        self.counters.elapsed = before.elapsed
        self.counters.best_score = before.best_score
        self.counters.best_iteration = before.best_iteration
        self._open_history()
        logger.warning(
            "Diverged at iteration %d: %s. Back to iteration %d with a learning rate times %g.",
            iteration, why, self.counters.iteration, self.guard.rate_factor,
        )  # fmt: skip

    def _open_history(self) -> None:
        """Drop rows of the history after the current iteration; only the first process writes."""
        if self.fabric.is_global_zero:
            self.history = History(self.run / "history.csv", until=self.counters.iteration)

    def _validate(self) -> None:
        counters, score = self.counters, None
        counters.owes_validation = True
        if self.fabric.is_global_zero:
            score = self._validated()
        score, self.stop_reason = self.fabric.broadcast((score, self.job.reason))
        if score is None:
            self._interrupt()
        if score == _DIVERGED:
            raise DivergedError("the automaton's state is not finite in a validation")
        counters.owes_validation = False
        if self.validation:
            self._log({f"val_{k}": v for k, v in self.validation.metrics.items()})
        if math.isnan(score):
            if counters.best_iteration == 0:
                logger.warning("There is nothing to validate on; the last weights are kept.")
            counters.best_iteration, counters.best_score = counters.iteration, score
            return
        counters.without_progress += 1
        if score > counters.best_score:
            counters.best_score, counters.best_iteration = score, counters.iteration
            counters.without_progress = 0
            self._save(best=True)
        self.watch.warn(counters)

    def _validated(self) -> float | None:
        """Validate and return the score; None if cancelled, which all processes must learn."""
        model, job = self.evaluated_model.eval(), self.job.silent()
        try:
            self.validation = self.learner.validate(model, self.fabric.device, job)
            return self.validation.score
        except NonFiniteStateError as error:
            logger.warning("Validation: %s", error.message)
            return _DIVERGED
        except Interrupted:
            return None

    def _log(self, values: Mapping[str, float]) -> None:
        if not self.fabric.is_global_zero:
            return
        counters = self.counters
        self.history.add(
            {"iteration": counters.iteration, "seconds": round(counters.elapsed, 2), **values}
        )
        for observer in self.observers:
            observer.on_log(counters.iteration, values, self.progress)
        self.meter.facts = {"iteration": counters.iteration, **values}
        with suppress(Interrupted):  # the loop will notice it, and writes a checkpoint first
            self.meter.reach(round(1000 * self.progress))

    def _save(self, *, best: bool = False) -> None:
        if not self.fabric.is_global_zero:
            return
        state: dict[str, Any] = {
            "model": self.model.state_dict(),
            "ema": self.ema.state_dict() if self.ema is not None else None,
            "optimiser": self.optimiser.state_dict(),
            "guard": self.guard.state_dict(),
            "counters": asdict(self.counters),
            "validation": None if self.validation is None else asdict(self.validation),
            "learner": self.learner.state_dict(),
        }
        save_checkpoint(self.checkpoints, state, best=best)

    def _restore(self, state: dict[str, Any]) -> None:
        try:
            self.model.load_state_dict(state["model"])
            if self.ema is not None and state["ema"] is not None:
                self.ema.load_state_dict(state["ema"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.guard.load_state_dict(state["guard"])
            self.learner.load_state_dict(state.get("learner", {}))
            self.counters = Counters(**state["counters"])
            validation = state["validation"]
            self.validation = None if validation is None else Validation(**validation)
        except (RuntimeError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{self.checkpoints}: the checkpoint is of another model or other settings "
                f"({' '.join(str(error).split())[:200]}).",
                hint="Resume with the settings of the run, or start in a new run folder.",
            ) from error

    def _restore_best(self) -> None:
        """Take the weights of the best validation, but keep the counters of the last iteration."""
        if self.counters.best_iteration in (0, self.counters.iteration):
            return
        state = read_checkpoint(self.checkpoints / BEST)
        self.model.load_state_dict(state["model"])
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])
        self.validation = Validation(**state["validation"])
