"""Study how good the estimates of a segmentation model are (``medseg-nca evaluate --trust``)."""

from __future__ import annotations

import csv
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from medseg_nca.cases.evaluate_case import read_case
from medseg_nca.cases.evaluation_inputs import LabelMatch, match_labels, open_source, select_cases
from medseg_nca.config.trust import case_digest
from medseg_nca.datasets.base import Case
from medseg_nca.errors import DataError
from medseg_nca.inference.predictor import Predictor
from medseg_nca.io.atomic import atomic_file, write_json
from medseg_nca.job import Job
from medseg_nca.tasks.base import Evaluation
from medseg_nca.tasks.segmentation.evaluation import EvaluateSegmentation
from medseg_nca.tasks.segmentation.trust_cases import PASSES, MaskRow, StudiedCase, study_case
from medseg_nca.tasks.segmentation.trust_report import draw_study, write_trust_report
from medseg_nca.tasks.segmentation.trust_summary import summarise_study
from medseg_nca.tasks.segmentation.trust_tables import score_table, verdict_table
from medseg_nca.tracking.provenance import git_commit, package_versions
from medseg_nca.trust.corruptions import CORRUPTIONS, STRENGTHS

logger = logging.getLogger(__name__)

FORMAT_VERSION = 1
LIST, TABLE, REPORT = "trust.json", "trust.csv", "trust.html"
PHASE = "measuring trust"
Tree = dict[str, Any]


def with_study(
    done: Evaluation, request: EvaluateSegmentation, cases: int | None, job: Job
) -> Evaluation:
    """Add a study of the model's estimates to a finished evaluation.

    Args:
        done: the evaluation.
        request: what was evaluated.
        cases: how many cases are studied, the first of the side; None takes all.
        job: gets the progress, in the phase "measuring trust".

    Returns:
        The evaluation with the tree of ``trust.json`` under "trust", and with further tables.

    Raises:
        DataError, OutputError, Interrupted: as :func:`run_study`.
    """
    tree = run_study(request, cases, job)
    tables = (score_table(tree), *((verdict_table(tree),) if tree["estimates"] else ()))
    return replace(
        done,
        tree={**done.tree, "trust": tree},
        tables=(*done.tables, *tables),
        reports=(*done.reports, REPORT),
    )


def run_study(
    request: EvaluateSegmentation,
    cases: int | None = None,
    job: Job | None = None,
    predictor: Predictor | None = None,
) -> Tree:
    """Measure the estimates of a model, and write ``trust.json``, ``trust.csv``, ``trust.html``.

    Each case is predicted clean and under every artificial fault at every strength, all in this
    process. Nothing is kept of a study that is interrupted.

    Args:
        request: the model, the data set, the side of the split and the folder of the results.
        cases: how many cases are studied, the first of the side; None takes all.
        job: gets the progress, in the phase "measuring trust".
        predictor: predicts instead of the model with the settings of the request.

    Returns:
        What ``trust.json`` holds.

    Raises:
        DataError: if there is no data set, its labels do not fit the model's, or no case has a
            mask.
        OutputError: if the results cannot be written.
        Interrupted: if the job was cancelled.
    """
    job = job or Job()
    source = open_source(request.data, request.format, request.labels)
    match = match_labels(request.model.spec.labels, source.labels)
    selection = select_cases(source, request.model, request.split)
    predictor = predictor or _predictor(request)
    chosen = selection.items[:cases]
    studied, failed = _study_cases(predictor, chosen, match, job)
    rows = [row for found in studied.values() for row in found.rows]
    if not rows:
        raise DataError(
            f"{request.data}: the study of estimates found no mask in {len(chosen)} cases.",
            hint=f"Look at the data set: medseg-nca data check {request.data}",
        )
    tree = {
        **_provenance(predictor, source.name, selection.side, studied),
        **summarise_study(
            rows, [image for found in studied.values() for image in found.refused],
            CORRUPTIONS.names, predictor.settings.gate.acceptable,
        ),
        "failed": [{"id": name, "error": text} for name, text in failed.items()],
    }  # fmt: skip
    tree["estimates"] = any(row.predicted is not None for row in rows)
    tree["notes"] = [
        *([] if tree["estimates"] else [_no_estimates(predictor)]),
        *_seen_before(predictor, studied),
    ]
    for note in tree["notes"]:
        logger.warning("%s", note)
    _write(tree, rows, request)
    return tree


def _predictor(request: EvaluateSegmentation) -> Predictor:
    settings = request.prediction or request.model.spec.prediction
    # Who asks for the study wants estimates, and has no use for probabilities.
    return Predictor(request.model, settings.changed(probabilities=False, estimate=True))


def _study_cases(
    predictor: Predictor, cases: Sequence[Case], match: LabelMatch, job: Job
) -> tuple[dict[str, StudiedCase], dict[str, str]]:
    """Study cases; one whose files cannot be used is named and left out."""
    corruptions = dict(CORRUPTIONS.usable())
    studied: dict[str, StudiedCase] = {}
    failed: dict[str, str] = {}
    for number, case in enumerate(cases):
        job.report(PHASE, number, len(cases), unit="cases", facts={"failed": len(failed)})
        try:
            pair = read_case(case, match)
        except DataError as error:
            logger.warning("%s: is left out of the study of estimates: %s", case.id, error)
            failed[case.id] = str(error)
            continue
        studied[case.id] = study_case(predictor, case.id, pair, match.truth, corruptions, job)
    job.report(PHASE, len(cases), len(cases), unit="cases", facts={"failed": len(failed)})
    return studied, failed


def _provenance(
    predictor: Predictor, data: str, side: str, studied: Mapping[str, StudiedCase]
) -> Tree:
    spec = predictor.spec
    known = [found.confidence for found in studied.values() if found.confidence is not None]
    return {
        "format_version": FORMAT_VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": {"name": spec.name, "weights_sha256": spec.weights_sha256},
        "data": {"name": data},
        "split": {"name": side},
        "cases": list(studied),
        "passes": PASSES if predictor.model.stochastic else 0,
        "acceptable": predictor.settings.gate.acceptable,
        "confidence": known[0] if known else None,
        "corruptions": {name: found.about for name, found in CORRUPTIONS.usable()},
        "strengths": list(STRENGTHS),
        "settings": {"prediction": predictor.settings.model_dump(mode="json")},
        "refused": [vars(image) for found in studied.values() for image in found.refused],
        "git_commit": git_commit(),
        "versions": package_versions(),
    }


def _no_estimates(predictor: Predictor) -> str:
    return (
        f"The model {predictor.spec.name} carries no trust section, so it does not estimate its "
        "answers, and only the baselines are measured. This command adds one: "
        "medseg-nca trust --model MODEL --data DIR"
    )


def _seen_before(predictor: Predictor, studied: Mapping[str, StudiedCase]) -> list[str]:
    """Return a note if the estimate was fitted on cases that are studied here."""
    section = predictor.spec.trust
    known = set() if section is None else set(section.fitted_on)
    count = sum(case_digest(case) in known for case in studied)
    if not count:
        return []
    return [
        f"The estimate was fitted on {count} of these {len(studied)} cases: its figures are too "
        "good. Study cases that the fit has not seen."
    ]


def _write(tree: Tree, rows: Sequence[MaskRow], request: EvaluateSegmentation) -> None:
    """Write the results, ``trust.json`` last: where it exists, all other results exist too."""
    out = request.out
    figures = draw_study(tree, rows, out / "figures") if request.figures else {}
    write_trust_report(tree, figures, out / REPORT)
    _write_rows(rows, out / TABLE)
    write_json(out / LIST, tree)


def _write_rows(rows: Sequence[MaskRow], path: Path) -> None:
    with (
        atomic_file(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as stream,
    ):
        writer = csv.DictWriter(stream, list(rows[0].to_dict()))
        writer.writeheader()
        writer.writerows(row.to_dict() for row in rows)
