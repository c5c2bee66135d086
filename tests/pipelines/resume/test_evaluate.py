"""Many cases: what is finished is not measured or prepared again."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from medseg_nca.config.loading import load_settings
from medseg_nca.config.training import EvaluationSettings
from medseg_nca.errors import Interrupted
from medseg_nca.inference.bundle import LoadedModel
from medseg_nca.pipelines import preprocess
from medseg_nca.tasks.segmentation import evaluation
from tests.pipelines.resume.running import (
    CASES,
    QUICK,
    Watch,
    a_case,
    evaluated,
    listed,
    same_evaluations,
)


@pytest.mark.parametrize("save", [False, True])
def test_a_second_evaluation_measures_nothing(
    data: Path, model: LoadedModel, tmp_path: Path, save: bool
) -> None:
    out = tmp_path / "out"
    assert evaluated(model, data, out, save_predictions=save) == CASES
    before = listed(out, "metrics.json")
    assert evaluated(model, data, out, save_predictions=save) == 0
    assert listed(out, "metrics.json") == before
    assert evaluated(model, data, out, save_predictions=save, fresh=True) == CASES
    assert evaluated(model, data, out, save_predictions=True) == (0 if save else CASES)
    assert not (out / ".unfinished").exists()


def test_only_what_changed_is_evaluated(data: Path, model: LoadedModel, tmp_path: Path) -> None:
    out = tmp_path / "out"
    evaluated(model, data, out, save_predictions=True)
    label: Any = nib.load(a_case(data, 2, "labelsTr"))  # type: ignore[attr-defined]
    array = np.asarray(label.dataobj)
    swapped = np.where(array == 1, 2, np.where(array == 2, 1, array)).astype(np.uint8)
    nib.Nifti1Image(swapped, label.affine).to_filename(a_case(data, 2, "labelsTr"))
    (out / "predictions" / a_case(data, 3).name).unlink()
    assert evaluated(model, data, out, save_predictions=True) == 2
    # Confidence intervals are of all cases together; the tolerance is of each.
    assert evaluated(model, data, out, EvaluationSettings(bootstrap=30)) == 0
    assert evaluated(model, data, out, EvaluationSettings(nsd_tolerance=2)) == CASES
    evaluated(model, data, tmp_path / "clean", EvaluationSettings(nsd_tolerance=2))
    shutil.rmtree(out / "predictions")
    same_evaluations(out, tmp_path / "clean")


def test_an_interrupted_evaluation_goes_on(data: Path, model: LoadedModel, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(Interrupted):
        evaluation.run(
            evaluation.EvaluateSegmentation(model, data, out, settings=QUICK, figures=False),
            Watch(stop_after=2).job,
        )
    assert not (out / "metrics.json").exists()
    assert evaluated(model, data, out) == CASES - 2
    evaluated(model, data, tmp_path / "clean")
    same_evaluations(out, tmp_path / "clean")


def test_numbers_that_were_edited_are_measured_again(
    data: Path, model: LoadedModel, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    evaluated(model, data, out)
    lines = (out / "metrics.csv").read_text().splitlines()
    cells = lines[1].split(",")
    lines[1] = ",".join([*cells[:2], "0.999", *cells[3:]])
    (out / "metrics.csv").write_text("\n".join(lines) + "\n")
    assert evaluated(model, data, out) == 1
    evaluated(model, data, tmp_path / "clean")
    same_evaluations(out, tmp_path / "clean")


@pytest.mark.slow
def test_processes_evaluate_the_same(data: Path, model: LoadedModel, tmp_path: Path) -> None:
    for workers in (1, 2):
        out = tmp_path / f"{workers}"
        assert evaluated(model, data, out, save_predictions=True, workers=workers) == CASES
    same_evaluations(tmp_path / "1", tmp_path / "2")


def test_preprocess_makes_all_anew_when_told(data: Path, tmp_path: Path) -> None:
    settings = load_settings(None, ("model.dims=2",))
    counts = []
    for fresh in (False, False, True):
        watch = Watch()
        preprocess.run(
            preprocess.PreprocessRequest(data, tmp_path / "out", settings, 0, fresh=fresh),
            watch.job,
        )
        counts.append(watch.resumed)
    assert counts == [0, CASES, 0]
