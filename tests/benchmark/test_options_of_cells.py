"""The options of a cell hold in a measurement of a whole model too."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from medseg_nca.benchmark.model import measure_model
from medseg_nca.benchmark.timing import Effort
from medseg_nca.config.model import NcaModelSettings
from medseg_nca.inference.bundle import save_bundle
from medseg_nca.inference.spec import ModelSpec
from medseg_nca.models import build_model
from tests.inference.test_spec import LABELS, PLAN


@pytest.mark.parametrize("engine", ["cpu", "reference"])
def test_a_cell_that_stops_by_itself_takes_fewer_steps(tmp_path: Path, engine: str) -> None:
    steps = {}
    for name, options in (("all", {}), ("stops", {"stop": {"tolerance": 1e9, "least": 3}})):
        settings = NcaModelSettings(
            name="own", dims=2, in_channels=1, out_channels=2,
            levels=[{"scale": 1, "steps": 10}], cell={"channels": 8, **options},
        )  # fmt: skip
        torch.manual_seed(0)
        spec = ModelSpec(name="m", model=settings, labels=LABELS, plan=PLAN)
        save_bundle(tmp_path / name, build_model(settings), spec)
        effort = Effort(threads=1, seconds=0.0, repeats=1)
        found = measure_model(str(tmp_path / name), engine, [16, 16], None, effort)
        steps[name] = (found["steps"], found["flop"])
    assert (steps["all"][0], steps["stops"][0]) == (10, 3)
    assert steps["stops"][1] == pytest.approx(0.3 * steps["all"][1])
