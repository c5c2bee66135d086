"""From what was measured to the rows that are reported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from medseg_nca.benchmark.textbook import NAME as EAGER

REFERENCE, UNET = "reference", "unet"
Row = dict[str, Any]


@dataclass(frozen=True)
class Sample:
    """One measurement, or why there is none.

    Attributes:
        case: name of the case, or of the size of the volume.
        mode: "step", "train" or "model".
        engine: who computed it.
        steps: of one run; None for a network.
        numbers: see :func:`medseg_nca.benchmark.timing.measure`; with ``flop`` and ``cells``.
        error: the reason why ``numbers`` is empty.
        model: in mode "model", its name.
    """

    case: str
    mode: str
    engine: str
    steps: int | None
    numbers: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None
    model: str | None = None

    @property
    def seconds(self) -> float | None:
        """Of one run."""
        return self.numbers.get("seconds")


def step_rows(samples: Sequence[Sample], sgemm: float, threads: int) -> list[Row]:
    """Rows of modes "step" and "train", with the ratios inside each (case, steps)."""
    return [_row(s, _peers(s, samples), sgemm, threads) for s in samples]


def model_rows(samples: Sequence[Sample], sgemm: float, threads: int) -> list[Row]:
    """Rows of mode "model": those of a step, and time, parameters and the ratio to the U-Net."""
    unet = next((s.seconds for s in samples if s.model == UNET), None)
    rows = []
    for sample in samples:
        row = _row(sample, _peers(sample, samples), sgemm, threads)
        rows.append({
            "model": sample.model, **row, "ms": _round(sample.seconds, 1e3),
            "parameters": sample.numbers.get("parameters"),
            "ratio_to_unet": _ratio(unet, sample.seconds),
        })  # fmt: skip
    return rows


def _peers(sample: Sample, samples: Sequence[Sample]) -> dict[str, Sample]:
    """The measurements of the same work by other engines, by name of the engine."""
    same = (sample.case, sample.mode, sample.model)
    return {
        other.engine: other
        for other in samples
        if (other.case, other.mode, other.model) == same and other.steps == sample.steps
    }


def _row(sample: Sample, peers: Mapping[str, Sample], sgemm: float, threads: int) -> Row:
    numbers, seconds, steps = sample.numbers, sample.seconds, sample.steps
    rate = numbers["flop"] / seconds / 1e9 if seconds else None
    row: Row = {
        "case": sample.case,
        "mode": sample.mode,
        "engine": sample.engine,
        "ms_per_step": _round(seconds, 1e3 / steps) if steps else None,
        "gflops": _round(rate),
        "share_of_sgemm": _round(rate, 1 / sgemm),
        "ratio_to_eager": _ratio(_seconds(peers, EAGER), seconds),
        "peak_mb": _round(numbers.get("peak_mb")),
        "ratio_to_reference": _ratio(_seconds(peers, REFERENCE), seconds),
        "cells_per_second": round(numbers["cells"] * steps / seconds)
        if seconds and steps
        else None,
        "best_ms_per_step": _round(numbers.get("best_seconds"), 1e3 / steps) if steps else None,
        "repeats": numbers.get("repeats"),
        "steps": steps,
        "threads": threads,
    }
    return row if sample.error is None else {**row, "error": sample.error}


def _seconds(peers: Mapping[str, Sample], engine: str) -> float | None:
    return peers[engine].seconds if engine in peers else None


def _ratio(other: float | None, own: float | None) -> float | None:
    """How many times as fast as the other."""
    return round(other / own, 4) if other and own else None


def _round(value: float | None, factor: float = 1.0) -> float | None:
    """Round to six figures, which is more than any measurement is good for."""
    return None if value is None else float(f"{value * factor:.6g}")
