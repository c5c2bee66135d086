"""Measure steps, training steps or whole models, each in a process of its own."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from medseg_nca.benchmark import rows as reporting
from medseg_nca.benchmark import textbook
from medseg_nca.benchmark.cases import DEFAULT_CASES, Workload, sweep
from medseg_nca.benchmark.machine import QUIET_LOAD, load_average
from medseg_nca.benchmark.model import TORCH, find_model, prepared_image
from medseg_nca.benchmark.process import MeasurementError, in_process
from medseg_nca.benchmark.rows import Row, Sample
from medseg_nca.benchmark.step import BFLOAT16, find_engine
from medseg_nca.benchmark.timing import Effort
from medseg_nca.errors import ConfigError
from medseg_nca.io.atomic import write_json, write_text
from medseg_nca.job import Job
from medseg_nca.models import SegmentationModel
from medseg_nca.models.multilevel import MultiLevelNca
from medseg_nca.nca.engines import ENGINES
from medseg_nca.suggest import unknown
from medseg_nca.viz.cost import Curve, plot_cost

logger = logging.getLogger(__name__)

DEFAULT_MODEL = "zoo:hippocampus"
NETWORKS = ("unet", "dynunet")
SIZES = {2: (256, 256), 3: (40, 56, 40)}
SMALLEST = 16
SGEMM_SECONDS = 1.0
AXES = {"size": "cells an axis", "steps": "steps", "channels": "channels of the state"}


@dataclass(frozen=True)
class BenchSettings:
    """What to measure, and how long.

    Attributes:
        mode: "step", "train" or "model".
        cases: names of cells and grids; the default ones if empty.
        engines: all of the device but "auto" if empty; the textbook, "eager", is measured in any
            case.
        steps: of a roll-out.
        models: measured beside MONAI's networks, which take the axes and channels of the first;
            the default one if empty.
        size: of the volume in voxels; by the model's axes if empty.
        image: a file to measure on, prepared as the first model wants it; noise if None.
        threads: torch's own number if None.
        seconds: for the runs of one measurement.
        repeats: this many runs instead.
        sweep: also measure how cost grows with size, steps and channels of the first case.
        device: "cpu" or "cuda"; of steps and training steps alone.
    """

    mode: Literal["step", "train", "model"]
    cases: tuple[str, ...] = ()
    engines: tuple[str, ...] = ()
    steps: int = 10
    models: tuple[str, ...] = ()
    size: tuple[int, ...] = ()
    image: Path | None = None
    threads: int | None = None
    seconds: float = 2.0
    repeats: int | None = None
    sweep: bool = False
    device: str = "cpu"


@dataclass(frozen=True)
class BenchResult:
    """What was measured, and on what."""

    machine: dict[str, Any]
    sgemm_gflops: float
    rows: list[Row]
    sweep: list[Row] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        tree = {"machine": self.machine, "sgemm_gflops": self.sgemm_gflops, "rows": self.rows}
        return {**tree, "sweep": self.sweep} if self.sweep else tree


@dataclass(frozen=True)
class Measurement:
    """One measurement to make; ``axis`` says which curve of the sweep it belongs to, if any."""

    case: str
    engine: str
    steps: int | None
    task: dict[str, Any]
    model: str | None = None
    axis: str = ""


def run(
    settings: BenchSettings,
    *,
    out: Path | None = None,
    job: Job | None = None,
) -> BenchResult:
    """Measure, one after the other, with nothing else going on in between.

    The rate of matrix products is measured before and after, and the larger one is taken. What an
    engine refuses becomes a row with an ``error``.

    Args:
        settings: what to measure.
        out: folder for bench.json, bench.csv and the plots of the sweep; None writes nothing.
        job: told how many measurements are made, under the phase "measuring".

    Raises:
        ConfigError: for the name of a case, model or engine that does not exist.
        OutputError: if the results cannot be written.
        Interrupted: if the job was cancelled.
    """
    job = job or Job()
    if settings.device != "cpu" and not torch.cuda.is_available():
        raise ConfigError(
            f"Device {settings.device!r} was asked for, but torch sees no GPU.", hint="Use cpu."
        )
    wanted = list(_model_jobs(settings) if settings.mode == "model" else _step_jobs(settings))
    load = load_average()
    if load is not None and load > QUIET_LOAD:
        logger.warning("The machine is not quiet: its load is %.2f. Do not report figures.", load)
    machine = {**in_process("machine", threads=settings.threads), "load": load}
    effort = Effort(machine["threads"], settings.seconds, settings.repeats)
    sgemm = [_sgemm(effort, settings.device)]
    samples = []
    for number, one in enumerate(wanted):
        job.report("measuring", number, len(wanted), unit="measurements")
        samples.append(_sample(settings.mode, one, effort))
    job.report("measuring", len(wanted), len(wanted), unit="measurements")
    sgemm.append(_sgemm(effort, settings.device))
    best = round(max(sgemm), 2)
    make = reporting.model_rows if settings.mode == "model" else reporting.step_rows
    rows = make(samples, best, effort.threads)
    pairs = list(zip(wanted, rows, strict=True))
    result = BenchResult(
        machine, best,
        rows=[row for one, row in pairs if not one.axis],
        sweep=[{"axis": one.axis, **row} for one, row in pairs if one.axis],
    )  # fmt: skip
    if out is not None:
        _write(result, settings, out)
    return result


def _engines(settings: BenchSettings) -> list[str]:
    """The textbook first: it is what the others are compared with."""
    known = [textbook.NAME, *(name for name in ENGINES.names if name != "auto")]
    if settings.mode == "step":  # bfloat16 is for inference
        for name in ("cpu", "triton"):
            known.insert(known.index(name) + 1, f"{name}{BFLOAT16}")
    for name in settings.engines:
        if name not in known:
            raise ConfigError(unknown("engine", name, known))
    wanted = settings.engines or [n for n in known if _computes_on(settings.device, n)]
    return [name for name in known if name in wanted or name == textbook.NAME]


def _computes_on(device: str, name: str) -> bool:
    """Whether an engine is made for a device."""
    devices = find_engine(name).devices
    return devices is None or device in devices


def _step_jobs(settings: BenchSettings) -> Iterator[Measurement]:
    engines = _engines(settings)
    cases = [Workload.parse(name) for name in dict.fromkeys(settings.cases)] or list(DEFAULT_CASES)
    plan = {"": [(case, settings.steps) for case in cases]}
    if settings.sweep:
        plan |= sweep(cases[0], settings.steps)
    for axis, points in plan.items():
        for case, steps in points:
            for engine in engines:
                task = {"case": case.name, "mode": settings.mode, "engine": engine, "steps": steps,
                        "device": settings.device}  # fmt: skip
                yield Measurement(case.name, engine, steps, task, axis=axis)


def _model_jobs(settings: BenchSettings) -> Iterator[Measurement]:
    engines = _engines(settings)
    models = settings.models or (DEFAULT_MODEL,)
    first = models[0]
    like = find_model(first)
    image = None if settings.image is None else str(settings.image.resolve())
    size = settings.size or SIZES[like.dims]
    if image is not None:
        size = tuple(prepared_image(image, first).shape[2:])
    if len(size) != like.dims or min(size) < SMALLEST:
        raise ConfigError(
            f"The size {'x'.join(map(str, size))} does not fit {first}.",
            hint=f"It needs {like.dims} numbers, each {SMALLEST} or more.",
        )
    case = f"{like.dims}d_{'x'.join(map(str, size))}{'' if image is None else '_image'}"
    for name in dict.fromkeys((*models, *NETWORKS)):
        for engine in engines if _is_automaton(name, like) else [TORCH]:
            task = {"model": name, "engine": engine, "size": list(size), "like": first,
                    "image": image}  # fmt: skip
            yield Measurement(case, engine, None, task, model=name)


def _is_automaton(name: str, like: SegmentationModel) -> bool:
    model = find_model(name, like)
    if model.dims != like.dims:
        raise ConfigError(f"{name} has {model.dims} axes, the model before it {like.dims}.")
    return isinstance(model, MultiLevelNca)


def _sgemm(effort: Effort, device: str) -> float:
    short = Effort(effort.threads, min(effort.seconds, SGEMM_SECONDS))
    return float(in_process("sgemm", effort=short, device=device))


def _sample(mode: str, wanted: Measurement, effort: Effort) -> Sample:
    task = "model" if mode == "model" else "step"
    name = f"{wanted.model or wanted.case}, {mode}, {wanted.engine}"
    try:
        numbers = in_process(task, effort=effort, **wanted.task)
    except MeasurementError as error:
        logger.warning("%s: %s", name, error)
        return Sample(wanted.case, mode, wanted.engine, wanted.steps, {}, str(error), wanted.model)
    logger.info("%s: %.4g ms", name, 1e3 * numbers["seconds"] / (wanted.steps or 1))
    steps = numbers.get("steps", wanted.steps)
    return Sample(wanted.case, mode, wanted.engine, steps, numbers, None, wanted.model)


def _write(result: BenchResult, settings: BenchSettings, out: Path) -> None:
    write_json(out / "bench.json", result.to_dict())
    rows = [*result.rows, *result.sweep]
    columns = dict.fromkeys(key for row in rows for key in row)
    text = io.StringIO()
    table = csv.DictWriter(text, list(columns), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_text(out / "bench.csv", text.getvalue())
    for axis, words in AXES.items() if result.sweep else ():
        curves = _curves([row for row in result.sweep if row["axis"] == axis], axis)
        unit = "ms a roll-out" if axis == "steps" else "ms a step"
        plot_cost(curves, out / f"cost_by_{axis}.png", x=words, unit=unit,
                  title=f"{settings.mode}: cost by {axis}")  # fmt: skip


def _curves(rows: Sequence[Row], axis: str) -> dict[str, Curve]:
    """For each engine: place on the axis, milliseconds, megabytes."""
    curves: dict[str, Curve] = {}
    for row in rows:
        if row["ms_per_step"] is None:
            continue
        place = row["steps"] if axis == "steps" else getattr(Workload.parse(row["case"]), axis)
        count = row["steps"] if axis == "steps" else 1
        point = (place, row["ms_per_step"] * count, row["peak_mb"])
        curves.setdefault(row["engine"], []).append(point)
    return curves
