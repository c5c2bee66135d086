"""The estimate of quality in the lists of results, in their summary and in records of old runs."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg_nca.cases.predict_case import Predicting, PredictionRecord, predict_case
from medseg_nca.cases.prediction_inputs import CaseInput
from medseg_nca.cases.quality_notes import as_written, tell_of_quality
from medseg_nca.config.prediction_options import prediction_settings
from medseg_nca.config.training import PredictionSettings
from medseg_nca.config.trust import GateSettings, TrustSection
from medseg_nca.datasets.adapters.phantom import write_phantom
from medseg_nca.errors import ConfigError
from medseg_nca.inference.bundle import LoadedModel, load_bundle
from medseg_nca.inference.predictor import Predictor
from medseg_nca.tasks import TASKS
from medseg_nca.tasks.segmentation import prediction
from medseg_nca.trust.estimate import Estimate
from medseg_nca.work.shared_model import SharedModel
from tests.estimating import BAD, DOUBTFUL, GOOD, REASON, Estimating, estimates
from tests.tracking.tiny import save_tiny


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("estimates") / "data"
    images = write_phantom(folder, cases=1, seed=1, dims=2, size=(24, 20)) / "imagesTr"
    (found,) = images.iterdir()
    return found


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    folder = tmp_path_factory.mktemp("model")
    save_tiny(folder, dims=2)
    return load_bundle(folder, "cpu")


def test_a_record_has_the_estimate_and_a_later_run_reads_it(
    image: Path, model: LoadedModel, tmp_path: Path
) -> None:
    work = Predicting(
        CaseInput("one", (image,)), tmp_path, SharedModel(Estimating(model, DOUBTFUL))
    )
    record = predict_case(work)
    assert record.estimate == DOUBTFUL
    assert record.line.endswith("quality: review, Dice about 0.80")
    assert record.to_dict()["estimate"]["labels"]["post"]["low"] == 0.55
    again = predict_case(work)
    assert again.cached
    assert again == record


@given(estimates, st.dictionaries(st.text(), st.integers(0, 10**6)))
def test_records_survive_json(estimate: Estimate, voxels: dict[str, int]) -> None:
    out = Path("out")
    likeness: dict[str, Any] = {"spacing": [1.0], "brought": None, "unlike": []}
    record = PredictionRecord(
        "a", Path("a.nii"), out, "key", training=likeness, voxels=voxels,
        estimate=as_written(estimate),
    )  # fmt: skip
    tree = json.loads(json.dumps(record.to_dict()))
    assert PredictionRecord.from_tree(tree, out) == record
    assert as_written(record.estimate) == record.estimate
    if estimate.verdict == "unknown":
        assert record.line.endswith("quality: unknown")
        assert (tree["estimate"]["dice"], tree["estimate"]["labels"]) == (None, {})


def test_results_of_an_older_version_are_kept_where_nothing_is_estimated(
    image: Path, model: LoadedModel, tmp_path: Path
) -> None:
    request = prediction.PredictSegmentation(model, [image], tmp_path)
    (first,) = prediction.run(request)
    path = tmp_path / "predictions.json"
    tree = json.loads(path.read_text())
    assert tree["predictions"][0].pop("estimate")["verdict"] == "unknown"
    path.write_text(json.dumps(tree))
    for settings in (None, PredictionSettings(estimate=False)):
        request = prediction.PredictSegmentation(model, [image], tmp_path, settings)
        (found,) = prediction.run(request)
        assert found.cached
        assert (found.key, found.estimate.verdict) == (first.key, "unknown")


def test_what_the_estimate_stands_on_decides_a_result_only_where_one_is_made(
    model: LoadedModel,
) -> None:
    def key(carries: bool, settings: PredictionSettings) -> str:
        predictor = Predictor(model, settings)
        if carries:
            section = TrustSection.model_construct(version=1)
            predictor.spec = predictor.spec.model_copy(update={"trust": section})
        return SharedModel(predictor).key

    strict = GateSettings(acceptable=0.9)
    plain = key(False, PredictionSettings())
    assert key(False, PredictionSettings(gate=strict)) == plain
    assert key(True, PredictionSettings(gate=strict, estimate=False)) == plain
    made = [key(True, PredictionSettings()), key(True, PredictionSettings(gate=strict))]
    assert len({plain, *made}) == 3


def told(found: dict[str, Estimate], caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    caplog.clear()
    with caplog.at_level(logging.INFO, "medseg_nca"):
        tell_of_quality(found, Path("out/predictions.json"))
    return [(record.levelname, record.getMessage()) for record in caplog.records]


def test_the_summary_counts_and_names_the_doubtful_the_worst_first(
    caplog: pytest.LogCaptureFixture,
) -> None:
    none = Estimate("unknown", ("Why not.",))
    assert told({"a": GOOD, "b": DOUBTFUL, "c": BAD, "d": none}, caplog) == [
        ("INFO", "Estimated quality of 4 segmentations: 1 accept, 1 review, 1 reject, 1 unknown."),
        ("WARNING", f"c was rejected (predicted Dice about 0.20). {BAD.reasons[0]}"),
        ("WARNING", f"b should be reviewed (predicted Dice about 0.80). {REASON}"),
    ]
    assert told({"a": GOOD}, caplog) == told({"a": none, "b": none}, caplog) == []
    assert told({"b": DOUBTFUL}, caplog) == [
        (
            "WARNING",
            f"b should be reviewed (predicted Dice about 0.80). {' '.join(DOUBTFUL.reasons)}",
        )
    ]
    many = told({str(number): BAD for number in range(25)}, caplog)
    assert len(many) == 22
    assert many[-1][1] == "5 more are doubtful; out/predictions.json has all of them."


def test_options_of_the_command_set_the_gate() -> None:
    model = PredictionSettings(gate=GateSettings(acceptable=0.7, miss_rate=0.1))
    found = prediction_settings(model, {"acceptable": 0.85})
    assert found.gate == GateSettings(acceptable=0.85, miss_rate=0.1)
    assert found.estimate
    found = prediction_settings(
        model, {"miss_rate": 0.02, "no_estimate": True}, ["prediction.gate.acceptable=0.9"]
    )
    assert (found.gate.acceptable, found.gate.miss_rate, found.estimate) == (0.9, 0.02, False)
    with pytest.raises(ConfigError, match="acceptable"):
        prediction_settings(model, {"acceptable": 1.5})
    assert "acceptable" in TASKS.get("segmentation").predict_options
    assert "acceptable" not in TASKS.get("regression").predict_options
