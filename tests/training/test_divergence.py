"""When the training loop goes back to an earlier state, and when it learns on."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric

from medseg_nca.config.training import GuardSettings
from medseg_nca.errors import DivergenceError
from medseg_nca.job import Job, Progress
from medseg_nca.training.history import read_history
from medseg_nca.training.loop import Trainer
from tests.training.growing import Growing, settings_of, trainer_of, weights

# One bad batch is enough to go back.
STRICT = GuardSettings(patience=1)


def test_a_diverged_loss_goes_back_and_on_with_a_lower_rate(tmp_path: Path) -> None:
    class Once(Growing):
        """Poisoned the first time only."""

        def loss(self, model: Any, batch: Any, seed: int) -> Any:
            if self.poisoned:
                self.poison = None
            return super().loss(model, batch, seed)

    trainer = trainer_of(tmp_path, Once(poison=2 * 25 + 1), guard=STRICT)
    result = trainer.fit()
    assert result.rollbacks == 1
    assert result.iterations == 40
    assert trainer.history.rows[-2]["lr"] <= 0.005


def test_one_batch_without_a_finite_loss_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "medseg_nca")
    task = Growing(poison=2 * 25 + 1)
    trainer = trainer_of(tmp_path, task, log_every=1)
    result = trainer.fit()
    assert (result.rollbacks, result.iterations, task.poisoned) == (0, 40, 1)
    assert any(text.startswith("A hard batch at iteration 25") for text in caplog.messages)
    rows = {row["iteration"]: row for row in read_history(tmp_path / "history.csv")}
    assert set(rows) == set(range(1, 41))
    assert torch.isfinite(weights(trainer)).all()


def test_no_checkpoint_is_kept_of_hard_batches(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Lost(Growing):
        """The fourth to the sixth batch are lost the first time."""

        def loss(self, model: Any, batch: Any, seed: int) -> Any:
            loss, parts = super().loss(model, batch, seed)
            lost = self.poisoned < 3 and int(batch["index"].min()) >= 2 * 3
            self.poisoned += lost
            return (loss * math.nan if lost else loss), parts

    guard = GuardSettings(patience=3)
    result = trainer_of(tmp_path, Lost(), iterations=8, checkpoint_every=1, guard=guard).fit()
    assert (result.rollbacks, result.iterations) == (1, 8)
    assert any("Back to iteration 3 " in text for text in caplog.messages)


def test_a_short_training_without_any_finite_loss_is_an_error(tmp_path: Path) -> None:
    class Lost(Growing):
        def loss(self, *what: Any) -> Any:
            loss, parts = super().loss(*what)
            return loss * math.nan, parts

    with pytest.raises(DivergenceError, match="no batch had a finite loss"):
        trainer_of(tmp_path, Lost(), iterations=8).fit()


def test_one_batch_with_a_high_loss_is_learned_from(tmp_path: Path) -> None:
    """It would come again after a roll-back: the order of the samples follows from the seed."""

    class Hard(Growing):
        def loss(self, model: Any, batch: Any, seed: int) -> Any:
            loss, parts = super().loss(model, batch, seed)
            hard = int(batch["index"].max()) == 2 * 60 + 1
            return (loss * 100 if hard else loss), parts

    hard = trainer_of(tmp_path / "hard", Hard(), iterations=62, log_every=1)
    easy = trainer_of(tmp_path / "easy", iterations=62, log_every=1)
    assert hard.fit().rollbacks == easy.fit().rollbacks == 0
    hard_losses, easy_losses = (
        [row["loss"] for row in read_history(tmp_path / name / "history.csv") if "loss" in row]
        for name in ("hard", "easy")
    )
    assert hard_losses[:60] == easy_losses[:60]
    assert hard_losses[60] == pytest.approx(100 * easy_losses[60])
    # The weights after this step are others.
    assert hard_losses[61] != easy_losses[61]


def test_a_loss_that_stays_lost_stops_with_advice(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, Growing(poison=2 * 25 + 1), guard=STRICT)
    with pytest.raises(DivergenceError, match=r"3 roll-backs did not help.*Lower training\.lr"):
        trainer.fit()


def test_going_back_twice_to_the_same_state_tries_the_one_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(DivergenceError):
        trainer_of(tmp_path, Growing(poison=2 * 25 + 1), guard=STRICT).fit()
    backs = [int(text.split("Back to iteration ")[1].split()[0]) for text in caplog.messages]
    assert backs == [20, 10, 20]


def test_progress_never_falls_when_the_training_goes_back(tmp_path: Path) -> None:
    class Once(Growing):
        def loss(self, *what: Any) -> Any:
            if self.poisoned:
                self.poison = None
            return super().loss(*what)

    heard: list[Progress] = []
    fabric, settings = Fabric(accelerator="cpu", devices=1), settings_of(log_every=1, guard=STRICT)
    task = Once(poison=2 * 25 + 1)
    result = Trainer(task, settings, tmp_path, fabric, job=Job(heard.append)).fit()
    iterations = [one.facts["iteration"] for one in heard]
    assert (result.rollbacks, iterations == sorted(iterations)) == (1, False)
    done = [one.done for one in heard]
    assert done == sorted(done)
    assert done[-1] == heard[-1].total == 1000
