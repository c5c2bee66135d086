"""Many cases on a cluster give the results of one process."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from medseg_nca.config.loading import load_settings
from medseg_nca.config.training import PredictionSettings
from medseg_nca.inference.bundle import LoadedModel
from medseg_nca.job import Progress
from medseg_nca.pipelines import preprocess
from medseg_nca.tasks.segmentation import prediction
from medseg_nca.work.scheduler import SchedulerError
from tests.pipelines.resume.running import (
    CASES,
    Watch,
    evaluated,
    many,
    predicted,
    same_evaluations,
    same_predictions,
)
from tests.pipelines.work import cluster


@pytest.mark.slow
class TestCluster:
    """A Dask cluster whose workers share the disk and start in folders of their own."""

    @pytest.fixture(autouse=True)
    def _needs_dask(self) -> None:
        pytest.importorskip("distributed", reason="the extra 'cluster' is not installed")

    def test_the_results_are_those_of_one_process(
        self, data: Path, model: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With relative paths, which mean nothing where the workers are."""
        monkeypatch.chdir(tmp_path)
        here = Path("data")
        settings = load_settings(None, ("model.dims=2",))
        with cluster(tmp_path / "cluster", 2) as made:
            assert predicted(model, here, Path("p2"), scheduler=made.address) == CASES
            assert predicted(model, here, Path("p2"), scheduler=made.address) == 0
            assert evaluated(model, here, Path("e2"), scheduler=made.address) == CASES
            far = preprocess.run(
                preprocess.PreprocessRequest(here, Path("q2"), settings, scheduler=made.address)
            )
        predicted(model, here, Path("p1"))
        evaluated(model, here, Path("e1"))
        near = preprocess.run(preprocess.PreprocessRequest(here, Path("q1"), settings, 0))
        same_predictions(Path("p1"), Path("p2"))
        same_evaluations(Path("e1"), Path("e2"))
        assert far.index == near.index
        assert not (tmp_path / "q2" / ".unfinished").exists()

    def test_a_killed_worker_loses_no_case_and_repeats_none(
        self, data: Path, model: LoadedModel, tmp_path: Path
    ) -> None:
        images, out = many(data, tmp_path / "images", 40), tmp_path / "out"
        finished: dict[str, int] = {}

        class Killing(Watch):
            def hear(self, progress: Progress) -> None:
                super().hear(progress)
                if progress.done == 12:
                    records = list((out / ".unfinished").glob("*.json"))
                    finished.update((str(p), p.stat().st_mtime_ns) for p in records)
                    made.workers[1].kill()
                if progress.done == 38:
                    for path, when in finished.items():
                        assert Path(path).stat().st_mtime_ns == when, "done again"

        with cluster(tmp_path / "cluster", 2) as made:
            settings = PredictionSettings(uncertainty=50)
            results = prediction.run(
                prediction.PredictSegmentation(
                    model, [images], out, settings, scheduler=made.address
                ),
                Killing().job,
            )
        assert len(finished) >= 12
        assert [result.source.name for result in results] == sorted(os.listdir(images))
        prediction.run(
            prediction.PredictSegmentation(model, [images], tmp_path / "clean", settings)
        )
        same_predictions(out, tmp_path / "clean")

    def test_a_worker_that_does_not_see_the_folder_is_passed_over(
        self, data: Path, model: LoadedModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        shared = tmp_path / "shared"
        shared.mkdir()
        shutil.move(data, shared / "data")
        out = shared / "out"
        with cluster(tmp_path / "cluster", 0) as made:
            made.add(without=shared)
            with pytest.raises(SchedulerError, match=rf"does not see the folder {out}"):
                predicted(model, shared / "data", out, scheduler=made.address)
            made.add()
            made.expect(2)
            assert predicted(model, shared / "data", out, scheduler=made.address) == CASES
        passed = [r.getMessage() for r in caplog.records if "passed over" in r.getMessage()]
        assert str(out) in passed[-1]

    def test_images_that_a_worker_does_not_see_go_to_another(
        self, data: Path, model: LoadedModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        with cluster(tmp_path / "cluster", 0) as made:
            made.add(without=data)
            made.add()
            made.expect(2)
            assert predicted(model, data, tmp_path / "out", scheduler=made.address) == CASES
        assert "does not see the file" in caplog.text
