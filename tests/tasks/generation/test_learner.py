"""What a training learns: the pool, the batches, and going on where it was stopped."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from medseg_nca.errors import ConfigError, Interrupted
from medseg_nca.job import Job
from medseg_nca.tasks.generation.learner import psnr
from medseg_nca.tasks.generation.pool import SamplePool
from tests.tasks.generation.growing import learner_of, model_of, square, trainer_of, write_png


def test_the_pool_begins_with_seeds_and_keeps_what_is_put() -> None:
    pool = SamplePool(torch.arange(2.0).view(2, 1, 1, 1), 5)
    assert [pool.target_of(slot) for slot in range(5)] == [0, 1, 0, 1, 0]
    assert pool.take(range(5)).flatten().tolist() == [0, 1, 0, 1, 0]
    pool.put([1, 4], torch.tensor([7.0, 8.0], requires_grad=True).view(2, 1, 1, 1))
    again = SamplePool(torch.zeros(2, 1, 1, 1), 5)
    again.load_state_dict(pool.state_dict())
    assert again.take(range(5)).flatten().tolist() == [0, 7, 0, 1, 8]
    with pytest.raises(ValueError, match="shape"):
        SamplePool(torch.zeros(2, 1, 1, 1), 6).load_state_dict(pool.state_dict())


def test_a_sample_is_a_function_of_its_index_and_a_batch_has_no_slot_twice(tmp_path: Path) -> None:
    learner = learner_of(tmp_path)
    assert learner.sample(17) == learner.sample(17)
    slots = [learner.sample(index)["slot"] for index in range(60)]
    for first in range(0, 60, 3):
        assert len(set(slots[first : first + 3])) == 3
    assert len(set(slots)) == 6, "every slot of three parts of two is used"


def test_the_worst_begin_again_and_the_best_are_damaged(tmp_path: Path) -> None:
    learner = learner_of(tmp_path)
    model, slots = learner.build_model(), [0, 3, 5]
    states = learner.seeds.repeat(3, 1, 1, 1)
    states[0, :4] = learner.wanted[0] + 9  # the worst
    states[1, :4] = learner.wanted[0]  # perfect
    before = states.clone()
    learner.pool.put(slots, states)
    # An untrained rule changes nothing, so what goes back to the pool is what the loss began with.
    learner.loss(model, {"slot": torch.tensor(slots), "wound": torch.tensor([1, 2, 3])}, 5)
    after = learner.pool.take(slots)
    assert torch.equal(after[0], learner.seeds[0])
    assert torch.equal(after[2], before[2])
    gone = (after[1] == 0) & (before[1] != 0)
    assert gone.any()
    assert torch.equal(after[1][~gone], before[1][~gone])


def test_a_loss_is_that_of_what_is_seen_and_puts_the_states_back(tmp_path: Path) -> None:
    learner = learner_of(tmp_path)
    model = learner.build_model()
    batch = learner.collate([learner.sample(index) for index in range(3)])
    loss, parts = learner.loss(model, batch, 5)
    # An untrained rule changes nothing: seeds stay seeds, whose colours are zero.
    seen = learner.seeds[0, :4]
    expected = float((seen - learner.wanted[0]).square().mean())
    assert float(loss.detach()) == pytest.approx(expected, rel=0.2)  # a seed may be cut off
    assert float(parts["loss_image"]) == float(loss.detach())
    torch.nn.init.normal_(model.cell.update.output.weight, std=0.1)
    learner.loss(model, batch, 6)[0].backward()  # type: ignore[no-untyped-call]
    slots = batch["slot"].tolist()
    others = [slot for slot in range(learner.pool.size) if slot not in slots]
    assert torch.equal(learner.pool.take(others), learner.seeds.repeat(len(others), 1, 1, 1))
    assert not torch.equal(learner.pool.take(slots), learner.seeds.repeat(3, 1, 1, 1))


@pytest.mark.parametrize("normalised", [True, False])
def test_each_gradient_has_length_one_where_that_is_asked_for(
    tmp_path: Path, normalised: bool
) -> None:
    learner = learner_of(tmp_path, f"options.normalise_gradients={str(normalised).lower()}")
    model = learner.build_model()
    torch.nn.init.normal_(model.cell.update.output.weight, std=0.1)
    batch = learner.collate([learner.sample(index) for index in range(3)])
    learner.loss(model, batch, 5)[0].backward()  # type: ignore[no-untyped-call]
    norms = [float(p.grad.norm()) for p in model.parameters()]  # type: ignore[union-attr]
    assert all(norm == pytest.approx(1, abs=1e-4) for norm in norms) == normalised


def test_a_stopped_training_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    whole = trainer_of(tmp_path / "whole")
    whole.fit()
    job = Job()

    class StopAtThree:
        def on_log(self, iteration: int, values: object, progress: float) -> None:
            if iteration == 3:
                job.cancel()

    stopped = trainer_of(tmp_path / "parts", job=job, observers=(StopAtThree(),))
    with pytest.raises(Interrupted):
        stopped.fit()
    assert 3 <= stopped.counters.iteration < 6
    resumed = trainer_of(tmp_path / "parts")
    resumed.resume()
    resumed.fit()
    assert torch.equal(resumed.learner.pool.states, whole.learner.pool.states)  # type: ignore[attr-defined]
    for name, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name
    losses = [[row["loss"] for row in t.history.rows if "loss" in row] for t in (whole, resumed)]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 6


def test_a_training_learns_something(tmp_path: Path) -> None:
    trainer = trainer_of(
        tmp_path, "training.iterations=40", "training.lr=0.01", "training.validate_every=40",
        "model.cell.update.hidden=16", "options.damaged=0",
    )  # fmt: skip
    trainer.fit()
    losses = [float(row["loss"]) for row in trainer.history.rows if row.get("loss")]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
    assert trainer.validation is not None
    assert {"psnr", "psnr_grown", "psnr_kept", "psnr_mended"} == set(trainer.validation.metrics)


@pytest.mark.parametrize("genome", ["channels", "seed"])
def test_several_targets_have_a_genome_each(tmp_path: Path, genome: str) -> None:
    """With one that mixes both, something else grows than with either."""
    paths = [str(write_png(tmp_path / f"{n}.png", square(8, (n * 80, 9, 9)))) for n in (1, 2)]
    overrides = (f"options.targets=[{','.join(paths)}]", f"options.genome={genome}")
    model = model_of(tmp_path, *overrides)
    module = model.module
    seeds = [module.seed_state(module.genome(n)) for n in (0, 1)]  # type: ignore[operator]
    first = 2 if genome == "channels" else 0
    middle = [seed[0, :, 5, 5] for seed in seeds]
    place = 0 if genome == "channels" else 4
    assert [m[place : place + 2].tolist() for m in middle] == [[1, 0], [0, 1]]
    assert seeds[0][0, first + 3].sum() == 1
    if genome == "channels":
        assert (seeds[1][0, 1] == 1).all()
    learner = learner_of(tmp_path / "run", *overrides)
    batch = learner.collate([learner.sample(index) for index in range(3)])
    learner.loss(learner.build_model(), batch, 0)[0].backward()  # type: ignore[no-untyped-call]
    validation = learner.validate(learner.build_model().eval(), torch.device("cpu"))
    assert set(validation.cases) == {"1", "2"}


@pytest.mark.parametrize(
    ("override", "word"),
    [
        ("model.head=linear", "head: linear"),
        ("model.dims=3", "model.dims is 3"),
        ("model.cell.channels=3", r"alive\.channel must be 0 to 2"),
        ("model.cell.alive.channel=2", "alpha is channel 3"),
        ("model.levels=[{scale: 2, steps: 3}]", r"levels\.0\.scale"),
        ("model.levels=[{steps: 3}, {steps: 3}]", "more than one"),
        ("training.batch_size=1", "batch_size is 1"),
        ("options.pool=2", "options.pool is 2"),
        ("options.damagd=2", "damaged"),
    ],
)
def test_settings_that_do_not_fit_are_refused_by_name(
    tmp_path: Path, override: str, word: str
) -> None:
    with pytest.raises(ConfigError, match=word):
        learner_of(tmp_path, override)


def test_one_process_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="one process"):
        learner_of(tmp_path)


def test_psnr_is_twenty_decibels_for_an_error_of_a_hundredth() -> None:
    assert psnr(0.01) == pytest.approx(20)
