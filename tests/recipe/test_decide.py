"""The recipe decides what is "auto", keeps what is set, and bounds the model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from medseg_nca.config.auto import LEFT_TO_PLAN, LEFT_TO_RECIPE, value_at
from medseg_nca.config.loading import load_settings
from medseg_nca.config.model import NcaModelSettings
from medseg_nca.datasets.prepared import PreparedCase, PreparedStore
from medseg_nca.models.describe import describe
from medseg_nca.recipe import SET, Machine, decide, numbers
from medseg_nca.recipe.schedule import checkpoint_every, validations
from tests.recipe.stores import case, split_of, store

CPU = Machine(cores=2, device="cpu")


def scattered(count: int, shape: tuple[int, ...], suffix: str = ".nii.gz") -> list[PreparedCase]:
    """Cases whose only label lies anywhere."""
    rng = np.random.default_rng(0)
    places = [{"a": tuple(rng.uniform(0.2, 0.8, len(shape)).tolist())} for _ in range(count)]
    return [case(f"c{n:02}", place, shape, suffix) for n, place in enumerate(places)]


def decided(prepared: PreparedStore, *overrides: str, machine: Machine = CPU) -> dict[str, Any]:
    """Value and reason by key."""
    split = split_of(prepared.cases, val=min(len(prepared.cases) // 4, 3))
    _, rows = decide(load_settings(None, overrides), prepared, split, machine)
    return {row.key: (row.value, row.reason) for row in rows}


def test_everything_is_decided_with_a_reason() -> None:
    prepared = store(scattered(12, (24, 24, 24)), ["a"])
    settings, rows = decide(load_settings(None), prepared, split_of(prepared.cases, 2), CPU)
    assert settings.undecided == ()
    assert [row.key for row in rows] == [*LEFT_TO_PLAN, *LEFT_TO_RECIPE]
    assert all(row.reason and row.reason != SET for row in rows)
    tree = settings.model_dump(mode="json")
    assert all(row.value == value_at(tree, row.key) != "auto" for row in rows)
    # And again, now that nothing is open: the same settings, all set.
    same, again = decide(settings, prepared, split_of(prepared.cases, 2), CPU)
    assert same == settings
    assert {row.reason for row in again} == {SET}


def test_what_is_set_stays() -> None:
    found = decided(
        store(scattered(12, (24, 24, 24)), ["a"]),
        "training.batch_size=5", "augment.flip_axes=[1]", "model.cell.channels=20",
        "model.levels=[{scale: 1, steps: 3}]", "training.warmup=7", "training.workers=0",
    )  # fmt: skip
    for key, value in (
        ("training.batch_size", 5), ("augment.flip_axes", [1]), ("model.cell.channels", 20),
        ("training.warmup", 7), ("training.workers", 0),
    ):  # fmt: skip
        assert found[key] == (value, SET)
    assert found["model.levels"][1] == SET
    assert len(found["model.levels"][0]) == 1


@pytest.mark.parametrize(
    ("images", "labels", "channels"),
    [(1, 2, 16), (4, 3, 16), (5, 1, 17), (12, 1, 24), (1, 30, 31), (3, 100, 35), (40, 1, 52)],
)
def test_cells_have_room_beside_many_image_channels_and_labels(
    images: int, labels: int, channels: int
) -> None:
    names = [f"l{n}" for n in range(labels)]
    prepared = store(
        [case("c", {}, (24, 24, 24))], names, channels=tuple(f"ch{n}" for n in range(images))
    )
    assert decided(prepared)["model.cell.channels"][0] == channels


@pytest.mark.parametrize(("images", "labels"), [(1, 1), (12, 30), (1, 200), (60, 30), (100, 1)])
def test_the_model_stays_small_whatever_the_data(images: int, labels: int) -> None:
    prepared = store(
        [case("c", {}, (192, 192, 192))],
        [f"l{n}" for n in range(labels)],
        channels=tuple(f"ch{n}" for n in range(images)),
        scales=tuple((s,) * 3 for s in (16, 8, 4, 2, 1)),
    )
    settings, _ = decide(load_settings(None), prepared, split_of(prepared.cases), CPU)
    assert isinstance(settings.model, NcaModelSettings)
    sizes = {"in_channels": images, "out_channels": labels + 1}
    parameters = describe(settings.model.model_copy(update=sizes)).parameters
    assert parameters <= numbers.MOST_PARAMETERS
    assert settings.model.cell.channels >= images + numbers.LEAST_HIDDEN_CHANNELS


def test_pictures_are_flipped_and_turned_only_without_orientation_and_square() -> None:
    square, oblong = (32, 32), (48, 32)
    turned = decided(store(scattered(20, square, ".png"), ["a"]))
    assert turned["augment.flip_axes"][0] == [0, 1]
    assert turned["augment.rotate90"][0] is True
    assert decided(store(scattered(20, oblong, ".png"), ["a"]))["augment.rotate90"][0] is False
    slices = decided(store(scattered(20, square), ["a"]))
    assert slices["augment.rotate90"] == (False, "images with an anatomical orientation")
    assert decided(store(scattered(20, (8, 8, 8)), ["a"]))["augment.rotate90"][0] is False


def test_a_limit_of_time_makes_shares_and_none_makes_iterations() -> None:
    prepared = store(scattered(40, (24, 24, 24)), ["a"])
    free = decided(prepared)
    assert free["training.iterations"][0] == numbers.ITERATIONS
    assert free["training.validate_every"][0] == numbers.VALIDATE_EVERY
    assert free["training.warmup"][0] == numbers.WARMUP
    timed = decided(prepared, "training.max_minutes=20")
    assert timed["training.iterations"][0] == numbers.MOST_ITERATIONS
    assert timed["training.validate_every"][0] == 1 / numbers.VALIDATIONS
    assert timed["training.warmup"][0] * 20 == pytest.approx(numbers.WARMUP_MINUTES)
    few = decided(prepared, "training.iterations=40")
    assert few["training.validate_every"][0] == 4
    assert few["training.warmup"][0] == 2


def test_validations_take_their_share_of_the_time_and_no_more() -> None:
    # 10 minutes, of which 15 % are 90 s.
    cheap = validations(10, 100_000, cases=20, seconds=0.1)  # 2 s each time, 20 s in all
    assert (cheap.every, cheap.cases) == (0.1, None)
    some = validations(10, 100_000, cases=200, seconds=0.1)  # 9 s each time: 90 cases
    assert (some.every, some.cases) == (0.1, 90)
    dear = validations(10, 100_000, cases=20, seconds=2)  # 8 cases are 16 s: 5 times, 9 cases
    assert (dear.every, dear.cases) == (0.2, 9)
    hardly = validations(10, 100_000, cases=20, seconds=15)  # twice, 45 s each: 3 cases
    assert (hardly.every, hardly.cases) == (0.5, 3)
    short = validations(1, 100_000, cases=4, seconds=0)  # at least half a minute between two
    assert (short.every, short.cases) == (0.5, None)


def test_a_checkpoint_comes_with_every_validation_and_between() -> None:
    assert checkpoint_every(None, 500)[0] == numbers.CHECKPOINT_EVERY
    share, _ = checkpoint_every(60, 0.1)  # every 6 minutes a validation, every 2 a checkpoint
    assert share == pytest.approx(0.1 / 3)


@pytest.mark.parametrize(
    ("machine", "workers"),
    [(Machine(1, "cpu"), 0), (Machine(2, "cpu"), 1), (Machine(16, "cuda"), 8),
     (Machine(64, "cuda"), 8)],
)  # fmt: skip
def test_workers_follow_the_machine(machine: Machine, workers: int) -> None:
    prepared = store(scattered(8, (8, 8)), ["a"])
    assert decided(prepared, machine=machine)["training.workers"][0] == workers


@pytest.mark.parametrize(
    ("overrides", "optimiser", "rate"),
    [
        ((), "muon", numbers.LR_MUON),
        (("training.optimiser=adamw",), "adamw", numbers.LR_PLANNED),
        (("model=unet",), "adamw", numbers.LR),
        (("model=unet", "training.optimiser=muon"), "muon", numbers.LR_MUON),
        (("training.lr=0.5",), "muon", 0.5),
    ],
)
def test_the_rate_is_that_of_the_optimiser(
    overrides: tuple[str, ...], optimiser: str, rate: float
) -> None:
    found = decided(store(scattered(12, (24, 24, 24)), ["a"]), *overrides)
    assert found["training.optimiser"][0] == optimiser
    assert found["training.lr"][0] == rate


def test_a_network_is_planned_too() -> None:
    found = decided(store(scattered(12, (24, 24, 24)), ["a"]), "model=unet")
    assert "model.levels" not in found
    assert found["training.lr"][0] == numbers.LR
    assert found["augment.flip_axes"][0] == [0, 1, 2]


def test_a_published_model_keeps_the_usual_rate() -> None:
    found = decided(store(scattered(12, (24, 24, 24)), ["a"]), "model=m3d_nca")
    assert found["model.cell.channels"] == (16, SET)
    assert found["training.lr"][0] == numbers.LR


def test_what_was_done_to_the_data_holds() -> None:
    prepared = store(scattered(12, (24, 24, 24)), ["a"])
    same = decided(prepared, "preprocess.spacing=[1,1,1]", "preprocess.crop_size=[24,24,24]")
    assert same["preprocess.spacing"] == ([1.0, 1.0, 1.0], SET)
    assert same["preprocess.crop_size"] == ([24, 24, 24], SET)
    other = decided(prepared, "preprocess.spacing=[2,2,2]", "preprocess.crop=nonzero")
    value, reason = other["preprocess.spacing"]
    assert value == [1.0, 1.0, 1.0]
    assert reason == "the data were prepared so; prepare them anew for [2.0, 2.0, 2.0]"
    assert other["preprocess.crop"][0] == "none"


def test_validations_that_the_user_counts_in_iterations_see_all_cases() -> None:
    prepared = store(scattered(12, (24, 24, 24)), ["a"])
    found = decided(prepared, "training.validate_every=500", "training.max_minutes=30")
    assert found["training.validate_every"] == (500, SET)
    assert found["training.validate_cases"][0] is None
