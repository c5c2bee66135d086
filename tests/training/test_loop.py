"""The training loop on a task that is not segmentation."""

from __future__ import annotations

import csv
import math
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric

from medseg_nca.errors import CheckpointError, Interrupted
from medseg_nca.job import Job, Progress
from medseg_nca.training.history import read_history
from medseg_nca.training.learner import ConstantAnswer, Learner, Validation
from medseg_nca.training.loop import Trainer
from medseg_nca.training.signals import on_stop_signal
from tests.training.growing import Growing, settings_of, trainer_of, weights


def without_seconds(run: Path) -> list[dict[str, str]]:
    """The history as it is written, character for character, but for the time."""
    with (run / "history.csv").open(newline="") as stream:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(stream)]


def test_it_learns(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, iterations=150)
    before = trainer.learner.validate(trainer.model, torch.device("cpu")).score
    result = trainer.fit()
    assert result.reason == "iterations"
    assert result.best_score > before / 3
    assert (result.learned, result.remarks) == (True, ())
    assert result.lowest_loss < 3 / 16
    assert (tmp_path / "model" / "model.pt").exists()
    rows = read_history(tmp_path / "history.csv")
    assert rows[0]["iteration"] == 5
    assert {"loss", "lr", "grad_norm", "val_error"} <= {key for row in rows for key in row}


def test_a_resumed_run_ends_where_an_undisturbed_one_does(tmp_path: Path) -> None:
    straight = trainer_of(tmp_path / "straight")
    straight.fit()

    class KilledError(Exception):
        """Stands for kill -9: nothing is written after it."""

    class Killed(Growing):
        def loss(self, model: Any, batch: Any, seed: int) -> Any:
            if broken.counters.iteration == 27:
                raise KilledError
            return super().loss(model, batch, seed)

    broken = trainer_of(tmp_path / "broken", Killed())
    with pytest.raises(KilledError):
        broken.fit()
    again = trainer_of(tmp_path / "broken")
    again.resume()
    assert again.counters.iteration == 20
    again.fit()
    assert torch.equal(weights(again), weights(straight))
    assert without_seconds(tmp_path / "broken") == without_seconds(tmp_path / "straight")


def test_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    one, two = trainer_of(tmp_path / "1", iterations=10), trainer_of(tmp_path / "2", iterations=10)
    one.fit()
    two.fit()
    assert torch.equal(weights(one), weights(two))


def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path: Path) -> None:
    trainer_of(tmp_path).fit()
    (tmp_path / "checkpoints" / "last.pt").write_bytes(b"PK\x03\x04 not a checkpoint")
    trainer = trainer_of(tmp_path)
    trainer.resume()
    assert trainer.counters.iteration == 30


@pytest.mark.parametrize("damage", ["junk", "flipped bit", "other content"])
def test_damage_of_any_kind_is_noticed(tmp_path: Path, damage: str) -> None:
    trainer_of(tmp_path).fit()
    path = tmp_path / "checkpoints" / "last.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "flipped bit":
        path.write_bytes(content)
    elif damage == "junk":
        path.write_bytes(b"junk")
    else:
        torch.save({"version": 1, "model": {}}, path)
    trainer = trainer_of(tmp_path)
    trainer.resume()
    assert trainer.counters.iteration == 30


def test_without_anything_to_validate_the_last_weights_are_kept(tmp_path: Path) -> None:
    class Unmeasured(Growing):
        def validate(self, *what: Any) -> Validation:
            return Validation(float("nan"), {})

    trainer = trainer_of(tmp_path, Unmeasured(), patience=1)
    result = trainer.fit()
    assert (result.reason, result.best_iteration) == ("iterations", 40)
    saved = torch.load(tmp_path / "model" / "model.pt", weights_only=True)
    last = torch.load(tmp_path / "checkpoints" / "last.pt", weights_only=True)
    assert torch.equal(saved["cell.update.output.weight"],
                       last["ema"]["module.cell.update.output.weight"])  # fmt: skip


def test_resuming_a_finished_run_trains_no_further(tmp_path: Path) -> None:
    trainer_of(tmp_path).fit()
    trainer = trainer_of(tmp_path)
    trainer.resume()
    assert trainer.fit().iterations == 40


def test_no_checkpoint_and_a_foreign_one_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no such checkpoint"):
        trainer_of(tmp_path / "empty").resume()
    trainer_of(tmp_path, iterations=1).fit()
    path = tmp_path / "checkpoints" / "last.pt"
    state = torch.load(path, weights_only=True)
    state["model"] = {"other": torch.zeros(3)}
    torch.save(state, path)
    with pytest.raises(CheckpointError, match="of another model"):
        trainer_of(tmp_path).resume()


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return os.system, ("true",)

    (tmp_path / "checkpoints").mkdir()
    torch.save({"version": 1, "model": Evil()}, tmp_path / "checkpoints" / "last.pt")
    with pytest.raises(CheckpointError, match="damaged or no checkpoint"):
        trainer_of(tmp_path).resume()


def test_a_model_is_there_before_it_is_settled_how_it_is_used(tmp_path: Path) -> None:
    class Settling(Growing):
        steps: tuple[str, ...] = ()

        def save(self, *what: Any) -> None:
            self.steps += ("save",)

        def settle(self, model: torch.nn.Module, device: torch.device, job: Any = None) -> None:
            assert not model.training
            self.steps += ("settle",)

    task = Settling()
    trainer_of(tmp_path, task, iterations=2).fit()
    assert task.steps == ("save", "settle", "save")


def test_a_training_that_is_cancelled_while_it_is_settled_is_finished_by_a_resumed_one(
    tmp_path: Path,
) -> None:
    class Settling(Growing):
        settled = False

        def settle(self, model: torch.nn.Module, device: torch.device, job: Any = None) -> None:
            if not self.settled:
                trainer.job.cancel("Enough.")
            job.check()

    task = Settling()
    trainer = trainer_of(tmp_path, task, iterations=2)
    with pytest.raises(Interrupted, match="Enough"):
        trainer.fit()
    saved = (tmp_path / "model" / "model.pt").read_bytes()
    task.settled = True
    again = trainer_of(tmp_path, task, iterations=2)
    again.resume()
    assert again.fit().iterations == 2
    assert (tmp_path / "model" / "model.pt").read_bytes() == saved


def test_patience_ends_a_training(tmp_path: Path) -> None:
    class Stuck(Growing):
        def validate(self, *what: Any) -> Any:
            return Validation(0.0, {})

    heard: list[Progress] = []
    fabric, job = Fabric(accelerator="cpu", devices=1), Job(heard.append)
    result = Trainer(Stuck(), settings_of(patience=1), tmp_path, fabric, job=job).fit()
    assert (result.reason, result.iterations) == ("patience", 20)
    assert heard[-1].done == heard[-1].total


def test_time_ends_a_training_and_is_validated(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, iterations=100_000, max_minutes=0.02, validate_every=10**6)
    result = trainer.fit()
    assert result.reason == "time"
    assert result.best_iteration == result.iterations
    assert any("before the first validation, which was due at 1000000" in r for r in result.remarks)


def test_a_training_that_learns_nothing_says_so_early_and_at_its_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    result = trainer_of(tmp_path, iterations=510, validate_every=100, lr=1e-12).fit()
    assert result.learned is False
    assert [text.split("constant answer")[1] for text in result.remarks] == [
        ", the same for every input, has 0.1875.", ", the same for every input, has -0.1875.",
    ]  # fmt: skip
    assert sum("After 500 iterations nothing is learned" in text for text in caplog.messages) == 1
    assert (tmp_path / "model" / "model.pt").exists()


def test_a_task_without_a_constant_answer_is_not_judged(tmp_path: Path) -> None:
    class Unknown(Growing):
        def constant_answer(self, batches: Any, device: Any) -> ConstantAnswer:
            return Learner.constant_answer(self, batches, device)

    assert trainer_of(tmp_path, Unknown(), lr=1e-12).fit().learned is None


def test_the_time_begins_after_the_first_iteration(tmp_path: Path) -> None:
    class SlowStart(Growing):
        started = False

        def loss(self, model: Any, batch: Any, seed: int) -> Any:
            if not self.started:
                time.sleep(1.0)
            self.started = True
            return super().loss(model, batch, seed)

    result = trainer_of(tmp_path, SlowStart(), iterations=5, max_minutes=1 / 60).fit()
    assert (result.reason, result.iterations) == ("iterations", 5)
    assert result.seconds < 1


def test_a_run_killed_before_its_first_validation_is_validated_when_its_time_is_up(
    tmp_path: Path,
) -> None:
    trainer = trainer_of(tmp_path, iterations=100_000, validate_every=10**6)
    trainer.job.cancel("The client has left.")
    with pytest.raises(Interrupted, match=r"^The client has left\. Stopped at iteration 1;"):
        trainer.fit()
    again = trainer_of(tmp_path, max_minutes=1e-9, iterations=100_000)
    again.resume()
    again.counters.elapsed = 1.0
    result = again.fit()
    assert (result.reason, result.iterations, result.best_iteration) == ("time", 1, 1)
    assert math.isfinite(result.best_score)


def test_a_signal_stops_between_iterations_and_keeps_the_state(tmp_path: Path) -> None:
    class Signalled(Growing):
        def loss(self, model: Any, batch: Any, seed: int) -> Any:
            if trainer.counters.iteration == 12:
                os.kill(os.getpid(), signal.SIGINT)
            return super().loss(model, batch, seed)

    trainer = trainer_of(tmp_path, Signalled(), iterations=10_000)
    with (
        on_stop_signal(trainer.job.cancel),
        pytest.raises(Interrupted, match=r"iteration 13.*--resume"),
    ):
        trainer.fit()
    again = trainer_of(tmp_path)
    again.resume()
    assert again.counters.iteration == 13


def test_a_training_cancelled_in_a_validation_goes_on_with_it(tmp_path: Path) -> None:
    class Cancelled(Growing):
        def validate(self, model: Any, device: Any, job: Job | None = None) -> Validation:
            assert job is not None
            if trainer.counters.iteration == 20:
                trainer.job.cancel("The client has left.")
            job.check()
            return super().validate(model, device, job)

    trainer_of(tmp_path / "undisturbed").fit()
    trainer = trainer_of(tmp_path / "run", Cancelled())
    with pytest.raises(Interrupted, match=r"The client has left\. Stopped at iteration 20;"):
        trainer.fit()
    again = trainer_of(tmp_path / "run")
    again.resume()
    again.fit()
    assert without_seconds(tmp_path / "run") == without_seconds(tmp_path / "undisturbed")
