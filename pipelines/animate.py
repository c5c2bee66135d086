"""Films of an automaton at work, of any task that shows its automata."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medseg_nca.errors import ConfigError, OutputError
from medseg_nca.inference.trained import TrainedModel
from medseg_nca.io.atomic import write_json
from medseg_nca.job import Job
from medseg_nca.stages.stage import (
    Moment,
    Stage,
    StageInput,
    StageRequest,
    numbers,
    plane_of,
    steps_of,
    walk,
)
from medseg_nca.suggest import unknown
from medseg_nca.tasks import TASKS, Task
from medseg_nca.viz.film import KEPT, FilmFrame, Panel
from medseg_nca.viz.film_file import FORMATS
from medseg_nca.viz.slices import Cut, fullest_plane, to_colours
from medseg_nca.viz.tints import signed

logger = logging.getLogger(__name__)

RECORDS = "films.json"
LABELS, HIDDEN, ALL = "labels", "hidden", "all"
MOST_FRAMES, MOST_PANELS = 240, 64


@dataclass(frozen=True)
class AnimateRequest:
    """What is to be filmed, and how.

    Attributes:
        model: the trained model.
        inputs: images; none for models that grow from a seed.
        out: folder of the films.
        format: "gif" or "mp4".
        channels: which panels stand beside the image: "labels" (the answer), "all", "hidden",
            numbers of channels.
        axis, slice: which slice of a volume is shown, in voxels of the prepared image; None takes
            the one through the largest label at the end.
        overlay: whether the answer lies over the image, or over a dark ground.
        fps: frames a second.
        seed: seed of the fire masks.
        steps: how many times the steps of inference are taken.
        level: number of the level that is shown, from 1; None shows all.
    """

    model: TrainedModel
    inputs: Sequence[Path]
    out: Path
    format: str = "gif"
    channels: Sequence[str] = (LABELS,)
    axis: int | None = None
    slice: int | None = None
    overlay: bool = True
    fps: float = 12.0
    seed: int = 0
    steps: float = 1.0
    level: int | None = None


@dataclass(frozen=True)
class FilmRecord:
    """A film that was made.

    Attributes:
        name: of the input.
        source: file of the input; None if there is none.
        path: of the film.
        frames: number of frames.
        size: width and height in pixels.
        levels: number of steps of each level.
        plane: axis and index of the slice; None for 2D.
        readings: the last numbers, such as the loss.
        notes: what was changed to show it.
    """

    name: str
    source: Path | None
    path: Path
    frames: int
    size: tuple[int, int]
    levels: tuple[int, ...]
    plane: tuple[int, int] | None
    readings: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as ``films.json`` holds them."""
        return {**vars(self), "source": self.source and str(self.source), "path": str(self.path)}


def run(request: AnimateRequest, job: Job | None = None) -> list[FilmRecord]:
    """Make a film of every input, and ``films.json``, which lists them.

    Args:
        request: what to film.
        job: gets the progress in the phase "filming", and is asked before every step whether to
            go on.

    Raises:
        ConfigError: if the model is no automaton, or an option does not fit it.
        DataError: if there is no input where one is needed.
        ImageError: if an input does not fit the model.
        DependencyError: if the format needs a program that is not there.
        OutputError: if a film would overwrite an input, or cannot be written.
        Interrupted: if the job was cancelled; finished films stay.
    """
    job = job or Job()
    if request.format not in FORMATS:
        raise ConfigError(unknown("format", request.format, FORMATS))
    if request.format == "mp4":
        from medseg_nca.viz.film_file import ffmpeg

        ffmpeg()
    task: Task = TASKS.get(request.model.spec.task)
    inputs = task.stages(StageRequest(request.model, request.inputs))
    paths = _paths(inputs, request)
    films = []
    for number, (each, path) in enumerate(zip(inputs, paths, strict=True)):
        with job.at_work():
            films.append(_film(each, path, request, job.part(number, len(inputs))))
    model = {"name": request.model.spec.name, "task": request.model.spec.task,
             "weights_sha256": request.model.spec.weights_sha256}  # fmt: skip
    tree = {"format_version": 1, "model": model, "films": [film.to_dict() for film in films]}
    write_json(request.out / RECORDS, tree)
    return films


def _paths(inputs: Sequence[StageInput], request: AnimateRequest) -> list[Path]:
    paths = [request.out / f"{each.name}.{request.format}" for each in inputs]
    taken = {each.source.resolve() for each in inputs if each.source is not None}
    for path in paths:
        if path.resolve() in taken:
            raise OutputError(
                f"{path}: is an input, and would be overwritten.", hint="Choose another --out."
            )
        if paths.count(path) > 1:
            raise OutputError(
                f"{path}: two inputs would get films of this name.",
                hint="Give them different names, or film them into different folders.",
            )
    return paths


def _film(each: StageInput, path: Path, request: AnimateRequest, job: Job) -> FilmRecord:
    stage = each.open()
    for note in stage.notes:
        logger.warning("%s: %s", each.name, note)
    levels = _levels(stage, request)
    channels = channels_of(stage, request.channels)
    cut = _cut(stage, request, levels[-1], job)
    plan = _Plan(stage, request, channels, levels, cut)
    frames = FORMATS[request.format](plan.frames(job), path, request.fps, plan.kept)
    notes = (*stage.notes, *plan.notes)
    plane = None if cut.axis is None else (cut.axis, cut.index)
    return FilmRecord(
        each.name, each.source, path, frames, plan.frame.size, steps_of(stage, request.steps),
        plane, plan.readings, notes,
    )  # fmt: skip


def _levels(stage: Stage, request: AnimateRequest) -> tuple[int, ...]:
    """Return the indices of the levels that are shown."""
    count = len(stage.levels)
    if request.level is None:
        return tuple(range(count))
    if not 1 <= request.level <= count:
        raise ConfigError(
            f"--level {request.level}: the model {request.model.spec.name} has "
            f"{f'the levels 1 to {count}' if count > 1 else 'one level'}.",
            hint="--level all shows all.",
        )
    return (request.level - 1,)


def channels_of(stage: Stage, wanted: Sequence[str]) -> tuple[str | int, ...]:
    """Return the panels beside the image: "labels", and numbers of channels.

    Raises:
        ConfigError: if there is no such channel, or there are too many.
    """
    found: list[str | int] = []
    count = len(stage.names)
    for word in wanted:
        if word == LABELS:
            found.append(LABELS)
        elif word in (HIDDEN, ALL):
            found += range(stage.fixed if word == HIDDEN else 0, count)
        elif word.isdecimal() and int(word) < count:
            found.append(int(word))
        else:
            raise ConfigError(
                f"--channels {word}: a channel is a number from 0 to {count - 1}; {HIDDEN}, {ALL} "
                f"and {LABELS} are sets of them.",
                hint="medseg-nca models describe says how many channels a model has.",
            )
    unique = tuple(dict.fromkeys(found))
    if not unique or len(unique) > MOST_PANELS:
        raise ConfigError(
            f"--channels: a film shows 1 to {MOST_PANELS} of them side by side, not {len(unique)}.",
            hint="Name the channels by their numbers.",
        )
    return unique


def _cut(stage: Stage, request: AnimateRequest, last: int, job: Job) -> Cut:
    """Return which plane of the voxels is shown; where nobody says, the automaton runs for it."""
    level = stage.levels[last]
    shape = [n * s for n, s in zip(level.size, level.scale, strict=True)]
    if stage.image is not None:
        shape = list(stage.image.shape[1:])
    if stage.dims == 2:
        if request.axis is not None or request.slice is not None:
            raise ConfigError(
                "--axis and --slice choose a slice of a volume; this image has two axes."
            )
        return Cut(None, 0, 2)
    axis, index = request.axis, request.slice
    if axis is not None and not 0 <= axis < 3:
        raise ConfigError(f"--axis {axis}: the axes of a volume are 0, 1 and 2.")
    if index is not None:
        axis = 2 if axis is None else axis
        if not 0 <= index < shape[axis]:
            raise ConfigError(
                f"--slice {index}: the prepared volume has the slices 0 to {shape[axis] - 1} along "
                f"axis {axis}."
            )
        return Cut(axis, index, 3)
    final = Moment(0, 0, 0, stage.start(0, None))
    for moment in walk(stage, request.seed, request.steps, last):
        job.check()
        final = moment
    mask = stage.found(final.level, final.state)
    if mask is None or not mask.any():
        axis = 2 if axis is None else axis
        return Cut(axis, shape[axis] // 2, 3)
    found = fullest_plane(mask)
    if axis is not None and found.axis != axis:
        counts = mask.sum(axis=tuple(a for a in range(3) if a != axis))
        found = Cut(axis, int(counts.argmax()), 3)
    assert found.axis is not None
    scale = stage.levels[final.level].scale[found.axis]
    return Cut(found.axis, min(found.index * scale + scale // 2, shape[found.axis] - 1), 3)


class _Plan:
    """Draws the frames of one film."""

    def __init__(
        self,
        stage: Stage,
        request: AnimateRequest,
        channels: Sequence[str | int],
        levels: Sequence[int],
        cut: Cut,
    ) -> None:
        self.stage, self.request, self.channels = stage, request, channels
        self.levels, self.cut = levels, cut
        self.picture = None if stage.image is None else to_colours(stage.image, cut)
        if self.picture is None:
            finest = stage.levels[-1]
            plane = tuple(finest.size[a] for a in cut.axes)
        else:
            plane = self.picture.shape[:2]
        self.size = (plane[0], plane[1])
        panels = len(channels) + (self.picture is not None)
        across, up = (stage.spacing[axis] if stage.spacing else 1.0 for axis in cut.axes)
        size = (plane[0] * across, plane[1] * up)
        self.frame = FilmFrame(size, panels, stage.dims, stage.legend)
        self.kept = (*KEPT, *(colour for _, colour in stage.legend[:64]))
        self.readings: dict[str, float] = {}
        total = sum(steps + 1 for steps in (steps_of(stage, request.steps)[n] for n in levels))
        self.chosen = set(
            np.linspace(0, total - 1, min(total, MOST_FRAMES)).round().astype(int).tolist()
        )
        self.total = total
        self.notes = (
            (f"{len(self.chosen)} of {total} states are shown, evenly spread.",)
            if total > len(self.chosen)
            else ()
        )

    def frames(self, job: Job) -> Iterator[Image.Image]:
        """Yield the frames as the automaton takes its steps."""
        stage, request = self.stage, self.request
        place, whole = -1, sum(steps + 1 for steps in steps_of(stage, request.steps))
        skipped: Moment | None = None
        for done, moment in enumerate(walk(stage, request.seed, request.steps, self.levels[-1])):
            job.report("filming", done, whole, unit="steps")
            if moment.level not in self.levels:
                continue
            place += 1
            skipped = None if place in self.chosen else moment
            if skipped is None:
                yield self._draw(moment, (place + 1) / self.total)
        if skipped is not None:  # the automaton stopped by itself, between two chosen states
            yield self._draw(skipped, 1.0)
        job.report("filming", whole, whole, unit="steps")

    def _draw(self, moment: Moment, done: float) -> Image.Image:
        stage, level = self.stage, self.stage.levels[moment.level]
        plane = plane_of(self.cut, level)
        panels = []
        if self.picture is not None:
            panels.append(Panel("image", self.picture, smooth=True))
        state = numbers(moment.state)
        for channel in self.channels:
            if isinstance(channel, int):
                panels.append(Panel(stage.names[channel], signed(plane.of(state[channel]))))
            else:
                below = self.picture if self.request.overlay else None
                panels.append(Panel(*answer(stage, moment, self.cut, self.size, below)))
        self.readings = dict(stage.readings(moment.level, moment.state))
        words = [f"step {moment.number} of {moment.steps}"]
        if len(stage.levels) > 1:
            cells = " x ".join(map(str, level.scale))
            words.insert(0, f"level {moment.level + 1} of {len(stage.levels)} ({cells})")
        words += [f"{name} {value:.3g}" for name, value in self.readings.items()]
        return self.frame.draw(panels, ", ".join(words), min(done, 1.0))


def answer(
    stage: Stage,
    moment: Moment,
    cut: Cut,
    size: tuple[int, int],
    below: NDArray[np.float32] | None,
) -> tuple[str, NDArray[np.float32]]:
    """Return title and pixels of what the cells answer, on the voxels of a cut."""
    level = stage.levels[moment.level]
    tint = stage.tint(moment.level, moment.state, plane_of(cut, level))
    factors = [level.scale[axis] for axis in cut.axes]
    title = "answer" if below is None else "answer on the image"
    return title, tint.enlarged(factors, size).over(below)
