"""The whole report, of an automaton whose every step is known."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from medseg_nca.cli.main import cli
from medseg_nca.config import PreprocessPlan
from medseg_nca.config.dynamics import DynamicsSettings
from medseg_nca.dynamics import SubjectRequest
from medseg_nca.errors import ConfigError, Interrupted
from medseg_nca.inference.bundle import LoadedModel, ModelSpec, load_bundle, save_bundle
from medseg_nca.job import Job, Progress
from medseg_nca.models import create_model
from medseg_nca.pipelines.dynamics import DynamicsRequest, open_subject, run
from tests.pipelines.evaluate.blocks import bundle, data_set, table

SMALL = DynamicsSettings(
    factors=(1, 2), least_watched=32, holes=(0.5,), noise=(0.02, 5.0), recovery=3, angles=(10,),
    shifts=(1,), spacings=(0.8,),
)  # fmt: skip
ALL = ["steps", "change", "settling", "damage", "rotations", "shifts", "spacing", "seeds"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """Its hidden channel grows by image + 1 in every step; after one step it is the answer."""
    return bundle(tmp_path_factory.mktemp("model") / "model")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data_set(tmp_path_factory.mktemp("data") / "blocks", {"right": 0, "moved": 1})


@pytest.fixture(scope="module")
def out(model: LoadedModel, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out") / "dynamics"
    run(DynamicsRequest(SubjectRequest(model, data, "all"), folder, SMALL))
    return folder


def found(out: Path) -> dict[str, Any]:
    tree: dict[str, Any] = json.loads((out / "dynamics.json").read_text("utf-8"))
    return tree


def rows(out: Path, name: str) -> list[dict[str, str]]:
    with (out / f"{name}.csv").open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_every_probe_that_the_model_can_serve_is_in_the_report(out: Path) -> None:
    tree = found(out)
    assert sorted(tree["probes"]) == sorted(set(ALL) - {"seeds"})
    assert "no fire mask" in tree["left_out"]["seeds"]  # its fire rate is 1
    text = (out / "report.html").read_text("utf-8")
    for probe in tree["probes"].values():
        assert probe["title"] in text
        for figure in probe["figures"]:
            assert (out / figure).read_bytes()[:4] == b"\x89PNG"
    assert text.count("data:image/png") == sum(len(p["figures"]) for p in tree["probes"].values())
    assert "no fire mask" in text


def test_the_automaton_drifts_and_changes_by_the_same_in_every_step(out: Path) -> None:
    probes = found(out)["probes"]
    (level,) = probes["settling"]["found"]["levels"]
    assert level["verdicts"] == {"drift": 2}
    (changes,) = probes["change"]["found"]["levels"]
    sizes = [row["change"] for row in changes["steps"]]
    assert len(sizes) == 8
    assert sizes == pytest.approx([sizes[0]] * 8)


def test_a_hole_costs_the_answer_and_small_noise_does_not(out: Path) -> None:
    damage = found(out)["probes"]["damage"]["found"]["damage"]
    at_once = {name: row["curve"][0]["agreement"] for name, row in damage.items()}
    assert at_once["no damage"] == 1
    assert at_once["noise of 0.02"] > 0.95
    assert at_once["hole of 0.5"] < 0.7
    assert at_once["noise of 5"] < 0.6
    # It has no way back: every cell adds what it adds, whatever its state is.
    assert damage["hole of 0.5"]["resilience"] > 0.3
    assert [row["step"] for row in damage["no damage"]["curve"]] == [0, 1, 2, 3]


def test_an_automaton_that_looks_at_one_cell_only_is_equivariant(out: Path) -> None:
    for name in ("rotations", "shifts"):
        for change, row in found(out)["probes"][name]["found"]["changes"].items():
            # A turn by 10 degrees interpolates the image.
            if change != "turn by 10":
                assert row["agreement"]["mean"] == 1, change
                assert row["limit"]["mean"] == 1, change
    turned = found(out)["probes"]["rotations"]["found"]["changes"]["turn by 10"]
    assert 0.3 < turned["agreement"]["mean"] < 1
    assert {row["change"] for row in rows(out, "shifts")} == {
        "as it is", *(f"shift by 1 along axis {axis}" for axis in range(3))
    }  # fmt: skip


def test_the_plain_score_is_that_of_one_step(out: Path) -> None:
    probes = found(out)["probes"]
    first = probes["steps"]["found"]["mean"]["all"][0]
    assert first["factor"] == 1
    for name in ("rotations", "shifts", "spacing"):
        assert probes[name]["found"]["plain"]["mean"] == pytest.approx(first["mean"])
    assert len(rows(out, "steps")) == 4


def test_the_state_of_the_last_step_is_read_as_the_predictor_answers(
    model: LoadedModel, data: Path
) -> None:
    subject = open_subject(SubjectRequest(model, data, "all"))
    case = subject.open("moved")
    start = case.start(0)
    assert np.array_equal(case.read(start.go(start.steps)), case.answer())
    assert np.array_equal(case.read(start.go(2)), case.answer(factor=2))
    half = start.after(1, start.go(1))
    assert np.array_equal(case.read(half.go(1)), case.answer(factor=2))


def test_a_volume_that_is_too_large_is_looked_at_in_its_middle(
    model: LoadedModel, data: Path
) -> None:
    request = SubjectRequest(model, data, "all", overrides=("prediction.memory_budget_gb=1e-9",))
    part = open_subject(request).open("right").for_states()
    assert part.image is not None
    assert part.image.array.size < 12 * 11 * 9
    assert "the middle" in part.notes[0]
    whole = open_subject(SubjectRequest(model, data, "all")).open("right")
    assert whole.for_states() is whole
    # The part lies where it lay: its first voxel has the place that it had.
    first = [(n - k) // 2 for n, k in zip((12, 11, 9), part.image.shape, strict=True)]
    assert whole.image is not None
    place = whole.image.affine @ [*first, 1]
    assert part.image.affine[:, 3] == pytest.approx(place)


def test_the_same_request_does_nothing_again_and_another_does(
    model: LoadedModel, data: Path, tmp_path: Path
) -> None:
    told: list[Progress] = []
    request = DynamicsRequest(
        SubjectRequest(model, data, "all", cases=1), tmp_path, SMALL, only=["steps"]
    )
    first = run(request, Job(told.append))
    assert told
    told.clear()
    assert run(request, Job(told.append)) == first
    assert not told
    more = run(replace(request, only=["steps", "change"]), Job(told.append))
    assert {progress.phase for progress in told} == {"change"}
    assert sorted(more["probes"]) == ["change", "steps"]
    told.clear()
    run(replace(request, settings=SMALL.changed(factors=(1,))), Job(told.append))
    assert {progress.phase for progress in told} == {"steps"}
    run(replace(request, fresh=True), Job(told.append))
    assert told


def test_what_is_finished_stays_where_it_is_cancelled(
    model: LoadedModel, data: Path, tmp_path: Path
) -> None:
    def stop(progress: Progress) -> None:
        if progress.phase == "change":
            job.cancel()

    job = Job(stop)
    subject = SubjectRequest(model, data, "all", cases=1)
    request = DynamicsRequest(subject, tmp_path, SMALL, only=["steps", "change"])
    with pytest.raises(Interrupted):
        run(request, job)
    assert list(found(tmp_path)["probes"]) == ["steps"]
    assert (tmp_path / "report.html").is_file()
    assert sorted(run(request)["probes"]) == ["change", "steps"]


def test_a_probe_that_the_model_cannot_serve_is_refused_by_name(
    model: LoadedModel, data: Path, tmp_path: Path
) -> None:
    request = DynamicsRequest(SubjectRequest(model, data, "all"), tmp_path, only=["seeds"])
    with pytest.raises(ConfigError, match="--only seeds: every cell updates in every step"):
        run(request)
    assert not list(tmp_path.iterdir())


def test_a_network_has_the_probes_of_images_alone(data: Path, tmp_path: Path) -> None:
    params = {"channels": [4, 8], "strides": [2]}
    network = create_model("unet", dims=3, in_channels=1, out_channels=3, params=params)
    plan = PreprocessPlan(dims=3, channels=("MRI",), crop_size=(8, 8, 8), normalise="none")
    labels = table({"front": 1, "back": 2})
    spec = ModelSpec(name="net", model=network.settings, labels=labels, plan=plan)
    save_bundle(tmp_path / "model", network, spec)
    subject = SubjectRequest(load_bundle(tmp_path / "model", "cpu"), data, "all", cases=1)
    tree = run(DynamicsRequest(subject, tmp_path / "out", SMALL))
    assert sorted(tree["probes"]) == ["rotations", "shifts", "spacing"]
    assert sorted(tree["left_out"]) == ["change", "damage", "seeds", "settling", "steps"]
    with pytest.raises(ConfigError, match="--only steps: unet is no automaton"):
        run(DynamicsRequest(subject, tmp_path / "other", SMALL, only=["steps"]))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--only", "stepss"), "did you mean 'steps'"),
        (("--steps", "1,0"), "numbers above 0"),
        (("--steps", "1,two"), "no list of numbers"),
        (("--set", "dynamics.recover=3"), "recovery"),
        (("--set", "dynamics.still=2"), "still"),
    ],
)
def test_wrong_words_are_refused_before_the_model_is_read(
    words: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = CliRunner().invoke(
        cli,
        ["dynamics", "--model", str(tmp_path), "--data", str(tmp_path), "--out", str(out), *words],
    )
    assert done.exit_code == 2
    assert said in done.output
    assert not out.exists()


def test_the_command_tells_what_it_found(model: LoadedModel, data: Path, tmp_path: Path) -> None:
    words = ["dynamics", "--model", str(model.folder), "--data", str(data), "--split", "all",
             "--cases", "1", "--steps", "1,2", "--only", "steps,shifts", "--set",
             "dynamics.shifts=[1]", "--out", str(tmp_path), "--device", "cpu"]  # fmt: skip
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 0, done.output
    assert "best at 1x the trained steps" in done.output
    again = CliRunner().invoke(cli, [*words, "--json"])
    tree = json.loads(again.stdout)
    assert tree["settings"]["factors"] == [1, 2]
    assert sorted(tree["probes"]) == ["shifts", "steps"]
