"""What a model says of its own answers, beside the truth in the results of an evaluation."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from medseg_nca.cases.evaluate_case import Evaluating, EvaluationRecord, evaluate_case
from medseg_nca.cases.evaluation_inputs import match_labels, open_source
from medseg_nca.inference.bundle import LoadedModel
from medseg_nca.tasks.segmentation import evaluation
from medseg_nca.tasks.segmentation.evaluation_records import add_records, read_metrics
from medseg_nca.tasks.segmentation.evaluation_report import write_evaluation_report
from medseg_nca.trust.estimate import Estimate, LabelEstimate
from medseg_nca.work.shared_model import SharedModel
from tests.estimating import Estimating
from tests.pipelines.evaluate.blocks import CASES, data_set, request

DOUBTFUL = Estimate(
    "review", ("A reason.",), {"front": LabelEstimate(0.71, 0.55, 0.82, "review")}, 0.9
)  # fmt: skip


def test_a_record_has_the_estimate_and_a_later_run_reads_it(
    tmp_path: Path, model: LoadedModel
) -> None:
    source = open_source(data_set(tmp_path / "data", {"c0": 0}))
    work = Evaluating(
        next(iter(source.cases)), tmp_path / "out", SharedModel(Estimating(model, DOUBTFUL)),
        match_labels(model.spec.labels, source.labels), 1.0, False,
    )  # fmt: skip
    record = evaluate_case(work)
    assert record.estimate == DOUBTFUL
    tree = json.loads(json.dumps(record.to_tree()))
    assert EvaluationRecord.from_tree(tree) == record
    del tree["estimate"]
    assert EvaluationRecord.from_tree(tree).estimate.verdict == "unknown"
    again = evaluate_case(work)
    assert again.cached
    assert again.estimate == DOUBTFUL
    cases: dict[str, Any] = {"cases": [{"id": "c0"}, {"id": "c1"}]}
    add_records(cases, {"c0": record, "c1": replace(record, estimate=Estimate("accept"))})
    assert cases["verdicts"] == {"accept": 1, "review": 1, "reject": 0, "unknown": 0}
    assert cases["cases"][0]["estimate"] == DOUBTFUL.to_dict()


def test_a_model_without_an_estimate_says_unknown_and_the_report_has_no_column(
    tmp_path: Path, model: LoadedModel
) -> None:
    out = tmp_path / "out"
    tree = evaluation.run(request(model, data_set(tmp_path / "data", CASES), out)).tree
    assert tree["verdicts"] == {"accept": 0, "review": 0, "reject": 0, "unknown": 4}
    assert {case["estimate"]["dice"] for case in tree["cases"]} == {None}
    assert "Predicted Dice" not in (out / "report.html").read_text()
    records = read_metrics(out)
    assert {one.estimate.verdict for one in records.values()} == {"unknown"}

    # A list that an older version wrote is read, and its cases are not evaluated again.
    older = json.loads((out / "metrics.json").read_text())
    for case in older["cases"]:
        del case["estimate"]
    (out / "metrics.json").write_text(json.dumps(older))
    assert read_metrics(out).keys() == records.keys()

    estimates = [DOUBTFUL, Estimate("unknown", ("Why not.",))]
    for case, one in zip(tree["cases"][:2], estimates, strict=True):
        case["estimate"] = one.to_dict()
    report = write_evaluation_report(tree, {}, model.spec, tmp_path / "shown.html").read_text()
    assert '<th scope="col">Predicted Dice</th><th scope="col">Verdict</th>' in report
    assert "<td>0.710 [0.550, 0.820]</td><td>review</td>" in report
    assert "<td>–</td><td>unknown</td>" in report
