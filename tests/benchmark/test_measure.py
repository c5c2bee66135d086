"""Measurements, and the rows made of them. No test asks how long something took."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from medseg_nca.benchmark.child import perform
from medseg_nca.benchmark.machine import describe
from medseg_nca.benchmark.memory import PeakMemory
from medseg_nca.benchmark.rows import Sample, model_rows, step_rows
from medseg_nca.benchmark.timing import Effort, run_times

ONCE = {"threads": 1, "seconds": 0.0, "repeats": 1}


def step(engine: str, seconds: float, **more: Any) -> Sample:
    numbers = {"seconds": seconds, "best_seconds": seconds / 2, "repeats": 3, "peak_mb": 1.5,
               "flop": 4e9, "cells": 1000}  # fmt: skip
    return Sample("3d_10_c4_h8_k3", "step", engine, 10, {**numbers, **more})


def test_rows_by_hand() -> None:
    eager, fast = step_rows([step("eager", 2.0), step("cpu", 0.5)], sgemm=100.0, threads=2)
    assert eager["ratio_to_eager"] == 1.0
    assert fast == {
        "case": "3d_10_c4_h8_k3", "mode": "step", "engine": "cpu", "ms_per_step": 50.0,
        "gflops": 8.0, "share_of_sgemm": 0.08, "ratio_to_eager": 4.0, "peak_mb": 1.5,
        "ratio_to_reference": None, "cells_per_second": 20_000, "best_ms_per_step": 25.0,
        "repeats": 3, "steps": 10, "threads": 2,
    }  # fmt: skip


def test_ratios_stay_inside_a_case() -> None:
    other = Sample("2d_8_c4_h8_k3", "step", "cpu", 10, step("cpu", 1.0).numbers)
    rows = step_rows([step("eager", 2.0), other], sgemm=100.0, threads=1)
    assert rows[1]["ratio_to_eager"] is None


def test_what_was_refused_has_no_numbers() -> None:
    refused = Sample("3d_10_c4_h8_k3", "step", "cpu", 10, error="does not serve that")
    row = step_rows([step("eager", 2.0), refused], sgemm=100.0, threads=1)[1]
    assert row["error"] == "does not serve that"
    assert row["ms_per_step"] is row["gflops"] is row["ratio_to_eager"] is row["peak_mb"] is None


def test_model_rows_compare_with_the_unet() -> None:
    numbers = {**step("x", 0.5).numbers, "parameters": 7}
    samples = [
        Sample("3d_16x16x16", "model", "cpu", 25, numbers, model="zoo:hippocampus"),
        Sample("3d_16x16x16", "model", "torch", None, {**numbers, "seconds": 1.0}, model="unet"),
    ]
    nca, unet = model_rows(samples, sgemm=100.0, threads=1)
    assert (nca["ratio_to_unet"], nca["ms"], nca["ms_per_step"]) == (2.0, 500.0, 20.0)
    assert (unet["ratio_to_unet"], unet["ms_per_step"], unet["parameters"]) == (1.0, None, 7)


@pytest.mark.parametrize("mode", ["step", "train"])
@pytest.mark.parametrize("engine", ["eager", "reference"])
def test_a_step_is_measured(mode: str, engine: str) -> None:
    task = {"case": "2d_9_c4_h8_k3", "mode": mode, "engine": engine, "steps": 3, "effort": ONCE}
    found = perform("step", task)["result"]
    per_cell = 2 * (4 * 9) + 2 * 8 * (4 + 4) + 2 * 8 * 3
    assert found["flop"] == per_cell * 81 / 2 * 3 * (3 if mode == "train" else 1)
    assert (found["cells"], found["repeats"]) == (81, 1)
    assert found["seconds"] > 0


@pytest.mark.slow
def test_models_are_measured() -> None:
    task = {"size": [16, 16, 16], "like": "zoo:hippocampus", "effort": ONCE}
    nca = perform("model", {**task, "model": "zoo:hippocampus", "engine": "eager"})["result"]
    net = perform("model", {**task, "model": "unet", "engine": "torch"})["result"]
    assert nca["parameters"] == 11_376
    assert nca["steps"] > 0
    assert net["steps"] is None
    assert min(nca["flop"], net["flop"], nca["seconds"], net["seconds"]) > 0


def test_a_refusal_becomes_an_error() -> None:
    task = {"case": "2d_9_c4_h8_k3", "mode": "step", "engine": "nope", "steps": 3, "effort": ONCE}
    assert "Unknown engine 'nope'" in perform("step", task)["error"]


def test_runs_are_repeated_as_often_as_asked() -> None:
    calls: list[int] = []
    assert len(run_times(lambda: calls.append(1), Effort(1, 0.0))) == 1
    assert len(run_times(lambda: calls.append(1), Effort(1, 0.0, repeats=4))) == 4
    assert len(calls) == 5


def test_memory_that_was_given_back_counts() -> None:
    peak = PeakMemory()
    torch.ones(30_000_000, dtype=torch.uint8).sum()
    assert peak.megabytes() >= 25


def test_the_machine_is_described() -> None:
    found = describe(threads=3)
    assert found["threads"] == 3
    assert found["cpu"]
    assert found["versions"]["torch"]
