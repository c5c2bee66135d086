"""The engine "auto" asks all engines, the fastest first, and says once what it chose."""

from __future__ import annotations

import logging

import pytest
import torch

from medseg_nca.nca import Fire
from medseg_nca.nca.engines import get_engine
from medseg_nca.nca.engines.auto import AutoEngine
from tests.nca.cells import make_cell

FIRE = Fire.for_batch(0.5, 0, 1)


def test_it_falls_back_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    auto, cell = AutoEngine(), make_cell(2, dtype=torch.float16)
    state = torch.randn(1, 5, 6, 7, dtype=torch.float16)
    with caplog.at_level(logging.WARNING):
        results = [auto.roll_out(cell, state, 2, FIRE) for _ in range(2)]
    assert [r.levelname for r in caplog.records] == ["WARNING"]
    assert "Engine: reference. Of the faster ones, cpu does not serve" in caplog.text
    assert "float16" in caplog.text
    assert torch.equal(results[0], get_engine("reference").roll_out(cell, state, 2, FIRE))


def test_it_takes_the_engine_of_the_highest_rank(caplog: pytest.LogCaptureFixture) -> None:
    state = torch.zeros(1, 5, 6, 7, dtype=torch.float64)
    auto, cell = AutoEngine(), make_cell(2)
    with caplog.at_level(logging.INFO):
        auto.roll_out(cell, state, 1, FIRE)
        assert auto.choose(cell, state) is get_engine("cpu")
    assert [record.message for record in caplog.records] == ["Engine: cpu."]
    assert auto.bytes_kept(cell, state) == get_engine("cpu").bytes_kept(cell, state)


def test_an_engine_of_another_device_is_no_fault(caplog: pytest.LogCaptureFixture) -> None:
    state = torch.zeros(1, 5, 6, 7, dtype=torch.float64, device="meta")
    with caplog.at_level(logging.INFO):
        assert AutoEngine().choose(make_cell(2), state) is get_engine("reference")
    assert [r.levelname for r in caplog.records] == ["INFO"]
    assert "Engine: reference, on meta." in caplog.text
